//! Sessions at servers, which are always closed again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::HeaderValue;
use portico_mcp_types::{Revision, method, text_of};
use serde_json::json;
use tokio::sync::mpsc;

use super::greeting::Offers;
use super::peer::{CallError, Peer, Voice, client_info};
use crate::metrics::WorkerMetrics;

/// How many sessions wait to be closed; more are left to expire at their servers.
const WAITING: usize = 1024;
/// How many are closed at once.
const AT_ONCE: usize = 32;
/// How long a server may take to close one.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Where sessions go to be closed.
#[derive(Debug, Clone)]
pub(crate) struct Closer {
    farewells: mpsc::Sender<Farewell>,
    metrics: WorkerMetrics,
}

/// A session to close.
#[derive(Debug)]
pub(crate) struct Farewell {
    peer: Arc<Peer>,
    id: HeaderValue,
    version: Revision,
}

impl Closer {
    pub(crate) fn new(metrics: WorkerMetrics) -> (Self, mpsc::Receiver<Farewell>) {
        let (farewells, receiver) = mpsc::channel(WAITING);
        (Self { farewells, metrics }, receiver)
    }
}

/// An open session; dropping it, for whatever reason, hands it to the closer.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) version: Revision,
    pub(crate) offers: Offers,
    id: Option<HeaderValue>,
    peer: Arc<Peer>,
    closer: Closer,
}

impl Session {
    /// Opens a session at the newest revision that has sessions, or at the older one that the server prefers
    /// (2025-11-25, Lifecycle, Version Negotiation).
    ///
    /// A session whose id never arrives (deadline, cancellation) is left to expire at the server.
    pub(crate) async fn open(
        peer: Arc<Peer>,
        closer: &Closer,
        deadline: Duration,
    ) -> Result<Self, CallError> {
        let params = json!({
            "protocolVersion": Revision::NEWEST_SESSION.as_str(),
            "capabilities": {},
            "clientInfo": client_info(),
        });
        let params = params.as_object().cloned().unwrap_or_default();
        let answer = peer.ask(Voice::Opening, method::INITIALIZE, params, deadline).await?;
        // From here on the session is closed, whatever else is wrong with the answer.
        let mut session = Self {
            version: Revision::NEWEST_SESSION,
            offers: Offers::default(),
            id: answer.session.clone(),
            peer,
            closer: closer.clone(),
        };
        let result = answer.object()?;
        session.version = result
            .get("protocolVersion")
            .and_then(text_of)
            .and_then(|text| Revision::parse(&text).ok())
            .filter(|version| !version.is_stateless())
            .ok_or(CallError::NotMcp("it negotiates no protocol version that Portico knows"))?;
        session.offers = Offers::parse(&result)?;
        Ok(session)
    }

    /// Says that the client is ready, which has to precede every other request (2025-11-25, Lifecycle).
    pub(crate) async fn begin(&self, deadline: Duration) -> Result<(), CallError> {
        self.peer.tell(self.voice(), method::INITIALIZED, deadline).await
    }

    pub(crate) fn voice(&self) -> Voice<'_> {
        Voice::Session { id: self.id.as_ref(), version: self.version }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let farewell = Farewell { peer: Arc::clone(&self.peer), id, version: self.version };
        if self.closer.farewells.try_send(farewell).is_err() {
            self.closer.metrics.abandoned_sessions.inc();
        }
    }
}

/// Closes sessions until nobody can open one any more, which is after the last watcher ended.
pub(crate) async fn close_sessions(mut farewells: mpsc::Receiver<Farewell>) -> Result<(), Infallible> {
    let mut closing = FuturesUnordered::new();
    loop {
        tokio::select! {
            farewell = farewells.recv(), if closing.len() < AT_ONCE => match farewell {
                Some(farewell) => closing.push(close(farewell)),
                None => break,
            },
            Some(()) = closing.next() => {}
        }
    }
    while closing.next().await.is_some() {}
    Ok(())
}

async fn close(farewell: Farewell) {
    farewell.peer.end(&farewell.id, farewell.version, CLOSE_DEADLINE).await;
}
