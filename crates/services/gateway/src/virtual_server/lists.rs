use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use portico_ids::ServerId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::asker::Asker;
use super::listed::{Listed, What};
use crate::catalogue::Server;
use crate::refusal::{Reason, Refusal};
use crate::upstream::lost;

/// How long the list of a server that says nothing about it holds in the session era.
const HOLDS: Duration = Duration::from_secs(30);
/// Longest that a list is shown without asking again, whatever its server says.
const MAX_HOLDS: Duration = Duration::from_mins(5);
/// How long a list is good enough to find the owner of a name.
const ROUTES_FOR: Duration = Duration::from_mins(10);
/// How long members are not asked again for what nobody has, or what they could not tell.
pub(super) const LOOKED_UP: Duration = Duration::from_secs(2);
/// Most failures that are remembered.
const MAX_FAILED: u64 = 10_000;
/// Longest that a list is waited for although nobody waits for its answer any more.
const IN_BACKGROUND: Duration = Duration::from_secs(30);

/// What members listed: kept within a byte budget, fetched once for all who ask at the same time.
#[derive(Debug)]
pub(super) struct Lists {
    kept: Cache<Key, Arc<Kept>>,
    /// Why lists did not come lately: who only looks for the owner of a name does not ask such a server again.
    failed: Cache<Key, Refusal>,
    flights: Mutex<HashMap<Key, Flight>>,
    /// Counts the changes that servers told of; a list from before does not hold.
    changes: Mutex<HashMap<(ServerId, What), u64>>,
}

/// Whose list it is: server and credential, and either everybody's or one session's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) server: ServerId,
    /// Digest of where the server is called and with which credential.
    pub(super) credential: u64,
    pub(super) view: View,
    pub(super) what: What,
}

/// Who sees the same list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum View {
    /// One session at a server that keeps sessions: it may answer each differently.
    Session(String),
    /// All callers that declare the same revision and capabilities, by digest.
    Shared(u64),
}

#[derive(Debug)]
struct Kept {
    listed: Arc<Listed>,
    change: u64,
    holds: Duration,
}

type Outcome = Option<Result<Arc<Listed>, Refusal>>;

/// A list that is being fetched.
#[derive(Debug, Clone)]
struct Flight {
    started: Instant,
    /// How many changes its server had told of.
    change: u64,
    done: watch::Receiver<Outcome>,
}

impl Lists {
    pub(super) fn new(budget: u64) -> Self {
        let kept = Cache::builder()
            .max_capacity(budget)
            .weigher(|_, kept: &Arc<Kept>| kept.listed.weight())
            .time_to_live(ROUTES_FOR)
            .build();
        let failed = Cache::builder().max_capacity(MAX_FAILED).time_to_live(LOOKED_UP).build();
        Self { kept, failed, flights: Mutex::default(), changes: Mutex::default() }
    }

    /// A server says that a list changed; what is kept of it no longer holds.
    pub(super) fn changed(&self, server: ServerId, what: What) {
        *locked(&self.changes).entry((server, what)).or_default() += 1;
    }

    /// What a server said of its lists may have been missed.
    pub(super) fn all_changed(&self, server: ServerId) {
        for what in [What::Tools, What::Prompts, What::Resources, What::Templates] {
            self.changed(server, what);
        }
    }

    fn change(&self, server: ServerId, what: What) -> u64 {
        locked(&self.changes).get(&(server, what)).copied().unwrap_or_default()
    }

    /// What is kept, also if it is to be fetched anew before it is shown: good enough to find the owner of a name.
    pub(super) fn known(&self, asker: &Asker, server: &Server, what: What) -> Option<Arc<Listed>> {
        asker
            .views()
            .into_iter()
            .find_map(|view| self.kept.get(&key(server, view, what)))
            .map(|k| k.listed.clone())
    }

    /// Whether a server is known to list this to all who speak as somebody did lately; what is a session's own stays so.
    pub(super) fn is_listed(&self, server: ServerId, what: What, key: &str) -> bool {
        self.kept.iter().any(|(of, kept)| {
            (of.server, of.what) == (server, what)
                && matches!(of.view, View::Shared(_))
                && kept.listed.items.iter().any(|item| item.key == key)
        })
    }

    fn holding(&self, key: &Key, at_least: Duration) -> Option<Arc<Listed>> {
        let kept = self.kept.get(key)?;
        let holds = kept.change == self.change(key.server, key.what)
            && kept.listed.fetched.elapsed() < kept.holds.max(at_least);
        holds.then(|| Arc::clone(&kept.listed))
    }

