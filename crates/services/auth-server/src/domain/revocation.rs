//! When tokens issued before a change stop working.

use chrono::{DateTime, Duration, SubsecRound as _, Utc};

/// Returns from when on tokens of a principal count again: the next whole second, because `iat` has no fractions
/// (RFC 7519 §2) and a token issued within this second may be older than the change.
pub(crate) fn not_before(now: DateTime<Utc>) -> DateTime<Utc> {
    let floor = now.trunc_subsecs(0);
    if floor == now { now } else { floor + Duration::seconds(1) }
}

/// Returns the `iat` of a token made now: never before the principal's revocation, so that a token made right after
/// a change is not taken for one made before it. The difference is under a second, within every leeway.
pub(crate) fn issued_at(now: DateTime<Utc>, revoked_before: Option<DateTime<Utc>>) -> i64 {
    let now = now.timestamp();
    revoked_before.map_or(now, |moment| now.max(moment.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + millis).unwrap()
    }

    #[test]
    fn a_token_of_the_same_second_before_the_change_is_revoked_and_one_after_it_is_not() {
        let change = at(500);
        let revoked_before = not_before(change);
        let older = issued_at(at(200), None);
        let newer = issued_at(at(700), Some(revoked_before));
        assert!(older < revoked_before.timestamp());
        assert!(newer >= revoked_before.timestamp());
        assert!(newer - at(700).timestamp() <= 1);
    }

    #[test]
    fn later_tokens_carry_their_own_time() {
        assert_eq!(issued_at(at(9_000), Some(at(1_000))), at(9_000).timestamp());
        assert_eq!(not_before(at(2_000)), at(2_000));
    }
}
