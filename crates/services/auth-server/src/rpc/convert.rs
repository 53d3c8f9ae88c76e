//! From records to messages, and from what callers wrote to ids and names.

use std::str::FromStr;

use portico_proto_auth as proto;

use super::errors::RpcError;
use crate::domain::client::{Client, Registration};
use crate::domain::names::{InvalidName, checked_text};
use crate::store::audit::AuditRow;
use crate::store::grants::Grant;
use crate::store::roles::Role;
use crate::store::service_accounts::ServiceAccount;
use crate::store::users::User;
use crate::trust::timestamp;

/// Longest name for people.
const DISPLAY_NAME: usize = 128;
/// Longest description.
const DESCRIPTION: usize = 1024;

pub(super) fn id<T: FromStr>(field: &'static str, text: &str) -> Result<T, RpcError> {
    text.parse().map_err(|_| RpcError::invalid(field, "is not an id: use the one that the list shows"))
}

pub(super) fn name(field: &'static str, checked: Result<(), InvalidName>) -> Result<(), RpcError> {
    checked.map_err(|problem| RpcError::InvalidName { field, problem })
}

pub(super) fn display_name(text: &str) -> Result<String, RpcError> {
    checked_text(text, DISPLAY_NAME)
        .map_err(|problem| RpcError::InvalidName { field: "display_name", problem })
}

pub(super) fn description(text: &str) -> Result<String, RpcError> {
    checked_text(text, DESCRIPTION).map_err(|problem| RpcError::InvalidName { field: "description", problem })
}

/// Nobody overwrites what it has not seen.
pub(super) fn expected_revision(kind: &'static str, revision: i64) -> Result<i64, RpcError> {
    if revision > 0 { Ok(revision) } else { Err(RpcError::RevisionMissing { kind }) }
}

pub(super) fn user(user: &User) -> proto::User {
    proto::User {
        id: user.id.to_string(),
        username: user.username.clone(),
        display_name: user.display_name.clone(),
        email: user.email.clone(),
        disabled: user.disabled,
        revision: user.revision,
        created_at: Some(timestamp(user.created_at)),
        updated_at: Some(timestamp(user.updated_at)),
    }
}

pub(super) fn role(role: &Role) -> proto::Role {
    proto::Role {
        id: role.id.to_string(),
        name: role.name.clone(),
        description: role.description.clone(),
        policies: role.policies.clone(),
        builtin: role.builtin,
        revision: role.revision,
        permissions: role.permissions.clone(),
    }
}

pub(super) fn grant(grant: Grant) -> proto::Grant {
    proto::Grant {
        id: grant.id.to_string(),
        principal: grant.principal,
        role_id: grant.role_id.to_string(),
        role_name: grant.role_name,
        endpoint: grant.endpoint,
        created_at: Some(timestamp(grant.created_at)),
    }
}

pub(super) fn service_account(account: &ServiceAccount) -> proto::ServiceAccount {
    proto::ServiceAccount {
        id: account.id.to_string(),
        name: account.name.clone(),
        description: account.description.clone(),
        client_id: account.id.to_string(),
        disabled: account.disabled,
        revision: account.revision,
        created_at: Some(timestamp(account.created_at)),
    }
}

pub(super) fn client(client: &Client) -> proto::Client {
    // A client that comes with Portico was registered beforehand like one of an administrator.
    let registration = match client.registration {
        kind @ (Registration::Dynamic | Registration::Document) => kind,
        Registration::Static | Registration::Builtin => Registration::Static,
    };
    let metadata = &client.metadata;
    proto::Client {
        client_id: client.client_id.clone(),
        client_name: metadata.client_name.clone().unwrap_or_default(),
        redirect_uris: metadata.redirect_uris.iter().map(|uri| uri.as_str().to_owned()).collect(),
        token_endpoint_auth_method: metadata.token_endpoint_auth_method.as_str().to_owned(),
        grant_types: metadata.grant_types.iter().map(|grant| grant.as_str().to_owned()).collect(),
        registration: registration.as_str().to_owned(),
        created_at: Some(timestamp(client.created_at)),
        last_used_at: client.last_used_at.map(timestamp),
    }
}

pub(super) fn audit(row: AuditRow) -> proto::AuditRecord {
    proto::AuditRecord {
        id: row.id.to_string(),
        occurred_at: Some(timestamp(row.occurred_at)),
        service: "auth-server".to_owned(),
        principal: row.principal,
        client_id: row.client_id,
        action: row.action,
        target: row.target,
        name: row.name,
        outcome: row.outcome,
        reason: row.reason,
        correlation_id: row.correlation_id,
        trace_id: row.trace_id,
        peer: row.peer,
    }
}
