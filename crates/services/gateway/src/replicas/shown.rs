//! Asking the others which server showed a resource to a caller.

use std::time::Duration;

use portico_ids::ServerId;
use tokio::sync::mpsc;

use super::letter::{Body, Showed, WhoShowed};
use super::{Outgoing, Replicas, Sent, locked};
use crate::access::Agent;

/// How long the others have for their answers.
const DEADLINE: Duration = Duration::from_millis(500);
/// Longer URIs are remembered nowhere.
const MAX_URI: usize = 2048;
/// Most questions at the same time.
const MAX_ASKED: usize = 1_000;

impl Replicas {
    /// Asks all others; only for what nobody lists and no template covers, because it costs a letter each.
    pub(crate) async fn who_showed(&self, agent: &Agent, uri: &str) -> Option<ServerId> {
        let peers = self.peers();
        if peers.is_empty() || uri.len() > MAX_URI {
            return None;
        }
        let number = self.random();
        let (sender, mut answers) = mpsc::channel(peers.len());
        {
            let mut questions = locked(&self.questions);
            if questions.len() >= MAX_ASKED {
                return None;
            }
            questions.insert(number, sender);
        }
        let question = WhoShowed {
            number,
            subject: agent.subject.clone(),
            endpoint: agent.place.id().to_owned(),
            uri: uri.to_owned(),
        };
        let ask = async {
            let mut waiting = 0;
            for peer in &peers {
                waiting += usize::from(self.send(peer, Body::WhoShowed(question.clone())).await == Sent::Yes);
            }
            for _ in 0..waiting {
                if let Some(server) = answers.recv().await? {
                    return Some(server);
                }
            }
            None
        };
        let found = tokio::time::timeout(DEADLINE, ask).await.ok().flatten();
        locked(&self.questions).remove(&number);
        found
    }

    /// Answers another replica that asks.
    pub(super) fn answer(&self, to: String, number: u64, server: Option<ServerId>) {
        let server = server.map(|server| server.to_string()).unwrap_or_default();
        self.post(Outgoing::To(to.into(), Body::Showed(Showed { number, server })));
    }

    /// Takes in the answer of another replica.
    pub(super) fn hear(&self, showed: &Showed) {
        if let Some(sender) = locked(&self.questions).get(&showed.number) {
            // There is room for one answer of each.
            let _ = sender.try_send(showed.server.parse().ok());
        }
    }
}
