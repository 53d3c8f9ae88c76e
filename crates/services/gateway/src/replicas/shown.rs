//! Asking the others which server showed a resource to a caller.

use portico_ids::ServerId;
use tokio::time::timeout_at;

use super::letter::{Body, Showed, WhoShowed};
use super::{Outgoing, Replicas, Sent};
use crate::access::Agent;

/// Longer URIs are remembered nowhere.
const MAX_URI: usize = 2048;

impl Replicas {
    /// Asks all others; only for what nobody lists and no template covers, because it costs a letter each.
    pub(crate) async fn who_showed(&self, agent: &Agent, uri: &str) -> Option<ServerId> {
        let peers = self.peers();
        if peers.is_empty() || uri.len() > MAX_URI {
            return None;
        }
        let question = self.question(peers.len())?;
        let who_showed = WhoShowed {
            number: question.number,
            subject: agent.subject.clone(),
            endpoint: agent.place.id().to_owned(),
            uri: uri.to_owned(),
        };
        let ask = async {
            let mut asked = 0;
            for peer in &peers {
                asked += usize::from(self.send(peer, Body::WhoShowed(who_showed.clone())).await == Sent::Yes);
            }
            asked
        };
        let asked = timeout_at(question.until, ask).await.ok()?;
        question.first_named(asked).await
    }

    /// Answers another replica that asks.
    pub(super) fn answer(&self, to: String, number: u64, server: Option<ServerId>) {
        let server = server.map(|server| server.to_string()).unwrap_or_default();
        self.post(Outgoing::To(to.into(), Body::Showed(Showed { number, server })));
    }
}
