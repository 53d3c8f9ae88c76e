use portico_ids::SeededRng;

use super::*;

fn write(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("ring.json");
    std::fs::write(&path, text).unwrap();
    #[cfg(unix)]
    set_mode(&path, 0o600);
    path
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn a_generated_ring_is_private_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let ring = KeyRing::generate_file(&path, &SeededRng::new(1)).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(KeyRing::generate_file(&path, &SeededRng::new(2)), Err(KeyRingError::Exists(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(KeyRing::load(&path).unwrap().deployment_id(), ring.deployment_id());
}

#[test]
fn rotating_keeps_the_old_keys_and_the_deployment_id() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let rng = SeededRng::new(1);
    let old = KeyRing::generate_file(&path, &rng).unwrap();
    let new = KeyRing::rotate_file(&path, &rng).unwrap();
    assert_eq!(new.deployment_id(), old.deployment_id());
    assert_eq!(new.key_ids()[1..], old.key_ids());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    KeyRing::load(&path).unwrap();
}

#[test]
fn a_missing_ring_is_never_replaced_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let error = KeyRing::load(&path).unwrap_err();
    assert!(error.to_string().contains("restore it from your backup"), "{error}");
    assert!(!path.exists());
    let error = KeyRing::from_settings(&KeyRingSettings::default()).unwrap_err();
    assert!(error.to_string().contains("set `keys.file`"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_ring_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    KeyRing::generate_file(&path, &SeededRng::new(1)).unwrap();
    set_mode(&path, 0o640);
    let error = KeyRing::load(&path).unwrap_err();
    assert!(error.to_string().contains("mode 640") && error.to_string().contains("chmod 600"), "{error}");
}

#[cfg(unix)]
#[test]
fn only_a_ring_of_root_may_be_readable_by_its_group() {
    let (root, portico, somebody) = (0, 10001, 1000);
    for (mode, owner, me, refused) in [
        (0o600, portico, portico, false),
        (0o640, portico, portico, true),
        (0o440, root, portico, false),
        (0o640, root, portico, false),
        (0o444, root, portico, true),
        (0o660, root, portico, true),
        (0o640, root, root, true),
        (0o640, somebody, portico, true),
    ] {
        assert_eq!(file::is_too_open(mode, owner, me), refused, "{mode:o} of {owner}, read by {me}");
    }
}

#[test]
fn short_missing_and_placeholder_keys_are_refused_with_the_reason() {
    const ID: &str = "00112233445566778899aabbccddeeff";
    const GOOD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let one =
        |key: &str| format!(r#"{{"version":1,"deployment_id":"{ID}","keys":[{{"id":"k1","key":"{key}"}}]}}"#);
    let dir = tempfile::tempdir().unwrap();
    KeyRing::load(&write(dir.path(), &one(GOOD))).unwrap();
    let twice = one(GOOD).replace("}]", &format!(r#"}},{{"id":"k1","key":"{GOOD}"}}]"#));
    let cases = [
        (one("AAECAwQFBgcICQoLDA0ODw"), "key `k1` has 16 bytes instead of 32"),
        (one(""), "key `k1` has 0 bytes instead of 32"),
        (one(&"A".repeat(43)), "key `k1` is not random"),
        (one("change me, please"), "key `k1` is not base64url"),
        (one(GOOD).replace("k1", "k 1"), "a key id has 1 to 64"),
        (twice, "the key id `k1` is there twice"),
        (format!(r#"{{"version":1,"deployment_id":"{ID}","keys":[]}}"#), "it holds no key"),
        (one(GOOD).replace(ID, "prod"), "`deployment_id` is not 32 hexadecimal digits"),
        (one(GOOD).replace(r#""version":1"#, r#""version":2"#), "it has version 2"),
        (one(GOOD).replace("{\"version", "{\"primary\":\"k1\",\"version"), "line 1, column 10"),
        (String::new(), "line 1, column 0"),
    ];
    for (text, expected) in cases {
        let error = KeyRing::load(&write(dir.path(), &text)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains(GOOD) && !error.contains("change me"), "{error}");
    }
}

#[test]
fn debug_shows_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let ring = KeyRing::generate_file(&path, &SeededRng::new(1)).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let text = format!("{ring:?}");
    assert!(!text.contains(file["keys"][0]["key"].as_str().unwrap()), "{text}");
    assert!(text.contains(ring.deployment_id()) && text.len() < 120, "{text}");
}

#[test]
fn a_rotation_teaches_a_key_before_it_seals_and_keeps_the_old_one_until_it_is_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let rng = SeededRng::new(1);
    let running = KeyRing::generate_file(&path, &rng).unwrap();
    let first = running.sealing_key();
    let next = KeyRing::stage_file(&path, &rng).unwrap();
    assert_eq!(KeyRing::stage_file(&path, &rng).unwrap(), next, "one rotation at a time");
    assert!(running.reload().unwrap() && !running.reload().unwrap());
    assert_eq!(running.sealing_key(), first);
    assert_eq!(running.keys()[0], RingKey { id: next.clone(), age: KeyAge::Staged });

    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    KeyRing::promote_file(&path, &next, now).unwrap();
    KeyRing::promote_file(&path, &next, now + chrono::TimeDelta::hours(1)).unwrap();
    assert!(running.reload().unwrap());
    assert_eq!(running.sealing_key(), next);
    let retired = RingKey { id: first.clone(), age: KeyAge::Retired { since: Some(now) } };
    assert_eq!(running.keys()[1], retired);

    let refused = KeyRing::prune_file(&path, &next).unwrap_err().to_string();
    assert!(refused.contains("is not retired"), "{refused}");
    KeyRing::prune_file(&path, &first).unwrap();
    KeyRing::prune_file(&path, &first).unwrap();
    assert!(running.reload().unwrap());
    assert_eq!(running.key_ids(), [next]);
}

#[test]
fn only_the_staged_key_is_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let rng = SeededRng::new(1);
    KeyRing::generate_file(&path, &rng).unwrap();
    let rotated = KeyRing::rotate_file(&path, &rng).unwrap();
    let retired = rotated.key_ids()[1].clone();
    for key in [retired.as_str(), "k-unknown"] {
        let refused = KeyRing::promote_file(&path, key, DateTime::UNIX_EPOCH).unwrap_err();
        assert!(matches!(refused, KeyRingError::WrongAge { needed: "staged", .. }), "{refused}");
    }
}

#[test]
fn a_ring_of_another_deployment_or_a_broken_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    let running = KeyRing::generate_file(&path, &SeededRng::new(1)).unwrap();
    let before = running.key_ids();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(running.reload(), Err(KeyRingError::Missing(_))));
    KeyRing::generate_file(&path, &SeededRng::new(2)).unwrap();
    assert!(matches!(running.reload(), Err(KeyRingError::OtherDeployment { .. })));
    write(dir.path(), "{");
    assert!(matches!(running.reload(), Err(KeyRingError::Invalid { .. })));
    assert_eq!(running.key_ids(), before);
}

#[test]
fn rotations_at_the_same_time_stage_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ring.json");
    KeyRing::generate_file(&path, &SeededRng::new(1)).unwrap();
    let stage = &|seed| KeyRing::stage_file(&path, &SeededRng::new(seed)).unwrap();
    let staged: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (2..10).map(|seed| scope.spawn(move || stage(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(staged.iter().all(|id| *id == staged[0]), "{staged:?}");
    assert_eq!(KeyRing::load(&path).unwrap().key_ids().len(), 2);
}

#[test]
fn a_ring_that_only_waits_is_refused() {
    const ID: &str = "00112233445566778899aabbccddeeff";
    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let keys = format!(r#"[{{"id":"k1","key":"{KEY}","staged":true}}]"#);
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &format!(r#"{{"version":1,"deployment_id":"{ID}","keys":{keys}}}"#));
    let refused = KeyRing::load(&path).unwrap_err().to_string();
    assert!(refused.contains("every key is staged"), "{refused}");
}
