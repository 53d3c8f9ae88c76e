/// What a caller of a shared capability can run into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinationError {
    /// The thing that would take the value has no room; try again after its reader has caught up.
    #[error("{what} is full: its reader is behind by {capacity} entries; retry once it has caught up")]
    Full {
        /// What is full, for example `topic registry.events`.
        what: String,
        /// How many entries it holds.
        capacity: usize,
    },
    /// Nobody reads the mailbox: its owner has gone or never existed.
    #[error("nobody receives at mailbox `{0}`: its owner is gone")]
    NoReceiver(String),
    /// The value is larger than any that is kept.
    #[error("a value of {length} bytes is too large to share: the limit is {limit}")]
    TooLarge {
        /// The value's bytes.
        length: usize,
        /// The most that are kept.
        limit: usize,
    },
    /// Redis did not answer in time or could not do it; whether it was done is unknown. Try again later.
    #[error("Redis did not complete `{operation}`: {reason}; retry later")]
    Unavailable {
        /// What was to be done, for example `put`.
        operation: &'static str,
        /// Why it was not, for operators.
        reason: String,
    },
}
