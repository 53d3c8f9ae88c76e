//! Everything that can go wrong in a gRPC call, and the one table of what callers are told.

use std::collections::HashMap;

use portico_db::StoreError;
use portico_oauth_types::{OAuthError, Scope};
use portico_transport::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::domain::names::InvalidName;
use crate::passwords::PasswordError;
use crate::signing_keys::KeyError;
use crate::store::administrators::RemovalError;

/// How many problems of a policy text an error lists; the rest is counted.
const LISTED_PROBLEMS: usize = 10;

/// Why a call was refused or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RpcError {
    #[error("{field} {problem}")]
    InvalidField { field: &'static str, problem: String },
    #[error("{field}: {problem}")]
    InvalidName { field: &'static str, problem: InvalidName },
    #[error("password: {0}")]
    InvalidPassword(PasswordError),
    #[error("{}", listed(.problems))]
    InvalidRole { field: &'static str, problems: Vec<String> },
    #[error(transparent)]
    ClientMetadata(OAuthError),
    #[error("expected_revision is missing: get the {kind} and send its revision back")]
    RevisionMissing { kind: &'static str },
    #[error("the page token is not one of this list; start again without a token")]
    PageToken,
    #[error("there is no {kind} with this id or name")]
    NotFound { kind: &'static str },
    #[error(
        "there is no user and no service account {name:?}; create one, or give user:ID or service-account:ID"
    )]
    UnknownPrincipal { name: String },
    #[error("a user and a service account are both named {name:?}; give user:ID or service-account:ID")]
    AmbiguousPrincipal { name: String },
    #[error("there is no role {name:?}; list the roles for their names")]
    UnknownRole { name: String },
    #[error("there is no endpoint {name:?}; publish it first, or give * for all")]
    UnknownEndpoint { name: String },
    #[error("a {kind} named {name} exists already; choose another name")]
    NameTaken { kind: &'static str, name: String },
    #[error("{principal} has this role there already")]
    GrantExists { principal: String },
    #[error("the {kind} was changed meanwhile; get it again, its revision is now {current}")]
    Stale { kind: &'static str, current: i64 },
    #[error("request_id was used for another request; use a new one")]
    RequestIdReused,
    #[error("the role {name} comes with Portico and stays as it is; create a role of your own instead")]
    BuiltinRole { name: String },
    #[error("the client {client_id} comes with Portico and cannot be deleted")]
    BuiltinClient { client_id: String },
    #[error("this would leave nobody who can administer Portico; make somebody else an administrator first")]
    LastAdministrator,
    #[error("{count} signing keys are published already; wait until the oldest have retired")]
    TooManyKeys { count: usize },
    #[error("this replica seals with the key {sealing}; try again once it has read the key ring again")]
    SealingKeyDiffers { sealing: String },
    #[error(transparent)]
    RingBehind(StoreError),
    #[error("your token lacks the scope {scope}; sign in again and ask for it")]
    ScopeMissing { scope: Scope },
    #[error("you may not do this ({policy}); ask an administrator for a role that allows {action}")]
    Denied { action: &'static str, policy: String },
    #[error("the role {role} allows more than your own roles do; ask an administrator to do this")]
    Escalation { role: String },
    #[error("only services of this deployment may call this")]
    InternalOnly,
    #[error("this is for people and service accounts, not for services")]
    PrincipalsOnly,
    #[error("too many passwords are being processed at once; try again in a moment")]
    Busy,
    #[error("the auth-server cannot reach its database; try again")]
    Unavailable(#[source] StoreError),
    #[error("the auth-server failed; the correlation id tells its operator where to look")]
    Store(#[source] StoreError),
    #[error("the auth-server failed; the correlation id tells its operator where to look")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn listed(problems: &[String]) -> String {
    let text = problems.iter().take(LISTED_PROBLEMS).cloned().collect::<Vec<_>>().join("; ");
    match problems.len().saturating_sub(LISTED_PROBLEMS) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}

impl RpcError {
    pub(super) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::InvalidField { field, problem: problem.into() }
    }

    /// Names what could not be stored: a taken name or a stale revision means something to the caller.
    pub(super) fn storing(kind: &'static str, name: &str, error: StoreError) -> Self {
        match error {
            StoreError::AlreadyExists => Self::NameTaken { kind, name: name.to_owned() },
            StoreError::Stale { current } => Self::Stale { kind, current },
            StoreError::NotFound => Self::NotFound { kind },
            other => other.into(),
        }
    }

    /// The same for what can leave nobody in charge.
    pub(super) fn removing(kind: &'static str, error: RemovalError) -> Self {
        match error {
            RemovalError::LastAdministrator => Self::LastAdministrator,
            RemovalError::Store(error) => Self::storing(kind, "", error),
        }
    }

    /// The table: what each error is on the wire. Reasons are stable; messages are not.
    const fn wire(&self) -> (Code, &'static str) {
        match self {
            Self::InvalidField { .. } => (Code::InvalidArgument, "invalid_field"),
            Self::InvalidName { .. } => (Code::InvalidArgument, "invalid_name"),
            Self::InvalidPassword(_) => (Code::InvalidArgument, "invalid_password"),
            Self::InvalidRole { .. } => (Code::InvalidArgument, "invalid_policies"),
            Self::ClientMetadata(error) => (Code::InvalidArgument, error.error.as_str()),
            Self::RevisionMissing { .. } => (Code::InvalidArgument, "expected_revision_missing"),
            Self::PageToken => (Code::InvalidArgument, "invalid_page_token"),
            Self::NotFound { .. } => (Code::NotFound, "not_found"),
            Self::UnknownPrincipal { .. } => (Code::NotFound, "unknown_principal"),
            Self::AmbiguousPrincipal { .. } => (Code::FailedPrecondition, "ambiguous_principal"),
            Self::UnknownRole { .. } => (Code::NotFound, "unknown_role"),
            Self::UnknownEndpoint { .. } => (Code::NotFound, "unknown_endpoint"),
            Self::NameTaken { .. } => (Code::AlreadyExists, "name_taken"),
            Self::GrantExists { .. } => (Code::AlreadyExists, "grant_exists"),
            Self::Stale { .. } => (Code::Aborted, "stale_revision"),
            Self::RequestIdReused => (Code::AlreadyExists, "request_id_reused"),
            Self::BuiltinRole { .. } => (Code::FailedPrecondition, "builtin_role"),
            Self::BuiltinClient { .. } => (Code::FailedPrecondition, "builtin_client"),
            Self::LastAdministrator => (Code::FailedPrecondition, "last_administrator"),
            Self::TooManyKeys { .. } => (Code::FailedPrecondition, "too_many_keys"),
            Self::SealingKeyDiffers { .. } => (Code::FailedPrecondition, "sealing_key_differs"),
            Self::RingBehind(_) => (Code::Unavailable, "ring_behind"),
            Self::ScopeMissing { .. } => (Code::PermissionDenied, "insufficient_scope"),
            Self::Denied { .. } => (Code::PermissionDenied, "no_permission"),
            Self::Escalation { .. } => (Code::PermissionDenied, "escalation"),
            Self::InternalOnly => (Code::PermissionDenied, "internal_only"),
            Self::PrincipalsOnly => (Code::PermissionDenied, "principals_only"),
            Self::Busy => (Code::Unavailable, "busy"),
            Self::Unavailable(_) => (Code::Unavailable, "database_unavailable"),
            Self::Store(_) | Self::Internal(_) => (Code::Internal, "internal"),
        }
    }

    /// The reason that callers and audit records get.
    pub(super) const fn reason(&self) -> &'static str {
        self.wire().1
    }

    /// Whether somebody tried what it may not do, so that the attempt belongs into the audit.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(self.wire().0, Code::PermissionDenied)
            || matches!(self, Self::LastAdministrator | Self::BuiltinRole { .. } | Self::BuiltinClient { .. })
    }
}

impl From<StoreError> for RpcError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::RequestIdReused => Self::RequestIdReused,
            StoreError::Busy(_) | StoreError::Unavailable(_) => Self::Unavailable(error),
            StoreError::RingBehind { .. } => Self::RingBehind(error),
            other => Self::Store(other),
        }
    }
}

impl From<PasswordError> for RpcError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Length => Self::InvalidPassword(error),
            PasswordError::Busy => Self::Busy,
            PasswordError::Internal => Self::Internal(error.into()),
        }
    }
}

