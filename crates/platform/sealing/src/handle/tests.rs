use std::sync::Arc;

use portico_ids::SeededRng;

use super::*;
use crate::key_ring::ring_for_tests;

fn sealer(seed: u64) -> HandleSealer {
    HandleSealer::new(&ring_for_tests(seed), Arc::new(SeededRng::new(seed)))
}

#[test]
fn a_handle_opens_with_its_kind_and_data_only() {
    let (here, elsewhere) = (sealer(1), sealer(2));
    let handle = here.seal("cursor", b"alice", b"page 2");
    assert!(handle.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{handle}");
    assert_eq!(here.open("cursor", b"alice", &handle).unwrap(), b"page 2");
    assert_eq!(here.open("session", b"alice", &handle), None);
    assert_eq!(here.open("cursor", b"bob", &handle), None);
    assert_eq!(elsewhere.open("cursor", b"alice", &handle), None);
    let same_keys = ring_for_tests(1).with_deployment_id("ffffffffffffffffffffffffffffffff");
    let same_keys = HandleSealer::new(&same_keys, Arc::new(SeededRng::new(1)));
    assert_eq!(same_keys.open("cursor", b"alice", &handle), None);
}

#[test]
fn no_changed_or_shortened_handle_opens() {
    let sealer = sealer(1);
    let handle = sealer.seal("cursor", b"", b"page 2");
    let bytes = URL_SAFE_NO_PAD.decode(&handle).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(sealer.open("cursor", b"", &URL_SAFE_NO_PAD.encode(changed)), None, "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert_eq!(sealer.open("cursor", b"", &URL_SAFE_NO_PAD.encode(&bytes[..length])), None);
    }
    for text in ["", "=", "not base64!", &format!("{handle}="), &format!("{handle}A")] {
        assert_eq!(sealer.open("cursor", b"", text), None, "{text}");
    }
}

#[test]
fn handles_survive_a_rotation_and_new_ones_use_the_new_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let rng = Arc::new(SeededRng::new(5));
    let old = HandleSealer::new(&KeyRing::generate_file(&path, &*rng).unwrap(), rng.clone());
    let handle = old.seal("cursor", b"", b"page 2");
    let rotated = KeyRing::rotate_file(&path, &*rng).unwrap();
    let new = HandleSealer::new(&rotated, rng);
    assert_eq!(new.open("cursor", b"", &handle).unwrap(), b"page 2");
    assert_eq!(old.open("cursor", b"", &new.seal("cursor", b"", b"page 3")), None);
    KeyRing::prune_file(&path, &rotated.key_ids()[1]).unwrap();
    assert!(rotated.reload().unwrap());
    assert_eq!(new.open("cursor", b"", &handle), None);
}
