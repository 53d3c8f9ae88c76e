//! Consumes events, discovers capabilities, probes health.
