//! Waiting for a database that is still starting.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Db, DbSettings, OpenError, Schema};

/// How long to wait for a database, and how often to try.
#[derive(Clone, Debug)]
pub struct Wait {
    /// The pause after the first failure; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// When to give up.
    pub limit: Duration,
}

impl Default for Wait {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(5),
            limit: Duration::from_mins(1),
        }
    }
}

/// Why waiting for a database ended without one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It did not answer in time.
    #[error(
        "the database did not answer within {limit:?} ({attempts} attempts); start it or correct its URL"
    )]
    GaveUp {
        /// How long was waited.
        limit: Duration,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt ran into.
        #[source]
        last: OpenError,
    },
    /// Waiting does not help.
    #[error(transparent)]
    Open(OpenError),
}

/// Opens the database, trying again while it cannot be reached, until the limit.
pub async fn wait_for_database(settings: &DbSettings, schema: &Schema, wait: &Wait) -> Result<Db, WaitError> {
    retry(wait, || Db::open(settings, schema)).await
}

async fn retry<T, F>(wait: &Wait, mut open: impl FnMut() -> F) -> Result<T, WaitError>
where
    F: Future<Output = Result<T, OpenError>>,
{
    let give_up_at = Instant::now() + wait.limit;
    let mut pause = wait.first_pause;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let last = match open().await {
            Ok(opened) => return Ok(opened),
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(WaitError::Open(error)),
        };
        if Instant::now() + pause > give_up_at {
            return Err(WaitError::GaveUp { limit: wait.limit, attempts, last });
        }
        tracing::info!(db.attempts = attempts, db.pause = ?pause, "database does not answer yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(wait.longest_pause);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn unreachable() -> OpenError {
        OpenError::Unreachable(sqlx::Error::PoolTimedOut)
    }

    #[tokio::test(start_paused = true)]
    async fn s0_20_a_database_that_comes_up_late_is_opened() {
        let tries = Cell::new(0);
        let opened = retry(&Wait::default(), || {
            tries.set(tries.get() + 1);
            let up = tries.get() == 5;
            async move { if up { Ok("db") } else { Err(unreachable()) } }
        })
        .await;
        assert_eq!(opened.unwrap(), "db");
        assert_eq!(tries.get(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn s0_20_waiting_ends_at_the_limit_with_the_reason() {
        let start = Instant::now();
        let error = retry(&Wait::default(), || async { Err::<(), _>(unreachable()) }).await.unwrap_err();
        assert!(start.elapsed() <= Wait::default().limit);
        assert!(matches!(
            error,
            WaitError::GaveUp { attempts: 10..=30, last: OpenError::Unreachable(_), .. }
        ));
        assert!(error.to_string().contains("did not answer within 60s"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn s0_20_a_wrong_password_is_not_retried() {
        let start = Instant::now();
        let refused = || async { Err::<(), _>(OpenError::Refused(sqlx::Error::PoolClosed)) };
        let error = retry(&Wait::default(), refused).await.unwrap_err();
        assert!(matches!(error, WaitError::Open(OpenError::Refused(_))));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
