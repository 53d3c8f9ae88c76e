//! `SigningKeyService`.

use std::sync::Arc;

use portico_authz::Action;
use portico_proto_auth as proto;
use portico_proto_auth::signing_key_service_server::SigningKeyService;
use tonic::{Request, Response, Status};

use super::Rpc;
use super::entry::Call;
use super::errors::RpcError;
use crate::app::App;
use crate::signing_keys::LoadedKey;
use crate::trust::timestamp;

/// Most keys that are published at once; verifiers take twice as many.
const PUBLISHED_KEYS: usize = 32;

#[tonic::async_trait]
impl SigningKeyService for Rpc {
    async fn rotate_signing_keys(
        &self,
        request: Request<proto::RotateSigningKeysRequest>,
    ) -> Result<Response<proto::RotateSigningKeysResponse>, Status> {
        let (call, message) = self.enter(request)?;
        let (action, outcome) = if message.withdraw {
            ("key.withdraw", withdraw(&self.app, &call).await)
        } else {
            ("key.rotate", rotate(&self.app, &call).await)
        };
        self.answer(&call, (action, ""), outcome).await
    }

    async fn list_signing_keys(
        &self,
        request: Request<proto::ListSigningKeysRequest>,
    ) -> Result<Response<proto::ListSigningKeysResponse>, Status> {
        let (call, _) = self.enter(request)?;
        let outcome = list(&self.app, &call);
        self.answer(&call, ("key.read", ""), outcome).await
    }
}

async fn rotate(app: &App, call: &Call) -> Result<proto::RotateSigningKeysResponse, RpcError> {
    call.allow(app, Action::KeyCreate)?;
    let count = app.keys.published().len();
    if count >= PUBLISHED_KEYS {
        return Err(RpcError::TooManyKeys { count });
    }
    app.keys.rotate(&call.actor).await?;
    app.spread().await;
    Ok(proto::RotateSigningKeysResponse { key: newest(app), withdrawn: Vec::new() })
}

async fn withdraw(app: &App, call: &Call) -> Result<proto::RotateSigningKeysResponse, RpcError> {
    call.allow(app, Action::KeyCreate)?;
    call.allow(app, Action::KeyDelete)?;
    let withdrawn = app.keys.withdraw(&call.actor).await?;
    app.spread().await;
    Ok(proto::RotateSigningKeysResponse { key: newest(app), withdrawn })
}

fn newest(app: &App) -> Option<proto::SigningKey> {
    let newest = app.keys.published().into_iter().find(|key| key.times.retires_at.is_none())?;
    Some(message(app, &newest))
}

fn list(app: &App, call: &Call) -> Result<proto::ListSigningKeysResponse, RpcError> {
    call.allow(app, Action::KeyRead)?;
    let keys = app.keys.published().iter().map(|key| message(app, key)).collect();
    Ok(proto::ListSigningKeysResponse { keys })
}

fn message(app: &App, key: &LoadedKey) -> proto::SigningKey {
    let kid = key.key.jwk().kid();
    let active = app.keys.active().is_some_and(|active: Arc<LoadedKey>| active.key.jwk().kid() == kid);
    proto::SigningKey {
        kid: kid.to_owned(),
        alg: "ES256".to_owned(),
        active,
        created_at: Some(timestamp(key.times.created_at)),
        retires_at: key.times.retires_at.map(timestamp),
    }
}
