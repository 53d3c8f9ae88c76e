//! Everything that can go wrong, and the one table of what callers are told.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use portico_db::StoreError;
use portico_ids::ServerId;
use portico_oauth_types::Scope;
use portico_transport::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// How many colliding names an error lists; the rest is counted.
const LISTED_NAMES: usize = 20;

/// Why a request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error("{field}: {problem}")]
    InvalidField { field: String, problem: String },
    #[error("{field}: {problem}")]
    InvalidName { field: String, problem: String },
    #[error("{field} cannot be changed; delete and create it anew instead")]
    ImmutableField { field: String },
    #[error("name the fields to change in update_mask")]
    MaskMissing,
    #[error("expected_revision is missing: get the {kind} and send its revision back")]
    RevisionMissing { kind: &'static str },
    #[error(
        "{field} must hold a reference (secret_ref:NAME), not a value; store the value with `portico secret set NAME`"
    )]
    PlainSecret { field: String },
    #[error("{field}: {problem}")]
    EnvMismatch { field: String, problem: String },
    #[error("the instance {instance} does not fit the new env_schema; update it first: {problem}")]
    InstanceWouldBreak { instance: String, problem: String },
    #[error(
        "json_spec.type {kind:?} needs a provider that this deployment does not have; \"url\" is available"
    )]
    ProviderUnavailable { kind: String },
    #[error("json_spec.endpoint: {message}")]
    AddressRefused { reason: &'static str, message: String },
    #[error("the instance is at revision {current}: wait for its newest spec")]
    SpecSuperseded { current: i64 },
    #[error("the page token is not one of this list; start again without a token")]
    PageToken,
    #[error("there is no {kind} with this id or name, or you may not see it")]
    NotFound { kind: &'static str },
    /// As [`RegistryError::NotFound`] for the caller; in the audit an attempt at what is somebody else's.
    #[error("there is no {kind} with this id or name, or you may not see it")]
    Hidden { kind: &'static str },
    #[error("there is no server {server_id}, or you may not put it behind an endpoint")]
    UnknownMember { server_id: ServerId, exists: bool },
    #[error("a {kind} named {name} exists already; choose another name")]
    NameTaken { kind: &'static str, name: String },
    #[error("the {kind} was changed meanwhile; get it again, its revision is now {current}")]
    Stale { kind: &'static str, current: i64 },
    #[error("request_id was used for another request; use a new one")]
    RequestIdReused,
    #[error("the member's alias is fixed: it joined as {alias}")]
    AliasFixed { alias: String },
    #[error("two members cannot both have the alias {alias}")]
    AliasTaken { alias: String },
    #[error("several members offer {}; restrict their tools and prompts, or use names = prefixed", listed(.names))]
    NameCollision { names: BTreeSet<String> },
    #[error("your token lacks the scope {scope}")]
    ScopeMissing { scope: Scope },
    #[error("you may not do this ({policy}); ask an administrator for a role that allows {action}")]
    Denied { action: &'static str, policy: String },
    #[error("the secret {reference} is not yours to use")]
    SecretNotYours { reference: String },
    #[error("an instance that you may not change refers to {reference} already; choose another reference")]
    SecretClaimed { reference: String },
    #[error("this replica seals with the key {sealing}; try again once it has read the key ring again")]
    SealingKeyDiffers { sealing: String },
    #[error(transparent)]
    RingBehind(StoreError),
    #[error("only services of this deployment may call this")]
    InternalOnly,
    #[error("this is for people and service accounts, not for services")]
    PrincipalsOnly,
    #[error("the registry cannot reach its database; try again")]
    Unavailable(#[source] StoreError),
    #[error("the registry failed; the correlation id tells its operator where to look")]
    Store(#[source] StoreError),
    #[error("a stored secret cannot be opened; its operator has to look at the key ring")]
    Sealing(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn listed(names: &BTreeSet<String>) -> String {
    let mut text = names.iter().take(LISTED_NAMES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > LISTED_NAMES {
        let _ = write!(text, " and {} more", names.len() - LISTED_NAMES);
    }
    text
}

impl RegistryError {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidField { field: field.into(), problem: problem.into() }
    }

    /// The table: what each error is on the wire. Reasons are stable; messages are not.
    pub(crate) const fn wire(&self) -> (Code, &'static str) {
        match self {
            Self::InvalidField { .. } => (Code::InvalidArgument, "invalid_field"),
            Self::InvalidName { .. } => (Code::InvalidArgument, "invalid_name"),
            Self::ImmutableField { .. } => (Code::InvalidArgument, "immutable_field"),
            Self::MaskMissing => (Code::InvalidArgument, "update_mask_missing"),
            Self::RevisionMissing { .. } => (Code::InvalidArgument, "expected_revision_missing"),
            Self::PlainSecret { .. } => (Code::InvalidArgument, "plain_secret"),
            Self::EnvMismatch { .. } => (Code::InvalidArgument, "env_mismatch"),
            Self::SpecSuperseded { .. } => (Code::FailedPrecondition, "spec_superseded"),
            Self::InstanceWouldBreak { .. } => (Code::FailedPrecondition, "instance_would_break"),
            Self::ProviderUnavailable { .. } => (Code::FailedPrecondition, "provider_unavailable"),
            Self::AddressRefused { reason, .. } => (Code::InvalidArgument, reason),
            Self::PageToken => (Code::InvalidArgument, "invalid_page_token"),
            Self::NotFound { .. } | Self::Hidden { .. } => (Code::NotFound, "not_found"),
            Self::UnknownMember { .. } => (Code::NotFound, "unknown_member"),
            Self::NameTaken { .. } => (Code::AlreadyExists, "name_taken"),
            Self::Stale { .. } => (Code::Aborted, "stale_revision"),
            Self::RequestIdReused => (Code::AlreadyExists, "request_id_reused"),
            Self::AliasFixed { .. } => (Code::FailedPrecondition, "alias_fixed"),
            Self::AliasTaken { .. } => (Code::AlreadyExists, "alias_taken"),
            Self::NameCollision { .. } => (Code::FailedPrecondition, "name_collision"),
            Self::ScopeMissing { .. } => (Code::PermissionDenied, "insufficient_scope"),
            Self::Denied { .. } => (Code::PermissionDenied, "no_permission"),
            Self::SecretNotYours { .. } => (Code::PermissionDenied, "secret_not_yours"),
            Self::SecretClaimed { .. } => (Code::PermissionDenied, "secret_claimed"),
            Self::SealingKeyDiffers { .. } => (Code::FailedPrecondition, "sealing_key_differs"),
            Self::RingBehind(_) => (Code::Unavailable, "ring_behind"),
            Self::InternalOnly => (Code::PermissionDenied, "internal_only"),
            Self::PrincipalsOnly => (Code::PermissionDenied, "principals_only"),
            Self::Unavailable(_) => (Code::Unavailable, "database_unavailable"),
            Self::Store(_) => (Code::Internal, "internal"),
            Self::Sealing(_) => (Code::Internal, "secret_unreadable"),
        }
    }

    /// The reason that callers and audit records get.
    pub(crate) const fn reason(&self) -> &'static str {
        self.wire().1
    }

    /// Whether a rule forbids what was asked for, so that the attempt belongs into the audit: the caller may not do it
    /// or not even see it, or nobody may use that name or reach that address.
    pub(crate) const fn is_denial(&self) -> bool {
        matches!(self.wire().0, Code::PermissionDenied)
            || matches!(self, Self::AddressRefused { .. } | Self::InvalidName { .. })
            || matches!(self, Self::Hidden { .. } | Self::UnknownMember { exists: true, .. })
    }

    /// Names what could not be stored: a taken name or a stale revision means something to the caller.
    pub(crate) fn storing(kind: &'static str, name: &str, error: StoreError) -> Self {
        match error {
            StoreError::AlreadyExists => Self::NameTaken { kind, name: name.to_owned() },
            StoreError::Stale { current } => Self::Stale { kind, current },
            StoreError::NotFound => Self::NotFound { kind },
            other => other.into(),
        }
    }
}

impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::RequestIdReused => Self::RequestIdReused,
            StoreError::Busy(_) | StoreError::Unavailable(_) => Self::Unavailable(error),
            StoreError::RingBehind { .. } => Self::RingBehind(error),
            other => Self::Store(other),
        }
    }
}

impl From<RegistryError> for Status {
    fn from(error: RegistryError) -> Self {
        let (code, reason) = error.wire();
        if matches!(code, Code::Internal | Code::Unavailable) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                error.reason = reason,
                "registry request failed"
            );
        }
        let mut metadata = HashMap::new();
        match &error {
            RegistryError::Stale { current, .. } => {
                metadata.insert("current_revision".to_owned(), current.to_string());
            }
            RegistryError::InvalidField { field, .. }
            | RegistryError::InvalidName { field, .. }
            | RegistryError::ImmutableField { field }
            | RegistryError::PlainSecret { field }
            | RegistryError::EnvMismatch { field, .. } => {
                metadata.insert("field".to_owned(), field.clone());
            }
            RegistryError::NameCollision { names } => {
                metadata.insert(
                    "names".to_owned(),
                    names.iter().take(LISTED_NAMES).cloned().collect::<Vec<_>>().join(","),
                );
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
        let status = Status::from(RegistryError::Stale { kind: "server", current: 42 });
        assert_eq!(status.code(), Code::Aborted);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("stale_revision", "portico"));
        assert_eq!(info.metadata["current_revision"], "42");
    }

    #[test]
    fn a_database_error_tells_the_caller_nothing_about_the_database() {
        let error =
            RegistryError::from(StoreError::Database(sqlx::Error::Protocol("column canary".to_owned())));
        assert!(!format!("{:?}", Status::from(error)).contains("canary"));
    }

    #[test]
    fn a_collision_names_some_and_counts_the_rest() {
        let names = (0..25).map(|n| format!("tool{n:02}")).collect();
        let text = RegistryError::NameCollision { names }.to_string();
        assert!(text.contains("tool00") && text.contains("and 5 more"), "{text}");
    }
}
