//! A create that is sent again gets the answer of the first time, for 24 hours.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use portico_db::StoreError;
use portico_sealing::Aad;
use prost::Message;
use secrecy::ExposeSecret as _;

use super::entry::Call;
use super::errors::RpcError;
use crate::app::App;
use crate::store::change::Repeatable;

/// Longest request id that a caller may choose.
const REQUEST_ID_LIMIT: usize = 128;

/// A request with an id.
#[derive(Debug)]
struct Named {
    /// Method and caller: nobody gets another caller's answer.
    scope: String,
    request_id: String,
    digest: Vec<u8>,
}

impl Named {
    fn row(&self) -> String {
        format!("{} {}", self.scope, self.request_id)
    }
}

/// A create, and how it is answered once its revision is known.
pub(super) struct Create<A> {
    named: Option<Named>,
    answer: Arc<dyn Fn(i64) -> A + Send + Sync>,
}

impl<A> fmt::Debug for Create<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Create").field("named", &self.named).finish_non_exhaustive()
    }
}

/// A create that may have been answered before.
#[derive(Debug)]
pub(super) struct Request(Option<Named>);

impl Request {
    /// `message` is the request without its id and without secrets: its digest is kept.
    pub(super) fn new(
        call: &Call,
        method: &str,
        request_id: &str,
        message: &impl Message,
    ) -> Result<Self, RpcError> {
        if request_id.is_empty() {
            return Ok(Self(None));
        }
        if request_id.len() > REQUEST_ID_LIMIT || !request_id.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(RpcError::invalid("request_id", "has at most 128 printable ASCII characters"));
        }
        Ok(Self(Some(Named {
            scope: format!("{method} {}", call.actor.principal),
            request_id: request_id.to_owned(),
            digest: digest(&SHA256, &message.encode_to_vec()).as_ref().to_vec(),
        })))
    }

    /// Returns the answer of the first request with this id.
    pub(super) async fn earlier<A: Message + Default>(&self, app: &App) -> Result<Option<A>, RpcError> {
        match &self.0 {
            Some(named) => earlier(app, named).await,
            None => Ok(None),
        }
    }

    /// Says how the request will be answered.
    pub(super) fn answered_by<A>(self, answer: impl Fn(i64) -> A + Send + Sync + 'static) -> Create<A> {
        Create { named: self.0, answer: Arc::new(answer) }
    }
}

impl<A: Message + Default + 'static> Create<A> {
    /// What goes into the transaction; the answer is sealed, for it can hold a secret.
    pub(super) fn repeatable(&self, app: &App) -> Option<Repeatable> {
        let named = self.named.as_ref()?;
        let (sealer, answer, row) = (app.sealer.clone(), Arc::clone(&self.answer), named.row());
        Some(Repeatable {
            scope: named.scope.clone(),
            request_id: named.request_id.clone(),
            digest: named.digest.clone(),
            answer: Arc::new(move |revision| sealer.seal(&aad(&row), &answer(revision).encode_to_vec())),
        })
    }

    /// Answers with what was stored. If another request was first with the name, it may have been the same request.
    pub(super) async fn finish(
        self,
        app: &App,
        stored: Result<i64, StoreError>,
        taken: impl FnOnce() -> RpcError,
    ) -> Result<A, RpcError> {
        match stored {
            Ok(revision) => Ok((self.answer)(revision)),
            Err(StoreError::AlreadyExists) => {
                let earlier = match &self.named {
                    Some(named) => earlier(app, named).await?,
                    None => None,
                };
                earlier.ok_or_else(taken)
            }
            Err(error) => Err(error.into()),
        }
    }
}

async fn earlier<A: Message + Default>(app: &App, named: &Named) -> Result<Option<A>, RpcError> {
    let found = app.stores.idempotency.find(&named.scope, &named.request_id, app.clock.now()).await?;
    let Some(found) = found else { return Ok(None) };
    if found.digest != named.digest {
        return Err(RpcError::RequestIdReused);
    }
    let opened = app.sealer.open(&aad(&named.row()), &found.answer);
    let answer = opened.map_err(|error| RpcError::Internal(error.into()))?;
    A::decode(answer.expose_secret()).map(Some).map_err(|error| RpcError::Internal(error.into()))
}

fn aad(row: &str) -> Aad<'_> {
    Aad { table: "idempotency", row, field: "answer", version: 1 }
}
