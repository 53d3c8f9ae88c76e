//! Consumes events, discovers capabilities, probes health.
//!
//! This service is being written now by its own engineer.
//!
//! The worker keeps one actor per instance. An event, a resync or a timer wakes it; it looks at the newest
//! spec it knows, asks the server what it can do and whether it is well, and tells the registry what changed.
//! It owns nothing durable: whatever it missed, the next resync repairs.
#![expect(missing_docs, reason = "a service: its items are explained where they are not plain")]
