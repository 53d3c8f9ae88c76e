//! Reading the metadata of clients whose id is its address (AS-04, AS-32).

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::Request;
use http::header::{ACCEPT, USER_AGENT};
use portico_coordination::{CoordinationError, TtlMap};
use portico_oauth_types::{ClientMetadata, OAuthError};
use portico_outbound::{
    Body, BuildError, OutboundClient, OutboundError, OutboundLimits, OutboundPolicy, RefusalReason, collect,
};
use tokio::sync::Semaphore;

use crate::actor::{Actor, Deed};
use crate::app::App;
use crate::domain::client::{Client, Registration};
use crate::domain::client_document::{self, MAX_BYTES, NoDocument};
use crate::http::failure::Failure;
use crate::limits::Limited;
use crate::settings::ClientDocumentSettings;

/// For connecting, asking and reading together.
const DEADLINE: Duration = Duration::from_secs(3);
/// Documents that are read at the same time.
const AT_ONCE: usize = 32;
/// How long an address that failed is left alone.
const PAUSE: Duration = Duration::from_secs(10);
/// What is known about an address: its client is stored and fresh, or it failed a moment ago.
const FRESH: Bytes = Bytes::from_static(b"fresh");
const FAILED: Bytes = Bytes::from_static(b"failed");

/// Reads documents and knows which are fresh.
#[derive(Debug)]
pub(crate) struct ClientDocuments {
    settings: ClientDocumentSettings,
    outbound: OutboundClient,
    marks: TtlMap,
    slots: Semaphore,
}

impl ClientDocuments {
    /// Uses `outbound` as it is only if private addresses are allowed: anybody can name an address here, so what an
    /// administrator may register does not count.
    pub(crate) fn new(
        settings: &ClientDocumentSettings,
        outbound: OutboundClient,
        marks: TtlMap,
    ) -> Result<Self, BuildError> {
        let outbound = if settings.allow_private {
            outbound
        } else {
            let policy = OutboundPolicy {
                deny_addrs: outbound.policy().deny_addrs.clone(),
                deny_hosts: outbound.policy().deny_hosts.clone(),
                ..OutboundPolicy::default()
            };
            OutboundClient::new(policy, &OutboundLimits::default())?
        };
        Ok(Self { settings: settings.clone(), outbound, marks, slots: Semaphore::new(AT_ONCE) })
    }

    /// Checks whether clients at an address are allowed at all.
    fn admit(&self, client_id: &str) -> Result<(), NoDocument> {
        let host = client_document::host(client_id)?;
        let allowed = &self.settings.allowed_hosts;
        if allowed.is_empty() || allowed.iter().any(|one| one.eq_ignore_ascii_case(&host)) {
            Ok(())
        } else {
            Err(NoDocument::Host)
        }
    }

    /// Reads a document and how long it is fresh.
    async fn read(
        &self,
        client_id: &str,
        now: DateTime<Utc>,
    ) -> Result<(ClientMetadata, Duration), NoDocument> {
        let Ok(_slot) = self.slots.try_acquire() else { return Err(NoDocument::Unreachable) };
        let reading = tokio::time::timeout(DEADLINE, self.ask(client_id, now));
        reading.await.unwrap_or(Err(NoDocument::Unreachable))
    }

    async fn ask(
        &self,
        client_id: &str,
        now: DateTime<Utc>,
    ) -> Result<(ClientMetadata, Duration), NoDocument> {
        let request = Request::get(client_id)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("portico/", env!("CARGO_PKG_VERSION")))
            .body(Body::empty())
            .map_err(|_| NoDocument::Address)?;
        let response =
            self.outbound.request(request, DEADLINE).await.map_err(|error| failed(client_id, &error))?;
        if response.status() != http::StatusCode::OK {
            return Err(NoDocument::Status(response.status().as_u16()));
        }
        if !client_document::is_json(response.headers()) {
            return Err(NoDocument::ContentType);
        }
        let lifetime = client_document::lifetime(response.headers(), now);
        let body = collect(response.into_body(), MAX_BYTES, DEADLINE).await;
        let body = body.map_err(|error| failed(client_id, &error))?;
        Ok((client_document::read(client_id, &body)?, lifetime))
    }
}

/// Why exactly is for the operator: strangers do not learn what is reachable from here.
fn failed(client_id: &str, error: &OutboundError) -> NoDocument {
    tracing::info!(
        client.id = client_id,
        error = error as &dyn std::error::Error,
        "client metadata cannot be read"
    );
    match error {
        OutboundError::TooLarge { .. } => NoDocument::TooLong,
        OutboundError::Refused(refused) if refused.reason != RefusalReason::HostNotResolved => {
            NoDocument::NotPublic
        }
        _ => NoDocument::Unreachable,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function of an error")]
fn unavailable(error: CoordinationError) -> Failure {
    tracing::error!(%error, "the table of client documents cannot be reached");
    Failure::Unavailable
}

impl From<NoDocument> for Failure {
    fn from(reason: NoDocument) -> Self {
        Self::OAuth(OAuthError::from(reason))
    }
}

impl App {
    /// Finds a client. One whose id is the address of its metadata is read from there, unless it is fresh.
    pub(crate) async fn client(&self, actor: &Actor, client_id: &str) -> Result<Option<Client>, Failure> {
        if !client_document::is_address(client_id) {
            return Ok(self.stores.clients.get(client_id).await?);
        }
        if !self.settings.client_documents.enabled {
            return Ok(None);
        }
        self.documents.admit(client_id)?;
        let known = self.stores.clients.get(client_id).await?;
        match self.documents.marks.get(client_id).await.map_err(unavailable)? {
            Some(mark) if mark == FAILED => return Err(Limited::after(PAUSE).into()),
            Some(_) if known.is_some() => return Ok(known),
            _ => {}
        }
        self.limits.document(&actor.peer)?;
        let read = self.documents.read(client_id, self.clock.now()).await;
        let (mark, lifetime) = read.as_ref().map_or((FAILED, PAUSE), |(_, lifetime)| (FRESH, *lifetime));
        let client = match read {
            Ok((metadata, _)) => Ok(self.keep(actor, client_id, (known, metadata)).await?),
            Err(reason) => Err(reason),
        };
        self.documents.marks.put(client_id, mark, lifetime).await.map_err(unavailable)?;
        Ok(Some(client?))
    }

    /// Stores what was read, if it is new.
    async fn keep(
        &self,
        actor: &Actor,
        client_id: &str,
        (known, metadata): (Option<Client>, ClientMetadata),
    ) -> Result<Client, Failure> {
        let action = if known.is_some() { "client.change" } else { "client.register" };
        let before = known.as_ref().map(|known| known.metadata.clone());
        let client = Client {
            client_id: client_id.to_owned(),
            metadata,
            secret_hash: None,
            registration: Registration::Document,
            created_at: known.as_ref().map_or_else(|| self.clock.now(), |known| known.created_at),
            last_used_at: known.and_then(|known| known.last_used_at),
        };
        if before.as_ref() != Some(&client.metadata) {
            let actor = Actor { client_id: client_id.to_owned(), ..actor.clone() };
            let entry = self.entry(&actor, Deed::done(action, client_id, client.name()));
            self.stores.clients.put_document(&client, &entry).await?;
        }
        Ok(client)
    }
}
