use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portico_proto_registry::AuditRecord;
use prost::Message;

/// Size at which the next record starts a new segment.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Length and checksum in front of each record.
const HEADER: usize = 8;
/// Largest record that is believed when a segment is read.
const MAX_RECORD: usize = 64 * 1024;
/// How often it is tried whether a disk that failed can be written again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Why a record was not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the audit spool is full")]
    Full,
    #[error("the audit spool cannot be used")]
    Io(#[from] io::Error),
}

/// Records on their way to the registry: segments of appended records, oldest first.
///
/// One `write` per record, so a killed process loses at most the record that it was writing.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    limit: u64,
    state: Mutex<State>,
    /// Tells the shipper that there is something to send.
    pub(crate) grown: tokio::sync::Notify,
}

#[derive(Debug)]
struct State {
    current: File,
    number: u64,
    /// Bytes in the current segment.
    written: u64,
    /// Bytes in all segments.
    pending: u64,
    /// The oldest segment and how much of it is acknowledged.
    oldest: u64,
    acknowledged: u64,
    /// When writing last failed; `None` while it works.
    failed: Option<Instant>,
}

/// What the shipper sends at once.
#[derive(Debug)]
pub(crate) struct Lot {
    pub(crate) records: Vec<AuditRecord>,
    segment: u64,
    end: u64,
}

impl Spool {
    /// Opens the spool in `dir`; a record that was cut short by a kill is dropped.
    pub(crate) fn open(dir: &Path, limit: u64) -> Result<Self, io::Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut numbers: Vec<u64> = std::fs::read_dir(dir)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".spool")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        let oldest = numbers.first().copied().unwrap_or(0);
        let number = numbers.last().map_or(0, |last| last + 1);
        let mut pending = 0;
        for number in &numbers {
            pending += std::fs::metadata(path_of(dir, *number))?.len();
        }
        let current = create(&path_of(dir, number))?;
        let state = State { current, number, written: 0, pending, oldest, acknowledged: 0, failed: None };
        Ok(Self { dir: dir.to_owned(), limit, state: Mutex::new(state), grown: tokio::sync::Notify::new() })
    }

    /// Whether the next record may find no room, here or on the disk.
    pub(crate) fn is_full(&self) -> bool {
        let mut state = self.state();
        if state.failed.is_some_and(|since| since.elapsed() >= TRY_AGAIN) {
            state.failed = self.try_disk().err().map(|_| Instant::now());
        }
        state.failed.is_some() || state.pending + MAX_RECORD as u64 > self.limit
    }

    /// Writes as much as a record can take, to a file of its own.
    fn try_disk(&self) -> Result<(), io::Error> {
        let path = self.dir.join("trial");
        let written = create(&path).and_then(|mut file| file.write_all(&vec![0; MAX_RECORD]));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => written,
        }
    }

    /// Appends a record; gives the bytes that wait.
    pub(crate) fn append(&self, record: &AuditRecord) -> Result<u64, SpoolError> {
        let length = record.encoded_len();
        let mut frame = Vec::with_capacity(HEADER + length);
        frame.extend_from_slice(&u32::try_from(length).map_err(|_| SpoolError::Full)?.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        record.encode(&mut frame).map_err(io::Error::other)?;
        let sum = checksum(&frame[HEADER..]);
        frame[4..HEADER].copy_from_slice(&sum.to_be_bytes());
        let size = frame.len() as u64;
        let mut state = self.state();
        if length > MAX_RECORD || state.pending + size > self.limit {
            return Err(SpoolError::Full);
        }
        let written = self.write(&mut state, &frame);
        state.failed = written.is_err().then(Instant::now);
        written?;
        let pending = state.pending.saturating_sub(state.acknowledged);
        drop(state);
        self.grown.notify_one();
        Ok(pending)
    }

    fn write(&self, state: &mut State, frame: &[u8]) -> Result<(), io::Error> {
        if state.written >= SEGMENT_BYTES {
            let number = state.number + 1;
            state.current = create(&path_of(&self.dir, number))?;
            (state.number, state.written) = (number, 0);
        }
        if let Err(error) = state.current.write_all(frame) {
            // What was written of it must be the end of its segment: behind it nothing could be read.
            state.written = SEGMENT_BYTES;
            return Err(error);
        }
        state.written += frame.len() as u64;
        state.pending += frame.len() as u64;
        Ok(())
    }

    /// The oldest records that were not acknowledged; `None` if there are none.
    pub(crate) fn next_lot(&self, most: usize) -> Result<Option<Lot>, io::Error> {
        loop {
            let (segment, start, is_current) = {
                let state = self.state();
                (state.oldest, state.acknowledged, state.oldest == state.number)
            };
            let (records, end) = read_records(&path_of(&self.dir, segment), start, most)?;
            if !records.is_empty() {
                return Ok(Some(Lot { records, segment, end }));
            }
            if is_current {
                return Ok(None);
            }
            self.drop_oldest(segment, end)?;
        }
    }

    /// Notes what the registry has; gives the bytes that still wait. A finished segment is deleted by the next look.
    pub(crate) fn acknowledge(&self, lot: &Lot) -> u64 {
        let mut state = self.state();
        if state.oldest == lot.segment {
            state.acknowledged = lot.end;
        }
        state.pending.saturating_sub(state.acknowledged)
    }

    fn drop_oldest(&self, segment: u64, read: u64) -> Result<(), io::Error> {
        let path = path_of(&self.dir, segment);
        let size = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        if size > read {
            // A record that a kill cut short, or a damaged disk.
            tracing::error!(bytes = size - read, "the end of an audit segment cannot be read and is dropped");
        }
        if path.exists() {
            std::fs::remove_file(&path)?;
        }
        let mut state = self.state();
        state.pending = state.pending.saturating_sub(size);
        state.oldest = segment + 1;
        state.acknowledged = 0;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.spool"))
}

/// Who did what is for nobody else on the machine.
fn create(path: &Path) -> Result<File, io::Error> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Reads whole records from `start` on; stops where a record is cut short or damaged.
fn read_records(path: &Path, start: u64, most: usize) -> Result<(Vec<AuditRecord>, u64), io::Error> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), start)),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(start))?;
    let mut reader = io::BufReader::new(file);
    let (mut records, mut end) = (Vec::new(), start);
    while records.len() < most {
        let mut header = [0; HEADER];
        if reader.read_exact(&mut header).is_err() {
            break;
        }
        // Length in the upper half, checksum in the lower.
        let header = u64::from_be_bytes(header);
        let (length, sum) = ((header >> 32) as usize, header & 0xffff_ffff);
        if length > MAX_RECORD {
            break;
        }
        let mut bytes = vec![0; length];
        if reader.read_exact(&mut bytes).is_err() || u64::from(checksum(&bytes)) != sum {
            break;
        }
        let Ok(record) = AuditRecord::decode(bytes.as_slice()) else { break };
        records.push(record);
        end += (HEADER + length) as u64;
    }
    Ok((records, end))
}

