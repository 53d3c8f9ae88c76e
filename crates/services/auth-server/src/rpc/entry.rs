//! What every method does first and last.

use portico_authn::Caller;
use portico_authz::{Action, Resource};
use portico_ids::PrincipalId;
use portico_oauth_types::Scope;
use portico_telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::errors::RpcError;
use crate::actor::{Actor, Deed};
use crate::app::App;
use crate::store::change::Change;
use crate::trust::principal_revoked;

/// How often each action ended in which way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls(Family<CallLabels, Counter>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    action: &'static str,
    reason: &'static str,
}

impl Calls {
    pub(crate) fn registered(metrics: &Metrics) -> Self {
        let calls = Self::default();
        metrics.register(
            "portico_auth_rpc_calls",
            "gRPC calls by action and how they ended",
            calls.0.clone(),
        );
        calls
    }

    fn count(&self, action: &'static str, reason: &'static str) {
        self.0.get_or_create(&CallLabels { action, reason }).inc();
    }
}

/// Somebody whose request is being served.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) actor: Actor,
}

impl Call {
    /// Requires a principal whose token has the scope `admin` and whose roles allow the action.
    pub(super) fn allow(&self, app: &App, action: Action) -> Result<(), RpcError> {
        let Caller::Principal(principal) = &self.caller else { return Err(RpcError::PrincipalsOnly) };
        if !principal.may(Scope::Admin) {
            return Err(RpcError::ScopeMissing { scope: Scope::Admin });
        }
        let decision = app.authorizer.decide(principal, action, &Resource::Deployment);
        if !decision.allowed {
            return Err(RpcError::Denied { action: action.as_str(), policy: decision.reason });
        }
        Ok(())
    }

    /// Requires one of the named services.
    pub(super) fn service_among(&self, services: &[&str]) -> Result<(), RpcError> {
        match &self.caller {
            Caller::Service(peer) if services.contains(&peer.service.as_str()) => Ok(()),
            _ => Err(RpcError::InternalOnly),
        }
    }
}

impl Rpc {
    /// Reads who calls and from where.
    pub(super) fn enter<T>(&self, request: Request<T>) -> Result<(Call, T), Status> {
        let caller = Caller::of(&request)?.clone();
        let (metadata, extensions, message) = request.into_parts();
        let headers = metadata.into_headers();
        let actor = Actor::of_request(&headers, &extensions, (&*self.app.clock, &*self.app.rng));
        let actor = match &caller {
            Caller::Principal(principal) => actor.acting_as(&principal.id, &principal.client_id),
            Caller::Service(peer) => actor.acting_as(PrincipalId::Service(peer.service.clone()), ""),
        };
        Ok((Call { caller, actor }, message))
    }

    /// Answers, counts, and records who tried what it may not do.
    pub(super) async fn answer<T>(
        &self,
        call: &Call,
        (action, target): (&'static str, &str),
        outcome: Result<T, RpcError>,
    ) -> Result<Response<T>, Status> {
        let error = match outcome {
            Ok(message) => {
                self.app.counters.calls.count(action, "ok");
                return Ok(Response::new(message));
            }
            Err(error) => error,
        };
        self.app.counters.calls.count(action, error.reason());
        if error.is_refusal() {
            let denial = self.app.entry(&call.actor, Deed::refused(action, target, error.reason()));
            // The caller learns nothing more if this fails: it is refused in any case.
            self.app.denials.record(&*self.app, denial).await;
        }
        tracing::info!(
            auth.action = action,
            error.reason = error.reason(),
            correlation.id = call.actor.correlation_id,
            "auth-server call refused"
        );
        Err(error.into())
    }
}

impl App {
    /// Begins a change that ends every access token of some principals: what the tokens say is no longer so.
    pub(super) fn revoking<P: AsRef<str>>(
        &self,
        call: &Call,
        deed: Deed<'_>,
        principals: impl IntoIterator<Item = P>,
    ) -> Change {
        let change = self.change(&call.actor, deed);
        let (now, lifetime) = (change.audit.occurred_at, self.settings.token_lifetime());
        let writes =
            principals.into_iter().map(|principal| principal_revoked(principal.as_ref(), now, lifetime));
        let writes: Vec<_> = writes.collect();
        change.publish(writes)
    }
}
