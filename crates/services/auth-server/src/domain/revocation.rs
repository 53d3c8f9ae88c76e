//! When tokens issued before a change stop working.

use chrono::{DateTime, Duration, SubsecRound as _, Utc};

/// How far ahead `not_before` may be: verifiers allow this much in `iat`.
const AHEAD: Duration = Duration::seconds(45);

/// Returns from when on tokens of a principal count again: after this second, because `iat` has no fractions (RFC 7519
/// §2) and a token issued within it may be older than the change; and after the next one, because who reads while
/// the change is being committed does not see it.
pub(crate) fn not_before(now: DateTime<Utc>) -> DateTime<Utc> {
    now.trunc_subsecs(0) + Duration::seconds(2)
}

/// Returns `wanted`, or the second after an earlier change that reaches as far: tokens made between the two changes
/// carry the moment of the earlier one. Dozens of changes within a second share the last moment.
pub(crate) fn not_before_again(
    wanted: DateTime<Utc>,
    earlier: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let next = earlier.map_or(wanted, |earlier| (earlier + Duration::seconds(1)).min(now + AHEAD));
    wanted.max(next.trunc_subsecs(0))
}

/// Returns the `iat` of a token made now: never before the principal's revocation, so that a token made right after
/// a change is not taken for one made before it. The difference is two seconds as a rule, within every leeway.
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
        assert!(newer - at(700).timestamp() <= 2);
    }

    #[test]
    fn a_second_change_within_the_second_revokes_what_was_made_since_the_first() {
        let first = not_before(at(100));
        let between = issued_at(at(200), Some(first));
        let second = not_before_again(not_before(at(300)), Some(first), at(300));
        assert!(between < second.timestamp());
        assert_eq!(not_before_again(not_before(at(9_000)), Some(first), at(9_000)), at(11_000));
        let far = (0..100).fold(first, |last, _| not_before_again(first, Some(last), at(300)));
        assert!(far <= at(300) + AHEAD);
    }

    #[test]
    fn rs_27_a_token_made_while_the_change_is_being_committed_is_revoked() {
        let changed = not_before(at(999));
        assert!(issued_at(at(1_900), None) < changed.timestamp());
    }

    #[test]
    fn later_tokens_carry_their_own_time() {
        assert_eq!(issued_at(at(9_000), Some(at(1_000))), at(9_000).timestamp());
        assert_eq!(not_before(at(2_000)), at(4_000));
    }
}
