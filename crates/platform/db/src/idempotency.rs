//! Answering a repeated request as the first one was answered.
//!
//! Inside the transaction of a create: [`begin`] claims the request id or returns the earlier answer, the
//! create happens, [`finish`] keeps its answer. A second request with the same id waits for the first one's
//! transaction; if that is undone, the claim is undone with it.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{Conn, Db, FromRow, Row, StoreError, on_db, on_tx, read};

/// How long an answer is remembered.
pub const REMEMBERED: TimeDelta = TimeDelta::hours(24);

/// One request that may come again.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method and caller, so that nobody gets another caller's answer: `CreateServer user:0190…`.
    pub scope: &'a str,
    /// The id that the caller chose.
    pub request_id: &'a str,
    /// A digest of the request without its id, to tell a repetition from a mistake.
    pub digest: &'a [u8],
}

struct Claim {
    digest: Vec<u8>,
    answer: Option<Vec<u8>>,
}

impl FromRow for Claim {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        Ok(Self { digest: row.get("digest")?, answer: row.get("answer")? })
    }
}

/// Claims the request id (then returns nothing) or returns the answer of the first request with it.
pub async fn begin<'c>(
    conn: impl Into<Conn<'c>>,
    request: &Request<'_>,
    now: DateTime<Utc>,
) -> Result<Option<Vec<u8>>, StoreError> {
    const FORGET: &str = "DELETE FROM idempotency WHERE scope = $1 AND request_id = $2 AND created_at < $3";
    const CLAIM: &str = "INSERT INTO idempotency (scope, request_id, digest, created_at) VALUES ($1, $2, $3, $4) \
                         ON CONFLICT (scope, request_id) DO NOTHING";
    const EARLIER: &str = "SELECT digest, answer FROM idempotency WHERE scope = $1 AND request_id = $2";
    let Request { scope, request_id, digest } = *request;
    let conn: Conn<'c> = conn.into();
    let earlier: Claim = on_tx!(conn, conn => {
        sqlx::query(FORGET).bind(scope).bind(request_id).bind(now - REMEMBERED).execute(&mut *conn).await?;
        let claimed =
            sqlx::query(CLAIM).bind(scope).bind(request_id).bind(digest).bind(now).execute(&mut *conn).await?;
        if claimed.rows_affected() == 1 {
            return Ok(None);
        }
        sqlx::query(EARLIER).bind(scope).bind(request_id).try_map(read).fetch_one(conn).await?
    });
    if earlier.digest != digest {
        return Err(StoreError::RequestIdReused);
    }
    Ok(Some(earlier.answer.unwrap_or_default()))
}

/// Keeps the answer for repetitions; in the transaction that [`begin`] claimed the id in.
pub async fn finish<'c>(
    conn: impl Into<Conn<'c>>,
    request: &Request<'_>,
    answer: &[u8],
) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE idempotency SET answer = $3 WHERE scope = $1 AND request_id = $2";
    let conn: Conn<'c> = conn.into();
    on_tx!(conn, conn => {
        sqlx::query(SQL).bind(request.scope).bind(request.request_id).bind(answer).execute(conn).await?;
    });
    Ok(())
}

/// Forgets what is too old and returns how many answers that were.
pub async fn prune(db: &Db, now: DateTime<Utc>) -> Result<u64, StoreError> {
    const SQL: &str = "DELETE FROM idempotency WHERE created_at < $1";
    Ok(on_db!(db, pool => sqlx::query(SQL).bind(now - REMEMBERED).execute(pool).await?.rows_affected()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{databases, schema_with};

    const FIRST: Request<'_> = Request { scope: "Create user:1", request_id: "r1", digest: b"body" };

    async fn create(
        db: &Db,
        request: &Request<'_>,
        now: DateTime<Utc>,
    ) -> Result<(Vec<u8>, bool), StoreError> {
        let mut tx = db.begin_write().await?;
        if let Some(answer) = begin(&mut tx, request, now).await? {
            return Ok((answer, false));
        }
        let answer = format!("made at {now}").into_bytes();
        finish(&mut tx, request, &answer).await?;
        tx.commit().await?;
        Ok((answer, true))
    }

    #[tokio::test]
    async fn a_repeated_request_gets_the_first_answer_for_a_day() {
        let now = DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
        for (label, db, _guard) in databases(&schema_with("", "")).await {
            let (first, made) = create(&db, &FIRST, now).await.unwrap();
            assert!(made, "{label}");
            let later = now + TimeDelta::hours(23);
            assert_eq!(create(&db, &FIRST, later).await.unwrap(), (first, false), "{label}");
            let other_caller = Request { scope: "Create user:2", ..FIRST };
            assert!(create(&db, &other_caller, now).await.unwrap().1, "{label}");
            let other_body = Request { digest: b"another", ..FIRST };
            let refused = create(&db, &other_body, now).await.unwrap_err();
            assert!(matches!(refused, StoreError::RequestIdReused), "{label}");
            let next_day = now + TimeDelta::hours(25);
            assert!(create(&db, &FIRST, next_day).await.unwrap().1, "{label}");
            assert_eq!(prune(&db, next_day).await.unwrap(), 1, "{label}: the other caller's");
        }
    }

    #[tokio::test]
    async fn of_simultaneous_repetitions_one_creates_and_all_get_its_answer() {
        let now = DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
        for (label, db, _guard) in databases(&schema_with("", "")).await {
            let mut racers = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let db = db.clone();
                racers.spawn(async move { create(&db, &FIRST, now).await.unwrap() });
            }
            let answers = racers.join_all().await;
            assert_eq!(answers.iter().filter(|(_, made)| *made).count(), 1, "{label}");
            assert!(answers.iter().all(|(answer, _)| *answer == answers[0].0), "{label}");
        }
    }
}
