//! Calls that any instance of a server may take: where one takes no connection, another one gets the call at once.

use std::sync::Arc;
use std::time::Duration;

use portico_ids::InstanceId;
use tokio::time::Instant;

use super::{Answer, HOUSEKEEPING, Outgoing, Unanswered, Upstream, Within};
use crate::call::Call;
use crate::catalogue::{Eras, Instance, Server};
use crate::metrics::Retry;
use crate::refusal::Refusal;

/// How long an instance may take to take a connection while another one could have the call (Linkerd's
/// `outboundConnectTimeout`); with none left it has the whole of the connect timeout.
const ATTEMPT: Duration = Duration::from_secs(1);

/// The instances of a server that speak an era: the one that is to take a call, and those that can take its place.
#[derive(Debug)]
pub(crate) struct Candidates {
    server: Arc<Server>,
    speaks: fn(Eras) -> bool,
    random: u32,
    instance: Arc<Instance>,
}

impl Candidates {
    /// `None` if no instance can be called.
    pub(crate) fn of(server: &Arc<Server>, speaks: fn(Eras) -> bool, random: u32) -> Option<Self> {
        let instance = Arc::clone(server.pick(speaks, random)?);
        Some(Self { server: Arc::clone(server), speaks, random, instance })
    }

    /// The same, but the one that took the last call comes first while it takes connections.
    pub(crate) fn near(
        last: InstanceId,
        server: &Arc<Server>,
        speaks: fn(Eras) -> bool,
        random: u32,
    ) -> Option<Self> {
        match server.good(last, speaks) {
            Some(instance) => {
                let (server, instance) = (Arc::clone(server), Arc::clone(instance));
                Some(Self { server, speaks, random, instance })
            }
            None => Self::of(server, speaks, random),
        }
    }

    /// The one that is to take the next call; after a call, the one that took it.
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    fn are_several(&self) -> bool {
        self.server.instances.len() > 1
    }

    /// How long the call may take at the instance whose turn it is, the last one of `tried`.
    fn within(&self, answer: Duration, tried: &[InstanceId]) -> Within {
        let may_move = self.server.has_good_other(self.speaks, tried) && self.server.retries.covers_one();
        Within { connection: Some(if may_move { ATTEMPT.min(answer) } else { answer }), answer }
    }
}

impl Upstream {
    /// Sends a call to the instance that was picked; to another one if it takes no connection, and so has seen nothing of
    /// the call. All of it happens within the time that the call has.
    pub(crate) async fn exchange_with_any(
        &self,
        candidates: &mut Candidates,
        outgoing: Outgoing,
        call: &Call,
    ) -> Result<Answer, Refusal> {
        self.send_to_any(candidates, outgoing, call, |instance| self.answer_timeout(instance)).await
    }

    /// The same for something that no agent waits for long for.
    pub(crate) async fn housekeeping_with_any(
        &self,
        candidates: &mut Candidates,
        outgoing: Outgoing,
        call: &Call,
    ) -> Result<Answer, Refusal> {
        self.send_to_any(candidates, outgoing, call, |_| HOUSEKEEPING).await
    }

    async fn send_to_any(
        &self,
        candidates: &mut Candidates,
        outgoing: Outgoing,
        call: &Call,
        timeout: impl Fn(&Instance) -> Duration,
    ) -> Result<Answer, Refusal> {
        let first = Arc::clone(&candidates.instance);
        if !candidates.are_several() {
            return Ok(self.send(&first, outgoing, Within::answer(timeout(&first))).await?);
        }
        candidates.server.retries.deposit();
        let begun = Instant::now();
        let mut tried = Vec::new();
        let mut left = timeout(&first);
        loop {
            let is_retry = !tried.is_empty();
            tried.push(candidates.instance.id);
            let within = candidates.within(left, &tried);
            let sent = self.send(&candidates.instance, outgoing.clone(), within).await;
            if is_retry {
                self.metrics.retried(if sent.is_ok() { Retry::Answered } else { Retry::Failed });
            }
            let unsent = match sent {
                Ok(answer) => return Ok(answer),
                Err(Unanswered::Sent(refusal)) => return Err(refusal),
                Err(Unanswered::Unsent(refusal)) => refusal,
            };
            let other = other(candidates, &tried).and_then(|other| {
                left = timeout(&other).saturating_sub(begun.elapsed());
                may_retry(candidates, left).map(|()| other)
            });
            match other {
                Ok(other) => candidates.instance = other,
                Err(why) => {
                    self.metrics.retried(why);
                    return Err(unsent);
                }
            }
            call.note_retry();
        }
    }
}

fn other(candidates: &Candidates, tried: &[InstanceId]) -> Result<Arc<Instance>, Retry> {
    let other = candidates.server.pick_other(candidates.speaks, tried, candidates.random);
    other.map(Arc::clone).ok_or(Retry::NoInstance)
}

/// The budget comes last: nothing is taken from it for a retry that is not made.
fn may_retry(candidates: &Candidates, left: Duration) -> Result<(), Retry> {
    if left.is_zero() {
        return Err(Retry::NoTime);
    }
    if candidates.server.retries.withdraw() { Ok(()) } else { Err(Retry::NoBudget) }
}