/// FNV-1a: finds a torn write, which is all that it is for.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: usize) -> AuditRecord {
        AuditRecord { id: format!("id-{n}"), action: "tools/call".into(), ..AuditRecord::default() }
    }

    #[test]
    fn records_survive_a_reopen_in_order_and_a_torn_one_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), 1 << 20).unwrap();
        for n in 0..3 {
            spool.append(&record(n)).unwrap();
        }
        drop(spool);
        let segment = path_of(dir.path(), 0);
        let length = std::fs::metadata(&segment).unwrap().len();
        OpenOptions::new().write(true).open(&segment).unwrap().set_len(length - 1).unwrap();
        let spool = Spool::open(dir.path(), 1 << 20).unwrap();
        spool.append(&record(3)).unwrap();
        let lot = spool.next_lot(10).unwrap().unwrap();
        assert_eq!(lot.records.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["id-0", "id-1"]);
        spool.acknowledge(&lot);
        let lot = spool.next_lot(10).unwrap().unwrap();
        assert_eq!(lot.records[0].id, "id-3");
        spool.acknowledge(&lot);
        assert!(spool.next_lot(10).unwrap().is_none());
        assert!(!segment.exists(), "an acknowledged segment is deleted");
    }

    #[test]
    fn a_full_spool_refuses_and_has_room_again_after_acknowledgement() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), 200).unwrap();
        let kept = (0..100).take_while(|n| spool.append(&record(*n)).is_ok()).count();
        assert!((2..20).contains(&kept));
        assert!(spool.is_full());
        assert!(matches!(spool.append(&record(0)), Err(SpoolError::Full)));
    }

    #[test]
    fn a26_a_disk_that_cannot_be_written_counts_as_full_until_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let spool = Spool::open(&path, 1 << 20).unwrap();
        spool.state().written = SEGMENT_BYTES;
        std::fs::remove_dir_all(&path).unwrap();
        assert!(matches!(spool.append(&record(0)), Err(SpoolError::Io(_))));
        assert!(spool.is_full());
        std::fs::create_dir(&path).unwrap();
        assert!(spool.is_full(), "it is not tried at every call");
        spool.state().failed = Instant::now().checked_sub(TRY_AGAIN);
        assert!(!spool.is_full());
        spool.append(&record(1)).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "the trial leaves nothing behind");
    }

    #[test]
    fn audit_records_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        drop(Spool::open(&path, 1 << 20).unwrap());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o077;
        assert_eq!((mode(&path), mode(&path_of(&path, 0))), (0, 0));
    }
}
