//! Decisions with reasons, by Cedar policies.
