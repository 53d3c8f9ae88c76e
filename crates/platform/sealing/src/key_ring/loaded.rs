//! The keys in memory, with what is derived from them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use zeroize::Zeroizing;

use super::{KeyAge, RingKey};
use crate::{
    cipher::{Cipher, KEY_LEN},
    handle::{TAG_LEN, tag_of},
};

/// One root key and its ciphers.
pub(crate) struct Root {
    pub(crate) id: String,
    age: KeyAge,
    bytes: Zeroizing<[u8; KEY_LEN]>,
    /// Wraps the data keys of records.
    pub(crate) records: Cipher,
}

/// The key of one kind of handle.
pub(crate) struct HandleKey {
    pub(crate) tag: [u8; TAG_LEN],
    pub(crate) cipher: Cipher,
}

/// One state of the ring. What is derived from a root key lives as long as this state does.
pub(crate) struct Loaded {
    deployment_id: String,
    roots: Vec<Root>,
    sealing: usize,
    kinds: RwLock<HashMap<String, Arc<[HandleKey]>>>,
}

impl PartialEq for Loaded {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Root, &Root)| a.id == b.id && a.age == b.age && a.bytes == b.bytes;
        self.roots.len() == other.roots.len() && self.roots.iter().zip(&other.roots).all(same)
    }
}

impl Loaded {
    /// Takes keys of which exactly one seals; `None` if none or several do.
    pub(super) fn new(deployment_id: &str, keys: Vec<(RingKey, Zeroizing<[u8; KEY_LEN]>)>) -> Option<Self> {
        let mut sealing = (0..keys.len()).filter(|index| keys[*index].0.age == KeyAge::Sealing);
        let (Some(sealing), None) = (sealing.next(), sealing.next()) else { return None };
        let root = |(key, bytes): (RingKey, Zeroizing<[u8; KEY_LEN]>)| {
            let records = Cipher::derive(&bytes, deployment_id, &[b"portico record v1"]);
            Root { id: key.id, age: key.age, bytes, records }
        };
        let roots = keys.into_iter().map(root).collect();
        Some(Self { deployment_id: deployment_id.to_owned(), roots, sealing, kinds: RwLock::default() })
    }

    pub(super) fn ages(&self) -> Vec<RingKey> {
        self.roots.iter().map(|root| RingKey { id: root.id.clone(), age: root.age }).collect()
    }

    pub(crate) fn deployment_id(&self) -> &str {
        &self.deployment_id
    }

    /// The key that seals.
    pub(crate) fn sealing(&self) -> &Root {
        &self.roots[self.sealing]
    }

    pub(crate) fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// Returns the keys of a kind of handle, the one that seals first; derived once, then one read lock and no
    /// allocation.
    pub(crate) fn handle_keys(&self, kind: &str) -> Arc<[HandleKey]> {
        if let Some(keys) = self.kinds.read().unwrap_or_else(PoisonError::into_inner).get(kind) {
            return Arc::clone(keys);
        }
        let others = self.roots.iter().enumerate().filter(|(index, _)| *index != self.sealing);
        let keys = std::iter::once(self.sealing()).chain(others.map(|(_, root)| root)).map(|root| {
            let purpose: [&[u8]; 2] = [b"portico handle v1 ", kind.as_bytes()];
            let cipher = Cipher::derive(&root.bytes, &self.deployment_id, &purpose);
            HandleKey { tag: tag_of(&root.id), cipher }
        });
        let keys: Arc<[HandleKey]> = keys.collect();
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(kinds.entry(kind.to_owned()).or_insert(keys))
    }

    #[cfg(test)]
    pub(super) fn in_deployment(&self, deployment_id: &str) -> Self {
        let keys = self.ages().into_iter().zip(self.roots.iter().map(|root| root.bytes.clone())).collect();
        Self::new(deployment_id, keys).expect("the ages are the same")
    }
}
