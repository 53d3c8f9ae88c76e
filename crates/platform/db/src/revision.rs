//! The one counter that orders a service's changes.
//!
//! Taking the next value locks the counter's row until the transaction ends, so revisions become visible in
//! their own order and a reader who has seen one has seen all before it. For the same reason it comes as late in
//! a transaction as possible: every other writer waits for it.

use crate::{Conn, Db, StoreError, on_db, on_tx, scalar};

/// Takes the next revision; the transaction should have little left to do.
pub async fn take<'c>(conn: impl Into<Conn<'c>>) -> Result<i64, StoreError> {
    const SQL: &str = "UPDATE revision SET value = value + 1 WHERE id = 1 RETURNING value";
    let conn: Conn<'c> = conn.into();
    Ok(on_tx!(conn, conn => sqlx::query(SQL).try_map(scalar).fetch_one(conn).await?))
}

/// Returns the revision of the last committed change; 0 before the first.
pub async fn current(db: &Db) -> Result<i64, StoreError> {
    const SQL: &str = "SELECT value FROM revision WHERE id = 1";
    Ok(on_db!(db, pool => sqlx::query(SQL).try_map(scalar).fetch_one(pool).await?))
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::testing::{databases, schema_with};

    #[tokio::test]
    async fn revisions_have_no_gap_and_no_repetition_under_contention() {
        for (label, db, _guard) in databases(&schema_with("", "")).await {
            let mut writers = JoinSet::new();
            for _ in 0..8 {
                let db = db.clone();
                writers.spawn(async move {
                    let mut tx = db.begin_write().await.unwrap();
                    let revision = take(&mut tx).await.unwrap();
                    tx.commit().await.unwrap();
                    revision
                });
            }
            let mut taken = writers.join_all().await;
            taken.sort_unstable();
            assert_eq!(taken, (1..=8).collect::<Vec<i64>>(), "{label}");
            assert_eq!(current(&db).await.unwrap(), 8, "{label}");
        }
    }

    #[tokio::test]
    async fn an_undone_transaction_gives_its_revision_back() {
        for (label, db, _guard) in databases(&schema_with("", "")).await {
            let mut tx = db.begin_write().await.unwrap();
            assert_eq!(take(&mut tx).await.unwrap(), 1, "{label}");
            drop(tx);
            let mut tx = db.begin_write().await.unwrap();
            assert_eq!(take(&mut tx).await.unwrap(), 1, "{label}");
            tx.commit().await.unwrap();
        }
    }
}
