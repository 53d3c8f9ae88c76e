//! Who asks which issuer.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use portico_ids::EndpointName;
use portico_telemetry::CorrelationId;
use portico_transport::problem;

use crate::actor::Actor;
use crate::app::Shared;
use crate::domain::issuer::Issuer;

/// The issuer that a path names, and who asks.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) issuer: Issuer,
    pub(crate) actor: Actor,
}

impl FromRequestParts<Shared> for Context {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let actor = Actor::of_request(&parts.headers, &parts.extensions, (&*app.clock, &*app.rng));
        let params = RawPathParams::from_request_parts(parts, app).await.ok();
        let name = params
            .as_ref()
            .and_then(|params| params.iter().find(|(key, _)| *key == "name"))
            .map(|(_, name)| name);
        let endpoint = match name {
            None => None,
            Some(name) => Some(known_endpoint(app, name).ok_or_else(|| no_such_issuer(parts))?),
        };
        Ok(Self { issuer: Issuer::new(app.resources.origin(), endpoint), actor })
    }
}

fn known_endpoint(app: &Shared, name: &str) -> Option<EndpointName> {
    let name = EndpointName::parse(name).ok()?;
    app.catalogue.find(&name).map(|endpoint| endpoint.name)
}

fn no_such_issuer(parts: &Parts) -> Response {
    let correlation = parts.extensions.get::<CorrelationId>().map(CorrelationId::as_str);
    let detail = "there is no issuer for an endpoint of this name: use the name of a published endpoint";
    problem(StatusCode::NOT_FOUND, "unknown_issuer", detail, correlation)
}
