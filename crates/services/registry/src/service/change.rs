//! One change: rows, tombstones, events and audit rows in one transaction.

use chrono::{DateTime, Utc};
use portico_db::outbox::{self, Event as Outgoing};
use portico_db::{Conn, Tx, idempotency, revision};
use portico_ids::{AuditId, EventId};
use portico_proto_events as events;
use prost::Message;

use super::Service;
use super::access::Actor;
use crate::domain::audit::{AuditRecord, Outcome};
use crate::errors::RegistryError;
use crate::store::{audit, tombstones};

/// A transaction that holds the revision counter from its first statement on.
///
/// So writers are serial on both databases: what a change checks (a collision, a claim to a secret) still holds
/// when it commits, and revision order is commit order. Nothing remote is called while it is open.
pub(crate) struct Change<'s> {
    service: &'s Service,
    actor: &'s Actor,
    tx: Tx,
    revision: i64,
    now: DateTime<Utc>,
}

/// A create that may be sent again: the answer of the first time is kept for 24 hours.
#[derive(Debug)]
pub(crate) struct Once {
    pub(crate) scope: String,
    pub(crate) request_id: String,
    pub(crate) digest: Vec<u8>,
}

impl Once {
    fn request(&self) -> idempotency::Request<'_> {
        idempotency::Request { scope: &self.scope, request_id: &self.request_id, digest: &self.digest }
    }
}

impl Service {
    pub(crate) async fn change<'s>(&'s self, actor: &'s Actor) -> Result<Change<'s>, RegistryError> {
        let mut tx = self.db.begin_write().await?;
        let revision = revision::take(&mut tx).await?;
        Ok(Change { service: self, actor, tx, revision, now: self.clock.now() })
    }

    /// Makes an audit record of what `actor` did or tried.
    pub(crate) fn record(&self, actor: &Actor, action: &str, target: &str) -> AuditRecord {
        AuditRecord {
            id: AuditId::generate(&*self.clock, &*self.rng),
            occurred_at: self.clock.now(),
            service: "registry".to_owned(),
            principal: actor.id().to_string(),
            client_id: actor.client_id().to_owned(),
            action: action.to_owned(),
            target: target.to_owned(),
            name: String::new(),
            outcome: Outcome::Allowed,
            reason: "ok".to_owned(),
            correlation_id: actor.origin.correlation_id.clone(),
            trace_id: actor.origin.trace_id.clone(),
            duration_ms: 0,
            request_bytes: 0,
            response_bytes: 0,
            peer: actor.origin.peer.clone(),
        }
        .cleaned()
    }
}

impl Change<'_> {
    pub(crate) fn conn(&mut self) -> Conn<'_> {
        Conn::from(&mut self.tx)
    }

    pub(crate) const fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) const fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// Claims a request id, or answers what the first request with it got.
    pub(crate) async fn earlier<A: Message + Default>(
        &mut self,
        once: Option<&Once>,
    ) -> Result<Option<A>, RegistryError> {
        let Some(once) = once else { return Ok(None) };
        let Some(answer) = idempotency::begin(&mut self.tx, &once.request(), self.now).await? else {
            return Ok(None);
        };
        // An answer of a type that changed since is as good as none was kept: the id stays claimed.
        A::decode(answer.as_slice()).map(Some).map_err(|_| RegistryError::RequestIdReused)
    }

    /// Keeps the answer for repetitions.
    pub(crate) async fn keep(
        &mut self,
        once: Option<&Once>,
        answer: &impl Message,
    ) -> Result<(), RegistryError> {
        if let Some(once) = once {
            idempotency::finish(&mut self.tx, &once.request(), &answer.encode_to_vec()).await?;
        }
        Ok(())
    }

    /// Tells the catalogue's followers that an item is gone.
    pub(crate) async fn bury(&mut self, key: &str) -> Result<(), RegistryError> {
        Ok(tombstones::add(Conn::from(&mut self.tx), key, self.revision, self.now).await?)
    }

    /// Tells the event stream; `key` is the id of what the event is about.
    pub(crate) async fn publish(
        &mut self,
        key: &str,
        payload: events::event::Payload,
    ) -> Result<(), RegistryError> {
        let event = events::Event {
            id: EventId::generate(&*self.service.clock, &*self.service.rng).to_string(),
            occurred_at: Some(super::events::timestamp(self.now)),
            revision: self.revision,
            payload: Some(payload),
        };
        let outgoing = Outgoing { topic: events::TOPIC, key, payload: &event.encode_to_vec() };
        Ok(outbox::append(&mut self.tx, &outgoing, self.now).await?)
    }

    /// Writes who did this, to what.
    pub(crate) async fn audit(&mut self, action: &str, target: &str) -> Result<(), RegistryError> {
        let record = self.service.record(self.actor, action, target);
        audit::append(Conn::from(&mut self.tx), &[record]).await?;
        Ok(())
    }

    /// Makes everything durable, then wakes those who wait for it.
    pub(crate) async fn commit(self) -> Result<(), RegistryError> {
        self.tx.commit().await?;
        self.service.bell.ring();
        // Commits can finish out of order here; the newest revision wins.
        self.service.wake.send_if_modified(|newest| {
            let newer = self.revision > *newest;
            *newest = self.revision.max(*newest);
            newer
        });
        Ok(())
    }
}
