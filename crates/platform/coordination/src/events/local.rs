//! Events inside this process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use super::{
    DeadLetter, Delivery, DeliveryId, StreamSettings,
    topic::{Next, Topic},
};
use crate::{CoordinationError, lock};

#[derive(Clone, Debug)]
pub(super) struct LocalStream {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: StreamSettings,
    topics: Mutex<HashMap<String, Arc<Channel>>>,
}

/// A topic with the bell that wakes its consumers.
#[derive(Debug)]
struct Channel {
    name: String,
    topic: Mutex<Topic>,
    published: Notify,
}

impl Channel {
    fn topic(&self) -> MutexGuard<'_, Topic> {
        lock(&self.topic)
    }
}

impl LocalStream {
    pub(super) fn new(settings: StreamSettings) -> Self {
        Self { shared: Arc::new(Shared { settings, topics: Mutex::default() }) }
    }

    pub(super) fn publish(&self, topic: &str, key: &str, payload: Bytes) -> Result<(), CoordinationError> {
        let channel = self.channel(topic);
        if !channel.topic().publish(key, payload) {
            let capacity = self.shared.settings.capacity;
            return Err(CoordinationError::Full { what: format!("topic {}", channel.name), capacity });
        }
        channel.published.notify_waiters();
        Ok(())
    }

    pub(super) fn subscribe(&self, topic: &str, group: &str) -> LocalConsumer {
        let channel = self.channel(topic);
        channel.topic().join(group);
        LocalConsumer { channel, group: group.to_owned() }
    }

    pub(super) fn dead_letters(&self, topic: &str, group: &str) -> Vec<DeadLetter> {
        self.channel(topic).topic().dead_letters(group)
    }

    fn channel(&self, name: &str) -> Arc<Channel> {
        let mut topics = lock(&self.shared.topics);
        if let Some(channel) = topics.get(name) {
            return Arc::clone(channel);
        }
        let channel = Arc::new(Channel {
            name: name.to_owned(),
            topic: Mutex::new(Topic::new(self.shared.settings.clone())),
            published: Notify::new(),
        });
        topics.insert(name.to_owned(), Arc::clone(&channel));
        channel
    }
}

#[derive(Debug)]
pub(super) struct LocalConsumer {
    channel: Arc<Channel>,
    group: String,
}

impl LocalConsumer {
    pub(super) async fn next(&self) -> Delivery {
        let published = self.channel.published.notified();
        tokio::pin!(published);
        loop {
            // Listening starts before looking, so an event that is published in between still wakes this.
            published.as_mut().enable();
            let next = self.channel.topic().next(&self.group, Instant::now());
            let wake_at = match next {
                Next::Event(delivery) => return delivery,
                Next::Nothing { redeliver_at } => redeliver_at,
            };
            let redelivery = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut published => published.set(self.channel.published.notified()),
                () = redelivery => {}
            }
        }
    }

    pub(super) fn ack(&self, id: DeliveryId) {
        self.channel.topic().ack(&self.group, id);
    }
}
