//! Events in Redis: a stream for each topic, a stream of dead letters for each of its groups.
//!
//! Taking an event is one script that does not block: first what was abandoned (`XPENDING … IDLE`, `XCLAIM`), then
//! what is new (`XREADGROUP`). Publishing rings a bell, a channel that every process with a consumer listens to, so
//! waiting needs no connection of its own and no event is handed to a wait that was cancelled. A bell that is not
//! heard costs [`LISTEN`].

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Script;
use tokio::{
    sync::{Mutex, Notify},
    time::sleep,
};

use super::{DeadLetter, Delivery, DeliveryId, StreamSettings};
use crate::{
    CoordinationError,
    server::{Keys, Operation, Question, Server, millis, part},
};

const CAPABILITY: &str = "events";
// At least once: an event that is published twice is delivered twice.
const PUBLISH: Operation = Operation::repeatable(CAPABILITY, "publish");
const JOIN: Operation = Operation::repeatable(CAPABILITY, "subscribe");
// An event that was taken and not received comes back after the visibility timeout, a second one would not be next.
const NEXT: Operation = Operation::once(CAPABILITY, "next");
const ACK: Operation = Operation::repeatable(CAPABILITY, "ack");
const DEAD_LETTERS: Operation = Operation::repeatable(CAPABILITY, "dead_letters");

/// How long a consumer waits for the bell before it looks by itself.
pub(super) const LISTEN: Duration = Duration::from_secs(5);
/// After this time a group forgets a consumer that has nothing pending.
const FORGET: Duration = Duration::from_hours(24);
/// Pause after an answer of Redis that was an error, for example while it has no memory left.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub(super) struct RemoteStream {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: Server,
    settings: StreamSettings,
    publish: Script,
    join: Script,
    next: Script,
    ack: Script,
}

impl RemoteStream {
    pub(super) fn new(server: Server, settings: StreamSettings) -> Self {
        let shared = Shared {
            server,
            settings,
            publish: Script::new(concat!(include_str!("trim.lua"), include_str!("publish.lua"))),
            join: Script::new(include_str!("join.lua")),
            next: Script::new(concat!(include_str!("trim.lua"), include_str!("next.lua"))),
            ack: Script::new(concat!(include_str!("trim.lua"), include_str!("ack.lua"))),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) async fn publish(
        &self,
        topic: &str,
        key: &str,
        payload: &[u8],
    ) -> Result<(), CoordinationError> {
        let Shared { server, settings, publish, .. } = &*self.shared;
        let mut script = publish.prepare_invoke();
        script.key(stream_key(server.keys(), topic));
        script.arg(settings.capacity).arg(key).arg(payload).arg(bell(server.keys(), topic));
        let published: bool = server.ask(PUBLISH, Question::Script(&script)).await?;
        if published {
            return Ok(());
        }
        Err(CoordinationError::Full { what: format!("topic {topic}"), capacity: settings.capacity })
    }

    pub(super) async fn subscribe(
        &self,
        topic: &str,
        group: &str,
        consumer: &str,
    ) -> Result<RemoteConsumer, CoordinationError> {
        let server = &self.shared.server;
        let [stream, dead] = keys(server.keys(), topic, group);
        let mut script = self.shared.join.prepare_invoke();
        script.key(&stream).arg(group).arg(millis(FORGET));
        if let Err(error) = server.ask::<()>(JOIN, Question::Script(&script)).await {
            // Taking the first event makes the group as well, once Redis is there.
            tracing::debug!(error = %error, event.topic = topic, event.group = group, "the group is made later");
        }
        Ok(RemoteConsumer {
            bell: server.channels().bell(&bell(server.keys(), topic)),
            member: Arc::new(Member {
                shared: Arc::clone(&self.shared),
                topic: topic.to_owned(),
                stream,
                dead,
                group: group.to_owned(),
                name: consumer.to_owned(),
            }),
            taking: Mutex::default(),
        })
    }

    pub(super) async fn dead_letters(
        &self,
        topic: &str,
        group: &str,
    ) -> Result<Vec<DeadLetter>, CoordinationError> {
        let [_, dead] = keys(self.shared.server.keys(), topic, group);
        let mut range = redis::cmd("XRANGE");
        range.arg(dead).arg("-").arg("+").arg("COUNT").arg(self.shared.settings.capacity);
        let letters: Vec<Letter> = self.shared.server.ask(DEAD_LETTERS, Question::Command(&range)).await?;
        Ok(letters
            .into_iter()
            .filter_map(|(_, (_, id, _, key, _, payload))| {
                Some(DeadLetter { id: delivery_id(&id)?, key, payload })
            })
            .collect())
    }
}

type TakeFuture = Pin<Box<dyn Future<Output = Result<Taken, CoordinationError>> + Send>>;

/// A dead letter as its stream holds it: its own id, then names and values of the fields.
type Letter = (String, (String, String, String, String, String, Bytes));

/// An event that is being taken. It is kept over a cancelled wait, so that the event is not lost with it.
#[derive(Default)]
struct Taking(Option<TakeFuture>);

impl fmt::Debug for Taking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taking").field(&self.0.is_some()).finish()
    }
}

