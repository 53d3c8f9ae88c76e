//! Which instance speaks for its server.
//!
//! The registry keeps one list of capabilities per server. If every instance reported its own, two that differ
//! during a roll-out would overwrite each other for ever; so the oldest one that can be listed is heard.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use portico_ids::{InstanceId, ServerId};

/// The instances of each server whose last discovery succeeded.
#[derive(Debug, Default)]
pub(crate) struct Representatives(Mutex<HashMap<ServerId, BTreeSet<InstanceId>>>);

impl Representatives {
    /// Tells whether no older instance of the server can be listed. Ids begin with a time, so they sort by age.
    pub(crate) fn may_speak(&self, server: ServerId, instance: InstanceId) -> bool {
        let listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listed.get(&server).and_then(BTreeSet::first).is_none_or(|oldest| instance <= *oldest)
    }

    pub(crate) fn listed(&self, server: ServerId, instance: InstanceId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(server).or_default().insert(instance);
    }

    /// The instance cannot be listed any more, or is gone.
    pub(crate) fn resigned(&self, server: ServerId, instance: InstanceId) {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instances) = listed.get_mut(&server) {
            instances.remove(&instance);
            if instances.is_empty() {
                listed.remove(&server);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_listed_instance_speaks_until_it_resigns() {
        let server: ServerId = "01890000-0000-7000-8000-0000000000aa".parse().unwrap();
        let older: InstanceId = "01890000-0000-7000-8000-000000000001".parse().unwrap();
        let younger: InstanceId = "01890000-0000-7000-8000-000000000002".parse().unwrap();
        let representatives = Representatives::default();
        assert!(representatives.may_speak(server, younger));
        representatives.listed(server, younger);
        assert!(representatives.may_speak(server, older));
        representatives.listed(server, older);
        assert!(!representatives.may_speak(server, younger));
        representatives.resigned(server, older);
        assert!(representatives.may_speak(server, younger));
        representatives.resigned(server, younger);
        assert!(representatives.0.lock().unwrap().is_empty());
    }
}
