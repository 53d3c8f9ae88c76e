//! Somebody can always administer: the last enabled person who is an administrator stays one.

use portico_db::{Conn, StoreError, on_tx};
use portico_ids::{PrincipalId, RoleId, UserId};

use crate::domain::builtin::{ADMINISTRATOR, ROLES};
use crate::domain::entitlement::EVERYWHERE;

/// Why somebody's account or role was not taken away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemovalError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("nobody else is an administrator")]
    LastAdministrator,
}

impl From<sqlx::Error> for RemovalError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Tells whether a role is the one of the superuser.
pub(crate) fn is_administrator(id: RoleId) -> bool {
    ROLES.iter().any(|role| role.name == ADMINISTRATOR && role.id() == id)
}

/// Refuses to take the administrator's role away from the only enabled person who has it. Called in a transaction that
/// has taken the revision, so that nobody else is taken away at the same time.
pub(super) async fn keep_one(mut conn: Conn<'_>, leaving: UserId) -> Result<(), RemovalError> {
    const HOLDERS: &str = "SELECT principal FROM grants WHERE role_id = $1 AND endpoint = $2";
    const ENABLED: &str = "SELECT COUNT(*) FROM users WHERE id = $1 AND disabled = FALSE";
    let Some(role) = ROLES.iter().find(|role| role.name == ADMINISTRATOR) else { return Ok(()) };
    let holders: Vec<String> = on_tx!(conn.reborrow(), conn => sqlx::query_scalar(HOLDERS)
        .bind(role.id().as_uuid()).bind(EVERYWHERE).fetch_all(conn).await?);
    let (mut leaves, mut remains) = (false, false);
    for holder in holders {
        let Ok(PrincipalId::User(user)) = holder.parse() else { continue };
        let enabled: i64 = on_tx!(conn.reborrow(), conn => sqlx::query_scalar(ENABLED)
            .bind(user.as_uuid()).fetch_one(conn).await?);
        if enabled > 0 && user == leaving {
            leaves = true;
        } else if enabled > 0 {
            remains = true;
        }
    }
    if leaves && !remains { Err(RemovalError::LastAdministrator) } else { Ok(()) }
}