    /// A member's list, fetched unless it still holds or is younger than `at_least`.
    ///
    /// Who asks waits no longer than the deadline; the fetch goes on for those who ask later.
    pub(super) async fn get(
        &self,
        asker: &Asker,
        server: &Arc<Server>,
        what: What,
        at_least: Duration,
    ) -> Result<Arc<Listed>, Refusal> {
        let views = asker.views();
        if let Some(listed) =
            views.iter().find_map(|view| self.holding(&key(server, view.clone(), what), at_least))
        {
            return Ok(listed);
        }
        if at_least >= LOOKED_UP
            && let Some(refusal) = self.failed.get(&key(server, asker.own_view(), what))
        {
            return Err(refusal);
        }
        let flight = self.join(asker, server, key(server, asker.own_view(), what));
        let deadline = Duration::from_millis(asker.engine.upstream.settings.list_timeout_ms);
        let mut done = flight.done;
        let waited = tokio::time::timeout_at(flight.started + deadline, done.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(lost())),
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(too_slow(deadline)),
        }
    }

    /// The fetch that is under way, or a new one in a task of its own.
    fn join(&self, asker: &Asker, server: &Arc<Server>, key: Key) -> Flight {
        let change = self.change(key.server, key.what);
        let (sender, done) = watch::channel(None);
        let flight = Flight { started: Instant::now(), change, done };
        match locked(&self.flights).entry(key.clone()) {
            // What was asked before the server told of a change may be answered with what was before it.
            Entry::Occupied(known) if known.get().change == change => return known.get().clone(),
            Entry::Occupied(mut outdated) => drop(outdated.insert(flight.clone())),
            Entry::Vacant(vacant) => drop(vacant.insert(flight.clone())),
        }
        let landing = Landing { asker: asker.clone(), key, change };
        let server = Arc::clone(server);
        asker.engine.tasks.spawn_short("gateway.list", async move {
            let fetched =
                tokio::time::timeout(IN_BACKGROUND, landing.asker.fetch(&server, landing.key.what)).await;
            let outcome = match fetched {
                Ok(Ok((listed, view))) => {
                    let lists = &landing.asker.engine.virtual_servers.lists;
                    Ok(lists.keep(Key { view, ..landing.key.clone() }, listed, change))
                }
                Ok(Err(refusal)) => Err(refusal),
                Err(_) => Err(too_slow(IN_BACKGROUND)),
            };
            if let Err(refusal) = &outcome {
                landing
                    .asker
                    .engine
                    .virtual_servers
                    .lists
                    .failed
                    .insert(landing.key.clone(), refusal.clone());
            }
            // Whoever asks from now on finds what is kept, or tries again.
            drop(landing);
            let _ = sender.send(Some(outcome));
        });
        flight
    }

    /// Waits until no list is being fetched.
    #[cfg(test)]
    pub(super) async fn landed(&self) {
        let flights: Vec<Flight> = locked(&self.flights).values().cloned().collect();
        for mut flight in flights {
            let _ = flight.done.wait_for(Option::is_some).await;
        }
    }

    fn keep(&self, key: Key, listed: Listed, change: u64) -> Arc<Listed> {
        let holds = listed.ttl.unwrap_or(HOLDS).min(MAX_HOLDS);
        let listed = Arc::new(listed);
        self.kept.insert(key, Arc::new(Kept { listed: Arc::clone(&listed), change, holds }));
        listed
    }
}

/// Takes a flight off the list however it ends, unless a later one has its place.
struct Landing {
    asker: Asker,
    key: Key,
    change: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = locked(&self.asker.engine.virtual_servers.lists.flights);
        if flights.get(&self.key).is_some_and(|flight| flight.change == self.change) {
            flights.remove(&self.key);
        }
    }
}

fn key(server: &Server, view: View, what: What) -> Key {
    let mut hasher = DefaultHasher::new();
    for instance in &server.instances {
        instance.id.hash(&mut hasher);
        instance.uri.hash(&mut hasher);
        instance.credential.as_ref().map(http::HeaderValue::as_bytes).hash(&mut hasher);
    }
    Key { server: server.id, credential: hasher.finish(), view, what }
}

fn too_slow(waited: Duration) -> Refusal {
    Refusal::new(
        Reason::UpstreamTimeout,
        format!("the server did not list what it has within {} ms; ask again later", waited.as_millis()),
    )
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
