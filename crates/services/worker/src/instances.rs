//! Which instances are watched, at which revision, and which events wait for that: state without any waiting.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use portico_coordination::DeliveryId;
use portico_ids::{InstanceId, ServerId};
use tokio::sync::watch;
use tokio::task;
use tokio::time::Instant;

use crate::resync::Resynced;
use crate::shares::Held;
use crate::spec::Spec;
use crate::watcher::Looked;

/// What became of a spec.
#[derive(Debug)]
pub(crate) enum Applied {
    /// A watcher has to be started with these specs.
    New(watch::Receiver<Arc<Spec>>),
    /// A watcher has it now, or is at it.
    Known,
    /// A newer revision is known, or the instance is deleted.
    Superseded,
}

/// The watched instances.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    entries: HashMap<InstanceId, Entry>,
    /// Deleted ones, until a resync that began after that: an older list or event does not bring them back.
    gone: HashMap<InstanceId, Instant>,
    /// Events that can be acknowledged.
    done: Vec<DeliveryId>,
}

#[derive(Debug)]
struct Entry {
    spec: Arc<Spec>,
    sender: watch::Sender<Arc<Spec>>,
    added_at: Instant,
    /// Whether this revision was looked at.
    looked: bool,
    /// Events that are done once this revision was looked at.
    waiting: Vec<DeliveryId>,
    task: Option<task::Id>,
}

impl Instances {
    /// Applies a spec, from an event or (without a delivery) from a resync.
    pub(crate) fn apply(&mut self, spec: Spec, delivery: Option<DeliveryId>) -> Applied {
        let id = spec.instance;
        if self.gone.contains_key(&id) {
            self.done.extend(delivery);
            return Applied::Superseded;
        }
        let Some(entry) = self.entries.get_mut(&id) else {
            let spec = Arc::new(spec);
            let (sender, receiver) = watch::channel(Arc::clone(&spec));
            let waiting = delivery.into_iter().collect();
            let entry = Entry { spec, sender, added_at: Instant::now(), looked: false, waiting, task: None };
            self.entries.insert(id, entry);
            return Applied::New(receiver);
        };
        if spec.revision < entry.spec.revision {
            self.done.extend(delivery);
            return Applied::Superseded;
        }
        if spec.revision > entry.spec.revision {
            // What waited for the older revision is superseded.
            self.done.append(&mut entry.waiting);
            entry.looked = false;
            entry.spec = Arc::new(spec);
            // A watcher that just ended is noticed when it is joined.
            entry.sender.send_replace(Arc::clone(&entry.spec));
        }
        match delivery {
            Some(delivery) if entry.looked => self.done.push(delivery),
            Some(delivery) if !entry.waiting.contains(&delivery) => entry.waiting.push(delivery),
            _ => {}
        }
        Applied::Known
    }

    /// Has an instance looked at again, with everything fetched anew, because what its spec refers to has changed.
    pub(crate) fn apply_again(&mut self, spec: Spec, delivery: Option<DeliveryId>) -> Applied {
        let (id, revision) = (spec.instance, spec.revision);
        if let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.spec.revision == revision) {
            entry.looked = false;
            entry.sender.send_replace(Arc::clone(&entry.spec));
        }
        // A newer spec was looked at after the change.
        self.apply(spec, delivery)
    }

    /// Stops watching what this worker does not hold any more.
    pub(crate) fn keep(&mut self, held: &Held) {
        let foreign = self.entries.values().filter(|entry| !held.has(entry.spec.server));
        let ids: Vec<InstanceId> = foreign.map(|entry| entry.spec.instance).collect();
        for id in ids {
            self.drop_entry(id);
        }
    }

    /// Remembers which task watches an instance.
    pub(crate) fn started(&mut self, id: InstanceId, task: task::Id) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.task = Some(task);
        }
    }

    pub(crate) fn forget(&mut self, id: InstanceId) {
        self.gone.insert(id, Instant::now());
        self.drop_entry(id);
    }

    pub(crate) fn forget_server(&mut self, server: ServerId) {
        let of_server = |entry: &&Entry| entry.spec.server == server;
        let ids: Vec<InstanceId> =
            self.entries.values().filter(of_server).map(|entry| entry.spec.instance).collect();
        for id in ids {
            self.forget(id);
        }
    }

    pub(crate) fn looked(&mut self, looked: Looked) {
        let Some(entry) = self.entries.get_mut(&looked.instance) else { return };
        if entry.spec.revision == looked.revision {
            entry.looked = true;
            self.done.append(&mut entry.waiting);
        }
    }

    /// A task ended by itself: the registry does not know its instance any more, or it panicked. If the instance
    /// exists, the next resync starts it again. True if it was watching and nobody else does now.
    pub(crate) fn ended(&mut self, id: task::Id) -> bool {
        let found = self.entries.values().find(|entry| entry.task == Some(id));
        let Some(instance) = found.map(|entry| entry.spec.instance) else { return false };
        self.drop_entry(instance);
        true
    }

    /// Applies what this worker holds of a whole list; answers with the specs to watch that were not.
    pub(crate) fn resync(
        &mut self,
        list: Resynced,
        held: &Held,
    ) -> Vec<(InstanceId, watch::Receiver<Arc<Spec>>)> {
        let mut listed = HashSet::new();
        let mut new = Vec::new();
        for spec in list.specs.into_iter().filter(|spec| held.has(spec.server)) {
            let id = spec.instance;
            listed.insert(id);
            if let Applied::New(receiver) = self.apply(spec, None) {
                new.push((id, receiver));
            }
        }
        // One that an event added while the list was read may be on a page that was read before.
        let unknown: Vec<InstanceId> = self
            .entries
            .iter()
            .filter(|(id, entry)| entry.added_at < list.started && !listed.contains(id))
            .map(|(id, _)| *id)
            .collect();
        for id in unknown {
            self.drop_entry(id);
        }
        self.gone.retain(|_, at| *at >= list.started);
        new
    }

    /// Marks an event that needed no look.
    pub(crate) fn finish(&mut self, delivery: DeliveryId) {
        self.done.push(delivery);
    }

    /// Takes the events that can be acknowledged.
    pub(crate) fn take_done(&mut self) -> Vec<DeliveryId> {
        std::mem::take(&mut self.done)
    }

    /// Dropping the sender ends the watcher.
    fn drop_entry(&mut self, id: InstanceId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.done.extend(entry.waiting);
        }
    }
}

#[cfg(test)]
mod tests;
