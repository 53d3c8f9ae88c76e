//! Grants end with the endpoint that they were given for: whoever publishes another one under its name shares it with
//! nobody unaware.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use portico_db::StoreError;
use portico_ids::EndpointId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, Deed};
use crate::app::{App, Shared};
use crate::store::administrators::RemovalError;
use crate::store::grants::Grant;
use crate::trust::principal_revoked;

/// How long to wait for a database that is away.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Ends the grants for each endpoint as soon as the registry says that it is gone. Every replica does so; those that come
/// later find nothing.
pub(crate) async fn end_grants(app: Shared, shutdown: CancellationToken) -> Result<(), Infallible> {
    while let Some(gone) = shutdown.run_until_cancelled(app.catalogue.next_departed()).await {
        match end_all(&app, gone).await {
            Ok(()) => app.catalogue.settle(gone),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn Error,
                    "the grants for a deleted endpoint cannot be ended yet"
                );
                if shutdown.run_until_cancelled(sleep(RETRY_AFTER)).await.is_none() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Looks up the endpoints of grants that were made by a program of an earlier release, and ends what is left of grants
/// whose endpoint went while no replica was there to hear of it.
pub(crate) async fn look_up(app: &App) -> Result<(), StoreError> {
    for grant in app.stores.grants.unbound().await? {
        match app.catalogue.named(&grant.endpoint) {
            Some(endpoint) if endpoint.is_meant_by(&grant) => {
                app.stores.grants.bind(grant.id, endpoint.id).await?;
            }
            Some(_) => end(app, &grant).await?,
            // Not heard of yet, or gone: then nobody has anything by it.
            None => {}
        }
    }
    for (name, bound) in app.stores.grants.endpoints().await? {
        // Ids begin with the time. A replica that is behind must not take the newer one for the one that is gone.
        if app.catalogue.named(&name).is_some_and(|endpoint| bound < endpoint.id) {
            end_all(app, bound).await?;
        }
    }
    Ok(())
}

async fn end_all(app: &App, endpoint: EndpointId) -> Result<(), StoreError> {
    for grant in app.stores.grants.on(endpoint).await? {
        end(app, &grant).await?;
    }
    Ok(())
}

/// Ends one grant, and the tokens that were made with it.
async fn end(app: &App, grant: &Grant) -> Result<(), StoreError> {
    let name = grant.described();
    let deed = Deed { reason: "endpoint_deleted", ..Deed::done("grant.delete", &grant.principal, &name) };
    let change = app.change(&Actor::service(), deed);
    let (now, lifetime) = (change.audit.occurred_at, app.settings.token_lifetime());
    let change = change.publish([principal_revoked(&grant.principal, now, lifetime)]);
    match app.stores.grants.delete(grant, &change).await {
        Ok(()) => app.spread().await,
        // Another replica was first. A grant for one endpoint is never what keeps the last administrator.
        Err(RemovalError::Store(StoreError::NotFound) | RemovalError::LastAdministrator) => {}
        Err(RemovalError::Store(error)) => return Err(error),
    }
    Ok(())
}
