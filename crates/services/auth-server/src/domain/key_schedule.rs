//! When a signing key signs and how long it stays published.

use chrono::{DateTime, Duration, Utc};

/// A new key is published for this long before it signs, so that every verifier knows it by then.
pub(crate) const PUBLISH_AHEAD: Duration = Duration::seconds(30);
/// A key is replaced at this age.
pub(crate) const ROTATE_AFTER: Duration = Duration::days(30);
/// Verifiers allow this much clock difference (architecture §9).
pub(crate) const LEEWAY: Duration = Duration::seconds(60);

/// The moments of one key.
#[expect(clippy::struct_field_names, reason = "moments end in _at everywhere")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyTimes {
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) activates_at: DateTime<Utc>,
    pub(crate) retires_at: Option<DateTime<Utc>>,
}

impl KeyTimes {
    /// Tells whether verifiers must know the key.
    pub(crate) fn is_published(&self, now: DateTime<Utc>) -> bool {
        self.retires_at.is_none_or(|at| now < at)
    }
}

/// Picks the key that signs: the newest that is active; before the very first is active, the oldest.
pub(crate) fn signing(keys: &[KeyTimes], now: DateTime<Utc>) -> Option<usize> {
    let published = || keys.iter().enumerate().filter(|(_, key)| key.is_published(now));
    published()
        .filter(|(_, key)| key.activates_at <= now)
        .max_by_key(|(_, key)| (key.activates_at, key.created_at))
        .or_else(|| published().min_by_key(|(_, key)| key.activates_at))
        .map(|(index, _)| index)
}

/// When a key made now may sign: at once if it is the first.
pub(crate) fn activates_at(now: DateTime<Utc>, first: bool) -> DateTime<Utc> {
    if first { now } else { now + PUBLISH_AHEAD }
}

/// When the key before one that activates at `successor` leaves: when the last token that it signed has expired.
pub(crate) fn retires_at(successor: DateTime<Utc>, token_lifetime: Duration) -> DateTime<Utc> {
    successor + token_lifetime + LEEWAY * 2
}

/// Tells whether it is time for a successor of the newest key.
pub(crate) fn is_due(newest: &KeyTimes, now: DateTime<Utc>) -> bool {
    now >= newest.created_at + ROTATE_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn the_new_key_is_published_before_it_signs_and_the_old_one_after() {
        let lifetime = Duration::minutes(10);
        let activates = activates_at(at(100), false);
        let old = KeyTimes {
            created_at: at(0),
            activates_at: at(0),
            retires_at: Some(retires_at(activates, lifetime)),
        };
        let new = KeyTimes { created_at: at(100), activates_at: activates, retires_at: None };
        let keys = [old, new];
        assert_eq!(signing(&keys, at(100)), Some(0), "verifiers may not know the new one yet");
        assert_eq!(signing(&keys, activates), Some(1));
        let last_signed_by_old = activates - Duration::seconds(1);
        assert!(old.is_published(last_signed_by_old + lifetime + LEEWAY));
        assert!(!old.is_published(activates + lifetime + LEEWAY * 2));
        assert_eq!(signing(&keys, activates + Duration::days(1)), Some(1));
    }

    #[test]
    fn the_first_key_signs_at_once() {
        let first = KeyTimes { created_at: at(0), activates_at: activates_at(at(0), true), retires_at: None };
        assert_eq!(signing(&[first], at(0)), Some(0));
        assert_eq!(signing(&[], at(0)), None);
        assert!(!is_due(&first, at(0)) && is_due(&first, at(0) + ROTATE_AFTER));
    }
}
