use std::sync::Arc;

use portico_ids::SeededRng;
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::key_ring::ring_for_tests;

const HERE: Aad<'_> = Aad { table: "registry.secret", row: "0190", field: "value", version: 3 };

fn sealer(seed: u64) -> Sealer {
    Sealer::new(&ring_for_tests(seed), Arc::new(SeededRng::new(seed)))
}

#[test]
fn a_sealed_value_opens_in_its_place() {
    let sealer = sealer(1);
    for length in [0, 1, 16, 70_000] {
        let value = vec![7; length];
        let record = sealer.seal(&HERE, &value);
        assert_eq!(sealer.open(&HERE, &record).unwrap().expose_secret(), value);
    }
}

#[test]
fn a_record_names_the_key_that_sealed_it_and_other_bytes_name_none() {
    let sealer = sealer(1);
    let record = sealer.seal(&HERE, b"value");
    assert_eq!(Sealer::key_of(&record), Some(sealer.ring().sealing_key().as_str()));
    for other in [&b""[..], b"never sealed", &record[..3]] {
        assert_eq!(Sealer::key_of(other), None, "{other:?}");
    }
}

/// A10: whoever can write the database must not be able to make one row's secret appear in another.
#[test]
fn no_ciphertext_opens_in_another_place() {
    let places = [
        HERE,
        Aad { table: "registry.secre", row: "t0190", ..HERE },
        Aad { table: "auth.signing_key", ..HERE },
        Aad { row: "0191", ..HERE },
        Aad { row: "0190value", field: "", ..HERE },
        Aad { field: "valu", ..HERE },
        Aad { field: "previous", ..HERE },
        Aad { version: 2, ..HERE },
        Aad { version: 4, ..HERE },
    ];
    let deployments = [sealer(1), sealer(2)];
    let all = || {
        deployments
            .iter()
            .enumerate()
            .flat_map(|(d, s)| places.iter().enumerate().map(move |(p, a)| (d, p, s, a)))
    };
    for (from_d, from_p, from, from_aad) in all() {
        let sealed = from.seal(from_aad, b"secret");
        for (to_d, to_p, to, to_aad) in all() {
            let opened = to.open(to_aad, &sealed);
            let moved = (from_d, from_p) != (to_d, to_p);
            assert_eq!(opened.is_err(), moved, "{from_aad:?} of {from_d} in {to_aad:?} of {to_d}");
        }
    }
}

#[test]
fn another_deployment_with_the_same_keys_does_not_open_it() {
    let ring = ring_for_tests(1);
    let sealed = sealer(1).seal(&HERE, b"secret");
    let other = Sealer::new(
        &ring.with_deployment_id("ffffffffffffffffffffffffffffffff"),
        Arc::new(SeededRng::new(1)),
    );
    assert_eq!(other.open(&HERE, &sealed).unwrap_err(), OpenError::Rejected);
}

#[test]
fn no_part_of_one_record_fits_into_another_of_the_same_place() {
    let sealer = sealer(1);
    let (a, b) = (sealer.seal(&HERE, b"first!"), sealer.seal(&HERE, b"second"));
    assert_eq!(a.len(), b.len());
    for cut in 1..a.len() {
        let mixed = [&a[..cut], &b[cut..]].concat();
        // A cut within the shared header gives a whole record, of b or of a.
        let opens = sealer.open(&HERE, &mixed);
        assert_eq!(opens.is_ok(), mixed == a || mixed == b, "cut at {cut}");
    }
}

#[test]
fn sealing_twice_gives_different_bytes() {
    let sealer = sealer(1);
    assert_ne!(sealer.seal(&HERE, b"secret"), sealer.seal(&HERE, b"secret"));
}