/// An event as the script returns it: id, key, payload, attempt.
type Event = (String, String, Bytes, u32);

struct Taken {
    delivery: Option<Delivery>,
    look_again: Duration,
}

#[derive(Debug)]
pub(super) struct RemoteConsumer {
    member: Arc<Member>,
    bell: Arc<Notify>,
    /// Held for the time of one question: two waits of one consumer ask one after the other.
    taking: Mutex<Taking>,
}

#[derive(Debug)]
struct Member {
    shared: Arc<Shared>,
    topic: String,
    stream: String,
    dead: String,
    group: String,
    name: String,
}

impl RemoteConsumer {
    pub(super) async fn next(&self) -> Result<Delivery, CoordinationError> {
        let rung = self.bell.notified();
        tokio::pin!(rung);
        loop {
            // Listening starts before looking, so an event that is published in between still wakes this.
            rung.as_mut().enable();
            let look_again = match self.take().await {
                Ok(Taken { delivery: Some(delivery), .. }) => return Ok(delivery),
                Ok(Taken { look_again, .. }) => look_again,
                Err(error) => {
                    tracing::debug!(error = %error, event.group = self.member.group, "waiting for Redis");
                    sleep(PAUSE).await;
                    self.member.shared.server.up().await;
                    continue;
                }
            };
            tokio::select! {
                () = &mut rung => rung.set(self.bell.notified()),
                () = sleep(look_again) => {}
            }
        }
    }

    async fn take(&self) -> Result<Taken, CoordinationError> {
        let mut taking = self.taking.lock().await;
        let question = taking.0.get_or_insert_with(|| {
            let member = Arc::clone(&self.member);
            Box::pin(async move { member.take().await })
        });
        let taken = question.await;
        taking.0 = None;
        taken
    }

    pub(super) async fn ack(&self, id: DeliveryId) -> Result<(), CoordinationError> {
        let Shared { server, ack, .. } = &*self.member.shared;
        let mut script = ack.prepare_invoke();
        script.key(&self.member.stream).arg(&self.member.group);
        script.arg(format!("{}-{}", id.time, id.sequence));
        server.ask(ACK, Question::Script(&script)).await
    }
}

impl Member {
    async fn take(&self) -> Result<Taken, CoordinationError> {
        let Shared { server, settings, next, .. } = &*self.shared;
        let mut script = next.prepare_invoke();
        script.key(&self.stream).key(&self.dead).arg(&self.group).arg(&self.name);
        script.arg(millis(settings.visibility_timeout)).arg(settings.max_attempts).arg(settings.capacity);
        let (event, letters, keys, wait): (Option<Event>, usize, Vec<String>, i64) =
            server.ask(NEXT, Question::Script(&script)).await?;
        if letters > 0 {
            server.count_dead_letters(letters);
            tracing::error!(
                event.topic = self.topic,
                event.group = self.group,
                event.count = letters,
                event.keys = keys.join(" "),
                "events became dead letters: nobody could handle them, a resync has to make up for it"
            );
        }
        let delivery = event.and_then(|(id, key, payload, attempt)| {
            Some(Delivery { id: delivery_id(&id)?, key, payload, attempt })
        });
        let look_again = u64::try_from(wait).map_or(LISTEN, Duration::from_millis).min(LISTEN);
        Ok(Taken { delivery, look_again })
    }
}

/// The stream of a topic and the dead letters of one of its groups.
fn keys(keys: &Keys, topic: &str, group: &str) -> [String; 2] {
    let stream = stream_key(keys, topic);
    let dead = part(&stream, &["dead", group]);
    [stream, dead]
}

fn stream_key(keys: &Keys, topic: &str) -> String {
    keys.name("topic", &[topic])
}

/// The channel that is told of new events; channels have no slots.
fn bell(keys: &Keys, topic: &str) -> String {
    keys.name("bell", &[topic])
}

fn delivery_id(text: &str) -> Option<DeliveryId> {
    let (time, sequence) = text.split_once('-')?;
    Some(DeliveryId { time: time.parse().ok()?, sequence: sequence.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::slot;

    #[test]
    fn both_streams_of_a_group_are_in_one_slot() {
        for (topic, group) in [("registry.events", "worker"), ("a}b", "{c"), ("", "")] {
            let [stream, dead] = keys(&Keys::new("deployment"), topic, group);
            assert_eq!(slot(&stream), slot(&dead), "{topic} {group}");
        }
    }
}
