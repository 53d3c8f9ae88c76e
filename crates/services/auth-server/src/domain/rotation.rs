//! What a presented refresh token is worth (AS-21, AS-22).

use chrono::{DateTime, Duration, Utc};

use crate::store::families::{Family, RefreshToken};

/// A family without `offline_access` dies when it was not used for this long.
pub(crate) const IDLE: Duration = Duration::days(30);
/// Every family dies at this age.
pub(crate) const ABSOLUTE: Duration = Duration::days(180);

/// What to do with a presented refresh token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Unused: rotate it.
    Rotate,
    /// Used moments ago, by a client that raced itself or lost the answer: give the same successor again.
    Repeat,
    /// Used before and presented again: somebody else has it. The family must die.
    Reused,
    /// Expired, revoked, or of an account that has changed since: nothing more to do.
    Dead,
}

/// Judges a token of `family`, whose person is now at `user_epoch` (`None`: disabled or gone).
/// `successor_used` tells whether the token that replaced this one was used already.
pub(crate) fn judge(
    token: &RefreshToken,
    family: &Family,
    user_epoch: Option<i64>,
    successor_used: bool,
    now: DateTime<Utc>,
) -> Verdict {
    let idle = !family.offline && now >= family.last_used_at + IDLE;
    if family.revoked_at.is_some()
        || now >= family.expires_at
        || idle
        || user_epoch != Some(family.user_epoch)
    {
        return Verdict::Dead;
    }
    match (token.used_at, token.grace_until) {
        (None, _) => Verdict::Rotate,
        (Some(_), Some(until)) if now < until && !successor_used && token.successor_sealed.is_some() => {
            Verdict::Repeat
        }
        _ => Verdict::Reused,
    }
}

#[cfg(test)]
mod tests {
    use portico_ids::{SessionId, UserId};
    use portico_oauth_types::Scope;
    use uuid::Uuid;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn family() -> Family {
        Family {
            id: Uuid::from_u128(1),
            client_id: "c".into(),
            user_id: UserId::from(Uuid::from_u128(2)),
            user_epoch: 3,
            session_id: SessionId::from(Uuid::from_u128(4)),
            issuer: String::new(),
            resource: "https://portico.example/mcp".into(),
            scopes: Scope::Mcp.into(),
            offline: false,
            authenticated_at: at(0),
            created_at: at(0),
            last_used_at: at(0),
            expires_at: at(0) + ABSOLUTE,
            revoked_at: None,
        }
    }

    fn unused() -> RefreshToken {
        RefreshToken {
            token_hash: vec![1],
            family_id: Uuid::from_u128(1),
            used_at: None,
            grace_until: None,
            successor_hash: None,
            successor_sealed: None,
        }
    }

    fn used() -> RefreshToken {
        RefreshToken {
            used_at: Some(at(0)),
            grace_until: Some(at(30)),
            successor_hash: Some(vec![2]),
            successor_sealed: Some(vec![3]),
            ..unused()
        }
    }

    #[test]
    fn as_21_an_unused_token_rotates() {
        assert_eq!(judge(&unused(), &family(), Some(3), false, at(1)), Verdict::Rotate);
    }

    #[test]
    fn as_21_within_the_grace_the_same_successor_is_given_again() {
        assert_eq!(judge(&used(), &family(), Some(3), false, at(29)), Verdict::Repeat);
    }

    #[test]
    fn as_21_after_the_grace_or_after_the_successor_was_used_it_is_reuse() {
        assert_eq!(judge(&used(), &family(), Some(3), false, at(30)), Verdict::Reused);
        assert_eq!(judge(&used(), &family(), Some(3), true, at(1)), Verdict::Reused);
        let scrubbed = RefreshToken { successor_sealed: None, ..used() };
        assert_eq!(judge(&scrubbed, &family(), Some(3), false, at(1)), Verdict::Reused);
    }

    #[test]
    fn as_22_idle_absolute_and_epoch_end_a_family() {
        let dead = |family: &Family, epoch, now| {
            assert_eq!(judge(&unused(), family, epoch, false, now), Verdict::Dead);
        };
        dead(&family(), Some(3), at(0) + IDLE);
        dead(&Family { last_used_at: at(0) + ABSOLUTE, ..family() }, Some(3), at(0) + ABSOLUTE);
        dead(&family(), Some(4), at(1));
        dead(&family(), None, at(1));
        dead(&Family { revoked_at: Some(at(0)), ..family() }, Some(3), at(1));
    }

    #[test]
    fn as_22_offline_families_have_no_idle_limit_but_the_absolute_one() {
        let offline = Family { offline: true, ..family() };
        assert_eq!(judge(&unused(), &offline, Some(3), false, at(0) + IDLE), Verdict::Rotate);
        assert_eq!(judge(&unused(), &offline, Some(3), false, at(0) + ABSOLUTE), Verdict::Dead);
    }
}
