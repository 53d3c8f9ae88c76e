//! A service account's own token (RFC 6749 §4.4, S1-11).

use portico_ids::PrincipalId;
use portico_oauth_types::{OAuthError, OAuthErrorCode, ResourceUri, Scope, ScopeSet, TokenResponse};

use crate::actor::Deed;
use crate::app::App;
use crate::domain::{authorization, scopes};
use crate::http::context::Context;
use crate::http::failure::Failure;
use crate::oauth::client_auth::refused;
use crate::store::service_accounts::ServiceAccount;
use crate::tokens::Claimant;

pub(super) async fn grant(
    app: &App,
    context: &Context,
    account: &ServiceAccount,
    (scope, resources): (Option<ScopeSet>, &[ResourceUri]),
) -> Result<TokenResponse, Failure> {
    let target = authorization::target(&app.resources, &context.issuer, resources)?;
    let granted = scopes::grantable(scope, &target)
        .map_err(|error| OAuthError::new(OAuthErrorCode::InvalidScope, error.to_string()))?;
    // Nobody logs in, so there is nothing to say about a login and nothing to refresh (RFC 6749 §4.4.3).
    let granted = [Scope::Openid, Scope::Profile, Scope::Email, Scope::OfflineAccess]
        .into_iter()
        .fold(granted, ScopeSet::without);
    let client_id = account.id.to_string();
    let issuing = app.issuing(PrincipalId::ServiceAccount(account.id)).await?;
    // What authenticated it was read before; it must still hold.
    let now = app.stores.service_accounts.get(account.id).await?;
    if !now.is_some_and(|now| !now.disabled && now.secret_hash == account.secret_hash) {
        return Err(refused().into());
    }
    let actor = context.actor.clone().acting_as(&issuing.subject, &client_id);
    let response = app
        .access_token(Claimant {
            issuing,
            client_id: &client_id,
            target: &target,
            scopes: granted,
            grant_id: None,
            session: None,
        })
        .await?;
    app.record(&actor, Deed::done("token.issue", &app.resources.uri(&target), &account.name)).await?;
    Ok(response)
}