#[test]
fn after_a_rotation_old_records_open_and_are_rewrapped_without_touching_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let rng = Arc::new(SeededRng::new(5));
    let old_ring = KeyRing::generate_file(&path, &*rng).unwrap();
    let old = Sealer::new(&old_ring, rng.clone());
    let sealed = old.seal(&HERE, b"secret");
    assert_eq!(old.rewrap(&HERE, &sealed).unwrap(), None);

    let new = Sealer::new(&KeyRing::rotate_file(&path, &*rng).unwrap(), rng);
    assert_eq!(new.open(&HERE, &sealed).unwrap().expose_secret(), b"secret");
    let rewrapped = new.rewrap(&HERE, &sealed).unwrap().unwrap();
    assert!(rewrapped.ends_with(&sealed[sealed.len() - 34..]));
    assert_eq!(new.open(&HERE, &rewrapped).unwrap().expose_secret(), b"secret");
    assert!(matches!(old.open(&HERE, &rewrapped), Err(OpenError::UnknownKey(_))));
    let elsewhere = Aad { row: "0191", ..HERE };
    assert_eq!(new.rewrap(&elsewhere, &sealed).unwrap_err(), OpenError::Rejected);
}

#[test]
fn debug_shows_key_ids_and_nothing_else() {
    let text = format!("{:?}", sealer(1));
    assert!(text.starts_with("Sealer { key_ids: [\"k-") && text.len() < 60, "{text}");
}

proptest! {
    #[test]
    fn no_changed_bit_goes_unnoticed(value in proptest::collection::vec(any::<u8>(), 0..64), bit in any::<proptest::sample::Index>()) {
        let sealer = sealer(1);
        let mut sealed = sealer.seal(&HERE, &value);
        let bit = bit.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(sealer.open(&HERE, &sealed).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(sealer(1).open(&HERE, &bytes).is_err());
    }
}

#[test]
fn a_running_sealer_follows_its_ring() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let rng = Arc::new(SeededRng::new(5));
    let early = KeyRing::generate_file(&path, &*rng).unwrap();
    // Two replicas: one has read the staged key, the other has it sealing already.
    let late = KeyRing::load(&path).unwrap();
    let staged = KeyRing::stage_file(&path, &*rng).unwrap();
    assert!(late.reload().unwrap());
    KeyRing::promote_file(&path, &staged, chrono::DateTime::UNIX_EPOCH).unwrap();
    let sealer = Sealer::new(&early, rng.clone());
    let before = sealer.seal(&HERE, b"before");
    assert!(early.reload().unwrap());
    let after = sealer.seal(&HERE, b"after");
    assert!(after.starts_with(&Sealer::prefix(&staged)) && !before.starts_with(&Sealer::prefix(&staged)));
    let late = Sealer::new(&late, rng);
    for (record, value) in [(&before, &b"before"[..]), (&after, b"after")] {
        assert_eq!(late.open(&HERE, record).unwrap().expose_secret(), value);
        assert_eq!(sealer.open(&HERE, record).unwrap().expose_secret(), value);
    }
    let rewrapped = sealer.rewrap(&HERE, &before).unwrap().unwrap();
    KeyRing::prune_file(&path, &early.key_ids()[1]).unwrap();
    assert!(early.reload().unwrap());
    assert!(matches!(sealer.open(&HERE, &before), Err(OpenError::UnknownKey(_))));
    assert_eq!(sealer.open(&HERE, &rewrapped).unwrap().expose_secret(), b"before");
}

#[test]
fn a_value_sealed_with_each_key_tells_which_keys_a_ring_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let rng = Arc::new(SeededRng::new(5));
    KeyRing::generate_file(&path, &*rng).unwrap();
    let rotated = KeyRing::rotate_file(&path, &*rng).unwrap();
    let sealed = Sealer::new(&rotated, rng.clone()).seal_with_each(&HERE, b"canary");
    assert_eq!(sealed.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), rotated.key_ids());
    KeyRing::prune_file(&path, &sealed[1].0).unwrap();
    let pruned = Sealer::new(&KeyRing::load(&path).unwrap(), rng);
    assert_eq!(pruned.open(&HERE, &sealed[0].1).unwrap().expose_secret(), b"canary");
    assert_eq!(pruned.open(&HERE, &sealed[1].1).unwrap_err(), OpenError::UnknownKey(sealed[1].0.clone()));
}
