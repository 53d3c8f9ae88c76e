//! Logs, metrics, traces and trace-context propagation.
