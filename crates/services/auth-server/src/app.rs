//! What every handler works with.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use portico_authn::Verifier;
use portico_authz::Authorizer;
use portico_call_limits::{Denial, DenialLog, Denials};
use portico_clock::SharedClock;
use portico_coordination::TtlMap;
use portico_db::StoreError;
use portico_ids::SharedRng;
use portico_sealing::{HandleSealer, Sealer};
use secrecy::SecretString;

use crate::actor::{Actor, Deed};
use crate::catalogue::Catalogue;
use crate::client_documents::ClientDocuments;
use crate::counters::Counters;
use crate::domain::resource::Resources;
use crate::limits::Limits;
use crate::passwords::Passwords;
use crate::settings::AuthServerSettings;
use crate::signing_keys::SigningKeys;
use crate::store::Stores;
use crate::store::change::{AuditEntry, Change};
use crate::trust::TrustBoard;

/// The parts of a built auth-server.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) settings: AuthServerSettings,
    pub(crate) initial_access_token: Option<SecretString>,
    pub(crate) stores: Stores,
    pub(crate) clock: SharedClock,
    pub(crate) rng: SharedRng,
    pub(crate) sealer: Sealer,
    pub(crate) handles: HandleSealer,
    pub(crate) keys: SigningKeys,
    pub(crate) trust: TrustBoard,
    pub(crate) verifier: Verifier,
    pub(crate) authorizer: Authorizer,
    pub(crate) catalogue: Catalogue,
    pub(crate) resources: Resources,
    pub(crate) passwords: Passwords,
    pub(crate) limits: Limits,
    /// Names of client assertions that were used.
    pub(crate) assertions: TtlMap,
    pub(crate) documents: ClientDocuments,
    /// Authorization requests that clients have pushed.
    pub(crate) pushed: TtlMap,
    pub(crate) counters: Counters,
    /// Which denials of gRPC calls become records of their own.
    pub(crate) denials: Denials<AuditEntry>,
}

/// How handlers hold it.
pub(crate) type Shared = Arc<App>;

impl App {
    /// Makes the audit row of a deed.
    pub(crate) fn entry(&self, actor: &Actor, deed: Deed<'_>) -> AuditEntry {
        actor.entry(&*self.clock, &*self.rng, deed)
    }

    /// Begins a change with its audit row.
    pub(crate) fn change(&self, actor: &Actor, deed: Deed<'_>) -> Change {
        Change::new(self.entry(actor, deed))
    }

    /// Makes a committed change count here at once. Failing is no reason to fail the change, which is done: the
    /// periodic refresh repairs it.
    pub(crate) async fn spread(&self) {
        if let Err(error) = self.trust.refresh().await {
            tracing::warn!(%error, "trust could not be refreshed after a change");
        }
    }

    /// Records what changed nothing: a refusal, a sign-in. It must not be lost, so failing fails the request.
    pub(crate) async fn record(&self, actor: &Actor, deed: Deed<'_>) -> Result<(), StoreError> {
        self.stores.audit.append(&self.entry(actor, deed)).await
    }

    /// Tells whether cookies can be marked as for https only.
    pub(crate) fn is_secure(&self) -> bool {
        self.resources.origin().starts_with("https://")
    }
}

impl DenialLog for App {
    type Record = AuditEntry;
    type Error = StoreError;

    async fn append(&self, records: Vec<AuditEntry>) -> Result<(), StoreError> {
        self.stores.audit.append_once(&records).await
    }
}

impl Denial for AuditEntry {
    fn principal(&self) -> &str {
        &self.principal
    }

    fn kind(&self) -> (&str, &str) {
        (&self.action, &self.reason)
    }

    fn add(&mut self, note: String) {
        self.name = note;
    }
}

/// Hashes a random secret for storage and look-up (AS-23).
pub(crate) fn secret_hash(secret: &str) -> Vec<u8> {
    digest(&SHA256, secret.as_bytes()).as_ref().to_vec()
}
