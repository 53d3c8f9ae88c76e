//! One topic's log and the place of each group in it, without any waiting.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use tokio::time::Instant;

use super::{DeadLetter, Delivery, DeliveryId, StreamSettings};

#[derive(Debug)]
pub(super) struct Topic {
    settings: StreamSettings,
    /// Events from `first` on, without gaps.
    log: VecDeque<Entry>,
    first: u64,
    groups: HashMap<String, Group>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    payload: Bytes,
}

#[derive(Debug)]
struct Group {
    /// The next event that was never delivered to the group.
    cursor: u64,
    /// Delivered and not acknowledged.
    pending: BTreeMap<u64, Pending>,
    dead: VecDeque<DeadLetter>,
}

#[derive(Debug)]
struct Pending {
    redeliver_at: Instant,
    attempt: u32,
}

/// What a group has for a consumer that asks now.
#[derive(Debug)]
pub(super) enum Next {
    Event(Delivery),
    Nothing {
        /// When the earliest delivered event becomes available again.
        redeliver_at: Option<Instant>,
    },
}

impl Topic {
    pub(super) fn new(settings: StreamSettings) -> Self {
        Self { settings, log: VecDeque::new(), first: 1, groups: HashMap::new() }
    }

    /// Appends an event; false when a group is so far behind that there is no room.
    pub(super) fn publish(&mut self, key: &str, payload: Bytes) -> bool {
        if self.log.len() >= self.settings.capacity {
            self.trim();
        }
        if self.log.len() >= self.settings.capacity {
            if !self.groups.is_empty() {
                return false;
            }
            self.log.pop_front();
            self.first += 1;
        }
        self.log.push_back(Entry { key: key.to_owned(), payload });
        true
    }

    /// Makes the group if it is new; it starts with the oldest event that is still here.
    pub(super) fn join(&mut self, group: &str) {
        let cursor = self.first;
        self.groups.entry(group.to_owned()).or_insert_with(|| Group {
            cursor,
            pending: BTreeMap::new(),
            dead: VecDeque::new(),
        });
    }

    /// Takes the next event for a group: one that was abandoned first, otherwise the next new one.
    pub(super) fn next(&mut self, group: &str, now: Instant) -> Next {
        let Some(state) = self.groups.get_mut(group) else {
            return Next::Nothing { redeliver_at: None };
        };
        let redeliver_at = now + self.settings.visibility_timeout;
        let abandoned: Vec<u64> =
            state.pending.iter().filter(|(_, p)| p.redeliver_at <= now).map(|(id, _)| *id).collect();
        for id in abandoned {
            let Some(pending) = state.pending.get_mut(&id) else { continue };
            let Some(entry) = entry(&self.log, self.first, id) else { continue };
            if pending.attempt < self.settings.max_attempts {
                *pending = Pending { redeliver_at, attempt: pending.attempt + 1 };
                return Next::Event(entry.delivery(id, pending.attempt));
            }
            state.pending.remove(&id);
            if state.dead.len() >= self.settings.capacity {
                state.dead.pop_front();
            }
            state.dead.push_back(entry.dead_letter(id));
            tracing::error!(event.key = %entry.key, event.group = group, "event became a dead letter");
        }
        if let Some(entry) = entry(&self.log, self.first, state.cursor) {
            let id = state.cursor;
            state.cursor += 1;
            state.pending.insert(id, Pending { redeliver_at, attempt: 1 });
            return Next::Event(entry.delivery(id, 1));
        }
        Next::Nothing { redeliver_at: state.pending.values().map(|p| p.redeliver_at).min() }
    }

    pub(super) fn ack(&mut self, group: &str, id: DeliveryId) {
        if let Some(state) = self.groups.get_mut(group) {
            state.pending.remove(&id.sequence);
        }
        self.trim();
    }

    pub(super) fn dead_letters(&self, group: &str) -> Vec<DeadLetter> {
        self.groups.get(group).map(|state| state.dead.iter().cloned().collect()).unwrap_or_default()
    }

    /// Drops what every group has finished with.
    fn trim(&mut self) {
        let needed = self
            .groups
            .values()
            .map(|g| g.pending.keys().next().map_or(g.cursor, |id| *id.min(&g.cursor)))
            .min();
        while let Some(needed) = needed
            && self.first < needed
            && self.log.pop_front().is_some()
        {
            self.first += 1;
        }
    }
}

fn entry(log: &VecDeque<Entry>, first: u64, id: u64) -> Option<&Entry> {
    let index = usize::try_from(id.checked_sub(first)?).ok()?;
    log.get(index)
}

impl Entry {
    fn delivery(&self, id: u64, attempt: u32) -> Delivery {
        Delivery { id: delivery_id(id), key: self.key.clone(), payload: self.payload.clone(), attempt }
    }

    fn dead_letter(&self, id: u64) -> DeadLetter {
        DeadLetter { id: delivery_id(id), key: self.key.clone(), payload: self.payload.clone() }
    }
}

fn delivery_id(sequence: u64) -> DeliveryId {
    DeliveryId { time: 0, sequence }
}
