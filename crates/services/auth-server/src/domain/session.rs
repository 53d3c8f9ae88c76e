//! How long a browser session lives (AS-17).

use chrono::{DateTime, Duration, Utc};

use crate::store::sessions::LoginSession;
use crate::store::users::User;

/// Without a visit a session ends after this.
pub(crate) const IDLE: Duration = Duration::hours(12);
/// A session ends after this in any case.
pub(crate) const ABSOLUTE: Duration = Duration::days(7);
/// `last_seen_at` is written at most this often.
pub(crate) const TOUCH_EVERY: Duration = Duration::minutes(1);

/// Tells whether a session still signs its person in.
pub(crate) fn is_alive(session: &LoginSession, user: &User, now: DateTime<Utc>) -> bool {
    session.user_id == user.id
        && session.user_epoch == user.epoch
        && !user.disabled
        && now < session.expires_at
        && now < session.last_seen_at + IDLE
}

#[cfg(test)]
mod tests {
    use portico_ids::{SessionId, UserId};
    use uuid::Uuid;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn person() -> (LoginSession, User) {
        let id = UserId::from(Uuid::from_u128(1));
        let session = LoginSession {
            id: SessionId::from(Uuid::from_u128(2)),
            token_hash: vec![],
            user_id: id,
            user_epoch: 1,
            user_agent: String::new(),
            address: String::new(),
            authenticated_at: at(0),
            last_seen_at: at(0),
            expires_at: at(0) + ABSOLUTE,
        };
        let user = User {
            id,
            username: "ada".into(),
            display_name: String::new(),
            email: String::new(),
            disabled: false,
            epoch: 1,
            revision: 1,
            created_at: at(0),
            updated_at: at(0),
        };
        (session, user)
    }

    #[test]
    fn as_17_a_session_has_an_idle_and_an_absolute_limit() {
        let (mut session, user) = person();
        assert!(is_alive(&session, &user, at(0) + IDLE - Duration::seconds(1)));
        assert!(!is_alive(&session, &user, at(0) + IDLE));
        session.last_seen_at = at(0) + ABSOLUTE - Duration::seconds(1);
        assert!(!is_alive(&session, &user, at(0) + ABSOLUTE));
    }

    #[test]
    fn a_session_ends_with_the_account_or_its_password() {
        let (session, user) = person();
        assert!(!is_alive(&session, &User { disabled: true, ..user.clone() }, at(1)));
        assert!(!is_alive(&session, &User { epoch: 2, ..user.clone() }, at(1)));
        assert!(!is_alive(&session, &User { id: UserId::from(Uuid::from_u128(9)), ..user }, at(1)));
    }
}
