//! Up to when records are old enough to be removed.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{Db, StoreError, on_db, scalar};

/// How far a replica's clock may be from the database's.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(2);

/// Returns the moment that is `kept` ago, by whichever clock is behind. `None`: this replica's clock and the database's
/// contradict each other, so that nothing should be removed, which cannot be undone.
pub async fn removable_before(
    db: &Db,
    now: DateTime<Utc>,
    kept: TimeDelta,
) -> Result<Option<DateTime<Utc>>, StoreError> {
    const SQL: &str = "SELECT CURRENT_TIMESTAMP";
    let theirs: DateTime<Utc> = on_db!(db, pool => sqlx::query(SQL).try_map(scalar).fetch_one(pool).await?);
    if (now - theirs).abs() > CLOCKS_APART {
        tracing::error!(
            clock.here = %now,
            clock.database = %theirs,
            "no old records are removed: this host's clock and the database's differ, set the wrong one right"
        );
        return Ok(None);
    }
    Ok(Some(now.min(theirs) - kept))
}

#[cfg(test)]
mod tests {
    use portico_clock::{Clock as _, SystemClock};

    use super::*;
    use crate::testing::{databases, schema_with};

    #[tokio::test]
    async fn s3_64_a_clock_that_contradicts_the_database_removes_nothing() {
        for (label, db, _guard) in databases(&schema_with("", "")).await {
            let now = SystemClock.now();
            let kept = TimeDelta::days(90);
            let before = removable_before(&db, now, kept).await.unwrap().unwrap();
            assert!((now - kept - before).abs() < TimeDelta::minutes(1), "{label}: {before}");
            let ahead = removable_before(&db, now + TimeDelta::minutes(1), kept).await.unwrap().unwrap();
            assert!(ahead <= SystemClock.now() - kept, "{label}: the clock that is behind counts");
            for wrong in [now + TimeDelta::days(365), now - TimeDelta::minutes(5)] {
                assert_eq!(removable_before(&db, wrong, kept).await.unwrap(), None, "{label}: {wrong}");
            }
        }
    }
}
