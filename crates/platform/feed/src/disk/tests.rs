use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use portico_ids::SeededRng;
use portico_sealing::KeyRing;

use super::*;

fn copy() -> Copy {
    let items = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    Copy { feed: "trust".to_owned(), revision: 7, confirmed_at: 1_000_000, items }
}

fn kinds(directory: &Path) -> [DiskCopy; 2] {
    let random = Arc::new(SeededRng::new(1));
    let ring = KeyRing::generate_file(&directory.join("ring"), &*random).unwrap();
    [
        DiskCopy::Plain(directory.join("plain")),
        DiskCopy::Sealed(directory.join("sealed"), Sealer::new(&ring, random)),
    ]
}

#[test]
fn a_copy_round_trips_and_only_its_owner_may_read_it() {
    let directory = tempfile::tempdir().unwrap();
    for disk in kinds(directory.path()) {
        assert_eq!(disk.read("trust").unwrap(), None);
        disk.write(&Copy { revision: 6, ..copy() }).unwrap();
        disk.write(&copy()).unwrap();
        assert_eq!(disk.read("trust").unwrap(), Some(copy()));
        assert_eq!(disk.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(disk.read("catalogue").is_err());
    }
}

#[test]
fn every_truncation_and_every_flipped_byte_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    for disk in kinds(directory.path()) {
        disk.write(&copy()).unwrap();
        let whole = std::fs::read(disk.path()).unwrap();
        for at in 0..whole.len() {
            std::fs::write(disk.path(), &whole[..at]).unwrap();
            assert!(disk.read("trust").is_err(), "cut at {at}");
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(disk.path(), flipped).unwrap();
            assert!(disk.read("trust").is_err(), "flipped at {at}");
        }
    }
}

#[test]
fn what_a_killed_writer_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let disk = DiskCopy::Plain(directory.path().join("plain"));
    std::fs::write(directory.path().join("plain.new"), "half").unwrap();
    disk.write(&copy()).unwrap();
    assert_eq!(disk.read("trust").unwrap(), Some(copy()));
}
