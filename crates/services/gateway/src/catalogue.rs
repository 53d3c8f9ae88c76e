//! What can be called: one immutable snapshot behind an atomic pointer, fed by the registry's watch stream.

mod choice;
mod copy_age;
mod credentials;
mod follow;
mod retry_budget;
mod snapshot;
mod traffic;

pub(crate) use copy_age::CopyAge;
pub(crate) use credentials::{Credential, Resolver};
pub(crate) use follow::Source as FeedSource;
pub(crate) use retry_budget::RetryBudget;
pub(crate) use snapshot::{Endpoint, Eras, Instance, Member, Server, Snapshot, same_members};
pub(crate) use traffic::{Begun, Traffic};

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::Uri;
use portico_ids::InstanceId;
use portico_proto_registry::CatalogueItem;
use portico_proto_registry::catalogue_item::Value;
use tokio::sync::watch;

/// The catalogue that calls are routed by.
#[derive(Debug)]
pub(crate) struct Catalogue {
    origin: String,
    current: ArcSwap<Snapshot>,
    source: Mutex<Source>,
    /// Counts changes; the resolver of credentials waits on it.
    changes: watch::Sender<u64>,
}

/// What snapshots are built from.
#[derive(Debug, Default)]
struct Source {
    items: BTreeMap<String, Value>,
    credentials: HashMap<InstanceId, Credential>,
    /// Instances that are gone, as they were when they could still be called, until somebody takes them.
    departed: Vec<Arc<Instance>>,
}

impl Source {
    /// Whether an instance is still there at its address, and to be called. Its credential may be missing just now.
    fn has(&self, instance: &Instance) -> bool {
        let Some(Value::Instance(item)) = self.items.get(&format!("instance/{}", instance.id)) else {
            return false;
        };
        let server = self.items.get(&format!("server/{}", instance.server));
        item.url.parse::<Uri>().is_ok_and(|uri| uri == instance.uri)
            && matches!(server, Some(Value::Server(server)) if server.enabled)
    }
}

impl Catalogue {
    pub(crate) fn new(origin: &str) -> Self {
        let source = Source::default();
        let empty = Snapshot::build(origin, &source.items, &source.credentials, None);
        Self {
            origin: origin.to_owned(),
            current: ArcSwap::from_pointee(empty),
            source: Mutex::new(source),
            changes: watch::Sender::new(0),
        }
    }

    /// Waits until the registry, or the last copy on disk, has told what there is.
    pub(crate) async fn known(&self) {
        // The sender lives as long as the catalogue.
        let _ = self.changes.subscribe().wait_for(|count| *count > 0).await;
    }

    /// The newest snapshot; a call keeps the one it started with.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Takes in a batch of the watch stream.
    pub(crate) fn apply(&self, forget: bool, items: Vec<(String, CatalogueItem)>, removed: &[String]) {
        self.change(|source| {
            if forget {
                source.items.clear();
            }
            for key in removed {
                source.items.remove(key);
            }
            for (key, item) in items {
                if let Some(value) = item.value {
                    source.items.insert(key, value);
                }
            }
        });
        self.changes.send_modify(|count| *count += 1);
    }

    /// Takes in credentials that were resolved, which makes their instances routable.
    fn apply_credentials(&self, resolved: Vec<(InstanceId, Credential)>) {
        self.change(|source| source.credentials.extend(resolved));
    }

    #[cfg(test)]
    pub(crate) fn apply_credentials_for_tests(&self, reference: &str, value: &str) {
        let credential = Credential {
            reference: reference.to_owned(),
            version: 1,
            value: secrecy::SecretString::from(value),
        };
        self.apply_credentials(vec![(testing::instance_id(1), credential)]);
    }

    /// Forgets credentials of instances that no longer exist; tells whether there were any.
    fn retain_credentials(&self) -> bool {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let Source { items, credentials, .. } = &mut *source;
        let before = credentials.len();
        credentials.retain(|id, _| items.contains_key(&format!("instance/{id}")));
        credentials.len() < before
    }

    /// Credentials that are known, for the copy on disk.
    fn credentials(&self) -> Vec<(InstanceId, Credential)> {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        source.credentials.iter().map(|(id, credential)| (*id, credential.clone())).collect()
    }

    /// Instances whose credential is not there in the version that the catalogue names.
    fn missing_credentials(&self) -> Vec<credentials::Wanted> {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        credentials::wanted(&source.items, &source.credentials)
    }

    fn change(&self, edit: impl FnOnce(&mut Source)) {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut source);
        let previous = self.current.load();
        let next = Snapshot::build(&self.origin, &source.items, &source.credentials, Some(&previous));
        let stays = |before: &Instance| {
            let now = next.instance(before.server, before.id);
            now.is_some_and(|now| now.uri == before.uri) || source.has(before)
        };
        let departed: Vec<_> = previous.callable().filter(|before| !stays(before)).cloned().collect();
        self.current.store(Arc::new(next));
        // Not before: who is told looks for what there is instead.
        for instance in &departed {
            instance.traffic.depart();
        }
        source.departed.extend(departed);
    }

    /// Tells of each change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The instances that are gone since this was last asked: deleted, moved to another address, or of a server that was
    /// deleted or disabled. They still have the credentials that they had.
    pub(crate) fn take_departed(&self) -> Vec<Arc<Instance>> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut source.departed)
    }

    /// Whether an instance is there, be it that it cannot be called just now.
    pub(crate) fn lists(&self, instance: InstanceId) -> bool {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        source.items.contains_key(&format!("instance/{instance}"))
    }
}

#[cfg(test)]
pub(crate) mod testing;
