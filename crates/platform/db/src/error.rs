use sqlx::error::ErrorKind;

/// What a caller of a store can run into; a driver's message stays in the source and never reaches a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another record has the same name or id.
    #[error("a record with this name or id already exists")]
    AlreadyExists,
    /// The record was changed since the caller read it.
    #[error("the record was changed meanwhile; read it again: its revision is now {current}")]
    Stale {
        /// The record's revision now.
        current: i64,
    },
    /// There is no such record.
    #[error("no such record")]
    NotFound,
    /// A record that this one points to is missing, or others still point to this one.
    #[error("a record that this one refers to is missing, or this one is still in use")]
    Referenced,
    /// The same request id came with another request.
    #[error("this request id was used for another request; use a new one")]
    RequestIdReused,
    /// A value was sealed with a key that a rotation has closed: this replica reads the key ring too late.
    #[error(
        "this replica still seals with the key {key}, which was replaced: see that it reads the newest key ring (its log \
         says why it does not), or ask another replica"
    )]
    RingBehind {
        /// The closed key.
        key: String,
    },
    /// Other writers were in the way for longer than the database waits; the same transaction may work now.
    #[error("the database is busy; try again")]
    Busy(#[source] sqlx::Error),
    /// The database cannot be reached now.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// A statement failed, or a row does not hold what the code expects.
    #[error("database error")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::RowNotFound => Self::NotFound,
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::Database(reported) => match reported.kind() {
                ErrorKind::UniqueViolation => Self::AlreadyExists,
                ErrorKind::ForeignKeyViolation => Self::Referenced,
                _ => match reported.code().as_deref() {
                    Some(code) if is_busy(code) => Self::Busy(error),
                    Some(code) if is_unavailable(code) => Self::Unavailable(error),
                    _ => Self::Database(error),
                },
            },
            _ => Self::Database(error),
        }
    }
}

/// SQLite: `SQLITE_BUSY`, `SQLITE_LOCKED` and their extended codes. Postgres: serialization failure, deadlock,
/// lock not available, statement timeout (PostgreSQL Appendix A).
fn is_busy(code: &str) -> bool {
    matches!(code, "5" | "6" | "261" | "262" | "517" | "773" | "40001" | "40P01" | "55P03" | "57014")
}

/// Postgres: connection exceptions (class 08), too many connections, shutting or starting up.
pub(crate) fn is_unavailable(code: &str) -> bool {
    // SQLite's codes are decimal numbers of at most four digits; Postgres' always have five characters.
    code.len() == 5 && (code.starts_with("08") || matches!(code, "53300" | "57P01" | "57P02" | "57P03"))
}
