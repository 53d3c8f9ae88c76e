//! Boot order, readiness, tracked tasks and two-stage shutdown.
