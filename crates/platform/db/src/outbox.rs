//! A change and the event that tells of it, in one transaction.

mod relay;

use chrono::{DateTime, Utc};

use crate::{Conn, StoreError, on_tx};

pub use relay::{Bell, Outlet, Relay};

/// An event to publish once the transaction is committed.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Where it is published.
    pub topic: &'a str,
    /// What it is about, for example the id of a record.
    pub key: &'a str,
    /// The event itself.
    pub payload: &'a [u8],
}

/// Appends an event within a transaction.
///
/// After [`revision::take`](crate::revision::take): the counter's lock makes the order of events the order of
/// commits. Ring the relay's [`Bell`] after the commit, or the event waits for the next poll.
pub async fn append<'c>(
    conn: impl Into<Conn<'c>>,
    event: &Event<'_>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO outbox (topic, key, payload, created_at) VALUES ($1, $2, $3, $4)";
    let Event { topic, key, payload } = *event;
    let conn: Conn<'c> = conn.into();
    on_tx!(conn, conn => {
        sqlx::query(SQL).bind(topic).bind(key).bind(payload).bind(now).execute(conn).await?;
    });
    Ok(())
}

#[cfg(test)]
mod tests;
