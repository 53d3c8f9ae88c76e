//! Envelope encryption of secrets at rest and of handles that callers carry.
