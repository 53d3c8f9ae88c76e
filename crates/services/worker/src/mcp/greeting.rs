//! Which eras a server speaks, and what it offers in each.

use std::sync::Arc;
use std::time::Duration;

use portico_mcp_types::{Object, Revision, method, text_of};
use serde_json::Map;
use serde_json::value::RawValue;

use super::peer::{CallError, Peer, Voice};
use super::session::{Closer, Session};

/// Which lists a server says it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offers {
    pub(crate) tools: bool,
    pub(crate) prompts: bool,
    pub(crate) resources: bool,
}

impl Offers {
    /// Reads `capabilities` of a result of `initialize` or `server/discover`.
    pub(crate) fn parse(result: &Object<'_>) -> Result<Self, CallError> {
        let broken = CallError::NotMcp("capabilities must be a JSON object");
        let Some(raw) = result.get("capabilities") else { return Err(broken) };
        let capabilities = Object::parse(raw.get(), "capabilities").map_err(|_| broken)?;
        let has = |name: &str| capabilities.get(name).is_some_and(|value| value.get() != "null");
        Ok(Self { tools: has("tools"), prompts: has("prompts"), resources: has("resources") })
    }
}

/// The era that a server is known to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Stateless,
    Session,
}

/// What `server/discover` says.
#[derive(Debug)]
pub(crate) struct Discovered {
    /// Revisions that Portico knows.
    pub(crate) supported: Vec<Revision>,
    pub(crate) offers: Offers,
}

/// A server that answered.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) stateless: Option<Discovered>,
    pub(crate) session: Option<Session>,
    /// Whether both eras were tried, so that [`Greeting::versions`] is the whole truth.
    pub(crate) complete: bool,
}

impl Greeting {
    /// Tries both eras; one of them has to work.
    pub(crate) async fn of_both(
        peer: &Arc<Peer>,
        closer: &Closer,
        deadline: Duration,
    ) -> Result<Self, CallError> {
        let stateless = match discover(peer, deadline).await {
            Ok(discovered) => Some(discovered),
            Err(error) if error.may_be_other_era() => None,
            Err(error) => return Err(error),
        };
        let session = match Session::open(Arc::clone(peer), closer, deadline).await {
            Ok(session) => Some(session),
            Err(_) if stateless.is_some() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { stateless, session, complete: true })
    }

    /// Speaks the era that worked last time; tries both if the server seems to have changed.
    pub(crate) async fn of_era(
        era: Era,
        peer: &Arc<Peer>,
        closer: &Closer,
        deadline: Duration,
    ) -> Result<Self, CallError> {
        let greeted = match era {
            Era::Stateless => discover(peer, deadline).await.map(|discovered| Self {
                stateless: Some(discovered),
                session: None,
                complete: false,
            }),
            Era::Session => Session::open(Arc::clone(peer), closer, deadline).await.map(|session| Self {
                stateless: None,
                session: Some(session),
                complete: false,
            }),
        };
        match greeted {
            Err(error) if error.may_be_other_era() => Self::of_both(peer, closer, deadline).await,
            greeted => greeted,
        }
    }

    /// The stateless era is preferred: it leaves nothing behind at the server.
    pub(crate) fn era(&self) -> Era {
        if self.stateless.is_some() { Era::Stateless } else { Era::Session }
    }

    /// Every revision that the server speaks, newest first.
    pub(crate) fn versions(&self) -> Vec<Revision> {
        let mut versions: Vec<Revision> = Vec::new();
        if let Some(discovered) = &self.stateless {
            // A server may name older revisions that it does not serve at this address: a session proves them.
            let spoken = |version: &&Revision| version.is_stateless() || self.session.is_some();
            versions.extend(discovered.supported.iter().filter(spoken));
        }
        versions.extend(self.session.as_ref().map(|session| session.version));
        versions.sort_unstable_by(|a, b| b.cmp(a));
        versions.dedup();
        versions
    }
}

/// Asks a server of the stateless era what it is (2026-07-28, Discovery).
async fn discover(peer: &Peer, deadline: Duration) -> Result<Discovered, CallError> {
    let answer = peer.ask(Voice::Stateless, method::DISCOVER, Map::new(), deadline).await?;
    let result = answer.object()?;
    let listed = result.get("supportedVersions").map(RawValue::get).unwrap_or_default();
    let listed: Vec<&RawValue> =
        serde_json::from_str(listed).map_err(|_| CallError::NotMcp("supportedVersions must be a list"))?;
    let supported: Vec<Revision> =
        listed.iter().filter_map(|raw| Revision::parse(&text_of(raw)?).ok()).collect();
    if !supported.contains(&Revision::NEWEST) {
        return Err(CallError::NotMcp("it supports no stateless revision that Portico knows"));
    }
    Ok(Discovered { supported, offers: Offers::parse(&result)? })
}
