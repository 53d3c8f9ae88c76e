use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[derive(Debug, Clone, PartialEq)]
struct Record {
    principal: String,
    action: &'static str,
    note: String,
}

impl Denial for Record {
    fn principal(&self) -> &str {
        &self.principal
    }

    fn kind(&self) -> (&str, &str) {
        (self.action, "no_permission")
    }

    fn add(&mut self, note: String) {
        self.note = note;
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the log is away")]
struct Away;

/// Keeps records, unless it is away; while it hangs nothing is ever answered.
#[derive(Debug, Default)]
struct Log {
    kept: Mutex<Vec<Record>>,
    away: AtomicBool,
    hangs: AtomicBool,
}

impl DenialLog for Log {
    type Record = Record;
    type Error = Away;

    async fn append(&self, records: Vec<Record>) -> Result<(), Away> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::Relaxed) {
            return Err(Away);
        }
        assert!(records.len() <= LOT);
        self.kept.lock().unwrap().extend(records);
        Ok(())
    }
}

impl Log {
    fn rows(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// How many denials the records stand for.
    fn told(&self) -> u64 {
        self.kept.lock().unwrap().iter().map(|record| 1 + more(&record.note)).sum()
    }
}

fn more(note: &str) -> u64 {
    note.split(' ').nth(1).map_or(0, |number| number.parse().unwrap())
}

fn denial(principal: &str, action: &'static str) -> Record {
    Record { principal: principal.to_owned(), action, note: String::new() }
}

struct Bench {
    denials: Denials<Record>,
    log: Arc<Log>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), Infallible>>,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "a test's own task, which it waits for")]
    fn new() -> Self {
        let denials = Denials::new(&CallLimitSettings::default());
        let (log, shutdown) = (Arc::new(Log::default()), CancellationToken::new());
        let task = tokio::spawn(denials.clone().run(Arc::clone(&log), shutdown.clone()));
        Self { denials, log, shutdown, task }
    }

    async fn deny(&self, principal: &str, action: &'static str, times: usize) {
        for _ in 0..times {
            self.denials.record(&*self.log, denial(principal, action)).await;
        }
    }

    async fn stop(self) -> Arc<Log> {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.log
    }
}

/// Longer than a window and the look for it.
const AFTER_A_WINDOW: Duration = Duration::from_secs(66);

#[tokio::test(start_paused = true)]
async fn a_flood_of_denials_is_a_bounded_number_of_records_that_add_up() {
    let bench = Bench::new();
    bench.deny("user:mallory", "audit.read", 490).await;
    bench.deny("user:bob", "audit.read", 1).await;
    assert_eq!(bench.log.rows(), 11, "the first ten at once, and another principal's");
    sleep(AFTER_A_WINDOW).await;
    assert_eq!(bench.log.kept.lock().unwrap().last().unwrap().note, "and 479 more like this");
    assert_eq!((bench.log.rows(), bench.log.told()), (12, 491));
    // The next minute begins anew.
    bench.deny("user:mallory", "audit.read", 1).await;
    assert_eq!((bench.log.rows(), bench.log.told()), (13, 492));
}

#[tokio::test(start_paused = true)]
async fn noise_of_one_kind_does_not_hide_another_kind() {
    let bench = Bench::new();
    bench.deny("user:mallory", "audit.read", 100).await;
    bench.deny("user:mallory", "user.delete", 1).await;
    bench.deny("user:mallory", "audit.read", 100).await;
    let log = bench.stop().await;
    let kept = log.kept.lock().unwrap().clone();
    let sums: Vec<_> = kept[10..].iter().map(|record| (record.action, record.note.as_str())).collect();
    assert_eq!(sums, [("audit.read", "and 189 more like this"), ("user.delete", "")]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_writes_what_was_counted_and_counts_no_more() {
    let bench = Bench::new();
    bench.deny("user:mallory", "audit.read", 60).await;
    let denials = bench.denials.clone();
    let log = bench.stop().await;
    assert_eq!((log.rows(), log.told()), (11, 60));
    // A call that is still being served while the process drains.
    denials.record(&*log, denial("user:mallory", "audit.read")).await;
    assert_eq!((log.rows(), log.told()), (12, 61));
}

#[tokio::test(start_paused = true)]
async fn denials_that_cannot_be_written_are_counted_until_they_can() {
    let bench = Bench::new();
    bench.log.away.store(true, Ordering::Relaxed);
    bench.deny("user:mallory", "audit.read", 30).await;
    sleep(AFTER_A_WINDOW).await;
    assert_eq!(bench.log.rows(), 0);
    bench.log.away.store(false, Ordering::Relaxed);
    sleep(AFTER_A_WINDOW).await;
    assert_eq!((bench.log.rows(), bench.log.told()), (1, 30));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_wait_for_its_denial_is_recorded_all_the_same() {
    let bench = Bench::new();
    bench.log.hangs.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        let record = bench.denials.record(&*bench.log, denial("user:mallory", "audit.read"));
        tokio::time::timeout(Duration::from_millis(1), record).await.unwrap_err();
    }
    bench.log.hangs.store(false, Ordering::Relaxed);
    let log = bench.stop().await;
    assert_eq!((log.rows(), log.told()), (1, 5));
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_nothing_is_lost_when_very_many_are_denied() {
    let bench = Bench::new();
    let many = MOST_WINDOWS + 100;
    for number in 0..many {
        bench.deny(&format!("user:{number}"), "audit.read", 12).await;
        assert!(bench.denials.state().windows.len() <= MOST_WINDOWS);
    }
    let log = bench.stop().await;
    assert_eq!((log.rows(), log.told()), (11 * many, 12 * many as u64));
}
