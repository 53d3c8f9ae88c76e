//! An at-least-once event stream with consumer groups.

mod local;
mod remote;
#[cfg(test)]
mod tests;
mod topic;

use std::time::Duration;

use bytes::Bytes;

use crate::{CoordinationError, server::Server};
use local::{LocalConsumer, LocalStream};
use remote::{RemoteConsumer, RemoteStream};

/// The most bytes of one event; what is larger belongs into a database, and the event tells where.
const PAYLOAD_LIMIT: usize = 1 << 20;

/// Limits of every topic of a stream.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// How long a delivered event may stay unacknowledged before another consumer gets it.
    pub visibility_timeout: Duration,
    /// How often an event is delivered before it becomes a dead letter.
    pub max_attempts: u32,
    /// How many events a topic holds, and how many dead letters a group keeps.
    pub capacity: usize,
}

impl Default for StreamSettings {
    fn default() -> Self {
        Self { visibility_timeout: Duration::from_secs(30), max_attempts: 5, capacity: 4096 }
    }
}

/// Names one event within its topic; later events have larger ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The server's milliseconds since 1970 with Redis, 0 in the process.
    time: u64,
    sequence: u64,
}

/// One event as a consumer sees it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What to acknowledge.
    pub id: DeliveryId,
    /// What the event is about, for example the id of a record.
    pub key: String,
    /// The event itself.
    pub payload: Bytes,
    /// 1 for the first delivery of this event to the group.
    pub attempt: u32,
}

/// An event that a group failed to acknowledge as often as the settings allow.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event's place in its topic.
    pub id: DeliveryId,
    /// What the event is about.
    pub key: String,
    /// The event itself.
    pub payload: Bytes,
}

/// Publishes events to topics and lets groups of consumers share them.
///
/// Every group gets every event at least once, a first delivery in the order of publication. A new group begins
/// with the oldest event that its topic still holds. A topic drops an event once every group has acknowledged it
/// (without any group, the oldest one when there is no room); it refuses a new one while a group is behind by the
/// whole capacity, so nothing is lost silently: the publisher keeps the event, as an outbox does.
///
/// With Redis the visibility timeout runs by the server's clock. A Redis that forgot everything begins anew: groups
/// come back with what is published from then on, and what was lost is repaired by a resync.
#[derive(Clone, Debug)]
pub struct EventStream {
    backend: Backend,
}

#[derive(Clone, Debug)]
enum Backend {
    Local(LocalStream),
    Remote(RemoteStream),
}

impl EventStream {
    pub(crate) fn in_process(settings: StreamSettings) -> Self {
        Self { backend: Backend::Local(LocalStream::new(settings)) }
    }

    pub(crate) fn in_redis(server: Server, settings: StreamSettings) -> Self {
        Self { backend: Backend::Remote(RemoteStream::new(server, settings)) }
    }

    /// Appends an event to a topic.
    pub async fn publish(&self, topic: &str, key: &str, payload: Bytes) -> Result<(), CoordinationError> {
        let length = key.len() + payload.len();
        if length > PAYLOAD_LIMIT {
            return Err(CoordinationError::TooLarge { length, limit: PAYLOAD_LIMIT });
        }
        match &self.backend {
            Backend::Local(stream) => stream.publish(topic, key, payload),
            Backend::Remote(stream) => stream.publish(topic, key, &payload).await,
        }
    }

    /// Joins a group as the named consumer; the group is made if it is new.
    ///
    /// A group remembers its consumers for a day: the name should outlive a restart, or at least not be a new one
    /// for every subscription.
    pub async fn subscribe(
        &self,
        topic: &str,
        group: &str,
        consumer: &str,
    ) -> Result<Consumer, CoordinationError> {
        let member = match &self.backend {
            Backend::Local(stream) => Member::Local(stream.subscribe(topic, group)),
            Backend::Remote(stream) => Member::Remote(stream.subscribe(topic, group, consumer).await?),
        };
        Ok(Consumer { member })
    }

    /// Returns what a group could not handle, oldest first.
    pub async fn dead_letters(&self, topic: &str, group: &str) -> Result<Vec<DeadLetter>, CoordinationError> {
        match &self.backend {
            Backend::Local(stream) => Ok(stream.dead_letters(topic, group)),
            Backend::Remote(stream) => stream.dead_letters(topic, group).await,
        }
    }
}

/// One member of a consumer group.
///
/// Dropping it leaves the group in place: what it had not acknowledged goes to other members after the
/// visibility timeout, and what is published meanwhile waits.
#[derive(Debug)]
pub struct Consumer {
    member: Member,
}

#[derive(Debug)]
enum Member {
    Local(LocalConsumer),
    Remote(RemoteConsumer),
}

impl Consumer {
    /// Waits for the next event of the group; cancelling the wait loses nothing. While Redis cannot be reached this
    /// goes on waiting.
    pub async fn next(&self) -> Result<Delivery, CoordinationError> {
        match &self.member {
            Member::Local(member) => Ok(member.next().await),
            Member::Remote(member) => member.next().await,
        }
    }

    /// Marks an event as handled; late or repeated acknowledgements are harmless.
    pub async fn ack(&self, id: DeliveryId) -> Result<(), CoordinationError> {
        match &self.member {
            Member::Local(member) => {
                member.ack(id);
                Ok(())
            }
            Member::Remote(member) => member.ack(id).await,
        }
    }
}
