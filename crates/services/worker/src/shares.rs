//! How the instances are divided: into a fixed number of shares by their server, and those among the live workers.

use std::collections::{BTreeMap, BTreeSet};

use portico_ids::ServerId;

/// More than there are workers, so that each gets about as much as the others.
pub(crate) const SHARES: u8 = 32;

/// A part of all instances; those of one server are in the same one, because one of them speaks for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Share(u8);

impl Share {
    pub(crate) fn of(server: ServerId) -> Self {
        let number = hash(server.as_uuid().as_bytes()) % u64::from(SHARES);
        // Below 32, so it fits.
        Self(u8::try_from(number).unwrap_or_default())
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..SHARES).map(Self)
    }

    /// What its lease and the entry of its holder are called.
    pub(crate) fn name(self) -> String {
        format!("share/{}", self.0)
    }
}

/// The shares that a worker holds now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) shares: BTreeSet<Share>,
    /// Grows whenever a share is added: whatever happened to its instances before was told to somebody else.
    pub(crate) taken: u64,
}

impl Held {
    pub(crate) fn has(&self, server: ServerId) -> bool {
        self.shares.contains(&Share::of(server))
    }
}

/// Tells which shares a worker should hold when these are alive. All that know the same workers come to the same
/// result; when one comes or goes, few shares move but its own (rendezvous hashing with an upper bound).
pub(crate) fn wanted(workers: &BTreeSet<String>, own: &str) -> BTreeSet<Share> {
    let most = usize::from(SHARES).div_ceil(workers.len().max(1));
    let mut loads: BTreeMap<&str, usize> = BTreeMap::new();
    let mut shares = BTreeSet::new();
    for share in Share::all() {
        let free = workers.iter().filter(|worker| loads.get(worker.as_str()).is_none_or(|load| *load < most));
        let Some(holder) = free.max_by_key(|worker| (weight(worker, share), worker.as_str())) else {
            continue;
        };
        *loads.entry(holder).or_default() += 1;
        if holder == own {
            shares.insert(share);
        }
    }
    shares
}

fn weight(worker: &str, Share(number): Share) -> u64 {
    let mut bytes = worker.as_bytes().to_vec();
    bytes.push(number);
    hash(&bytes)
}

/// FNV-1a, mixed as `SplitMix64` does: workers of different releases have to agree on it.
fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_share_has_exactly_one_worker_and_nobody_has_too_many() {
        for alive in [workers(&["a"]), workers(&["a", "b"]), workers(&["a", "b", "c", "d", "e"])] {
            let parts: Vec<_> = alive.iter().map(|worker| wanted(&alive, worker)).collect();
            let together: usize = parts.iter().map(BTreeSet::len).sum();
            let distinct: BTreeSet<_> = parts.iter().flatten().collect();
            assert_eq!((together, distinct.len()), (32, 32), "{alive:?}");
            let most = usize::from(SHARES).div_ceil(alive.len());
            assert!(parts.iter().all(|part| part.len() <= most), "{parts:?}");
        }
        assert!(wanted(&workers(&["a"]), "stranger").is_empty());
    }

    #[test]
    fn when_a_worker_goes_the_others_keep_nearly_all_that_they_had() {
        let (three, two) = (workers(&["a", "b", "c"]), workers(&["a", "b"]));
        for worker in ["a", "b"] {
            let (before, after) = (wanted(&three, worker), wanted(&two, worker));
            let lost = before.difference(&after).count();
            assert!(lost <= 3, "{worker} lost {lost} of {}", before.len());
        }
    }

    #[test]
    fn servers_spread_over_the_shares() {
        let used: BTreeSet<Share> = (0..500).map(|n| Share::of(server(n))).collect();
        assert_eq!(used.len(), usize::from(SHARES));
        assert_eq!(Share::of(server(7)), Share::of(server(7)));
    }

    fn server(n: u32) -> ServerId {
        format!("01890000-0000-7000-8000-{n:012x}").parse().unwrap()
    }
}