impl From<KeyError> for RpcError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            other => Self::Internal(other.into()),
        }
    }
}

impl From<RpcError> for Status {
    fn from(error: RpcError) -> Self {
        let (code, reason) = error.wire();
        if matches!(code, Code::Internal | Code::Unavailable) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                error.reason = reason,
                "auth-server request failed"
            );
        }
        let mut metadata = HashMap::new();
        match &error {
            RpcError::Stale { current, .. } => {
                metadata.insert("current_revision".to_owned(), current.to_string());
            }
            RpcError::InvalidField { field, .. }
            | RpcError::InvalidName { field, .. }
            | RpcError::InvalidRole { field, .. } => {
                metadata.insert("field".to_owned(), (*field).to_owned());
            }
            RpcError::InvalidPassword(_) => {
                metadata.insert("field".to_owned(), "password".to_owned());
            }
            _ => {}
        }
        let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata);
        Self::with_error_details(code, error.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_revision_is_aborted_with_the_current_one() {
        let status = Status::from(RpcError::Stale { kind: "user", current: 42 });
        assert_eq!(status.code(), Code::Aborted);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("stale_revision", "portico"));
        assert_eq!(info.metadata["current_revision"], "42");
    }

    #[test]
    fn a_database_error_tells_the_caller_nothing_about_the_database() {
        let error = RpcError::from(StoreError::Database(sqlx::Error::Protocol("column canary".to_owned())));
        assert!(!format!("{:?}", Status::from(error)).contains("canary"));
    }

    #[test]
    fn problems_of_a_policy_are_listed_and_the_rest_is_counted() {
        let problems = (0..12).map(|n| format!("policy{n}: wrong")).collect();
        let text = RpcError::InvalidRole { field: "policies", problems }.to_string();
        assert!(text.contains("policy9: wrong") && text.ends_with("and 2 more"), "{text}");
    }
}
