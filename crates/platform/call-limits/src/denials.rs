//! The audit of denials: the first of a minute are records of their own, the others are counted and told in sum.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::CallLimitSettings;

/// For how long denials of one principal are counted together.
const WINDOW: Duration = Duration::from_mins(1);
/// How often it is looked for windows that have ended.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Principals whose denials are counted at the same time; for a further one the oldest window ends early. The memory of a window
/// is bounded too: it holds a record for each pair of an action and a reason, which are constants of the program.
const MOST_WINDOWS: usize = 1024;
/// Records that one transaction writes.
const LOT: usize = 200;

/// A record of something that a principal tried and may not do.
pub trait Denial: Clone + Send + 'static {
    /// Who tried.
    fn principal(&self) -> &str;

    /// What was tried and why it was refused: denials that agree in this are told as one.
    fn kind(&self) -> (&str, &str);

    /// Says in the record what it stands for besides itself.
    fn add(&mut self, note: String);
}

/// Where records of denials are kept.
pub trait DenialLog: Send + Sync {
    /// What it keeps.
    type Record: Denial;
    /// Why it could not.
    type Error: Error + Send + Sync + 'static;

    /// Appends records in one transaction; the same one twice keeps one.
    fn append(&self, records: Vec<Self::Record>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Decides which denials become records of their own. A clone decides together with it.
///
/// No denial is lost in number: what is counted is written when its window ends and when the process does, and what could not
/// be written, because the database was away or the caller did not wait for its answer, is counted again.
#[derive(Debug)]
pub struct Denials<R> {
    /// Records of their own in a window of one principal.
    per_window: u32,
    state: Arc<Mutex<State<R>>>,
}

#[derive(Debug)]
struct State<R> {
    windows: HashMap<String, Window<R>>,
    /// Nobody will write later what is counted now.
    closed: bool,
}

/// What one principal was denied within a minute.
#[derive(Debug)]
struct Window<R> {
    ends: Instant,
    told: u32,
    counted: Vec<Sum<R>>,
}

/// Denials of one kind.
#[derive(Debug)]
struct Sum<R> {
    /// The last one of them.
    last: R,
    count: u64,
}

impl<R> Clone for Denials<R> {
    fn clone(&self) -> Self {
        Self { per_window: self.per_window, state: Arc::clone(&self.state) }
    }
}

impl<R: Denial> Denials<R> {
    /// Makes one that has counted nothing yet.
    #[must_use]
    pub fn new(settings: &CallLimitSettings) -> Self {
        let state = State { windows: HashMap::new(), closed: false };
        Self { per_window: settings.denial_records_per_minute, state: Arc::new(Mutex::new(state)) }
    }

    /// Writes a denial to the log, or counts it.
    pub async fn record(&self, log: &impl DenialLog<Record = R>, denial: R) {
        let due = self.admit(denial);
        self.write(log, due).await;
    }

    /// Writes what was counted once its window has ended, and the rest at the end of the process.
    pub async fn run(
        self,
        log: Arc<impl DenialLog<Record = R>>,
        shutdown: CancellationToken,
    ) -> Result<(), Infallible> {
        while shutdown.run_until_cancelled(sleep(SWEEP_EVERY)).await.is_some() {
            let ended = self.ended();
            self.write(&*log, ended).await;
        }
        let rest = self.close();
        self.write(&*log, rest).await;
        Ok(())
    }

    /// Takes a denial in, and answers what has to be written now.
    fn admit(&self, denial: R) -> Vec<Sum<R>> {
        let mut state = self.state();
        if state.closed {
            return vec![Sum { last: denial, count: 1 }];
        }
        let now = Instant::now();
        let mut due = Vec::new();
        if state.windows.get(denial.principal()).is_some_and(|window| window.ends <= now) {
            due = state.end(denial.principal());
        }
        if state.windows.len() >= MOST_WINDOWS && !state.windows.contains_key(denial.principal()) {
            due.append(&mut state.end_oldest());
        }
        let window = state.window(denial.principal(), now);
        if window.told < self.per_window {
            window.told += 1;
            due.push(Sum { last: denial, count: 1 });
        } else {
            window.count(denial);
        }
        due
    }

    /// Takes what stands in windows that have ended.
    fn ended(&self) -> Vec<Sum<R>> {
        let now = Instant::now();
        let ended = self.state().windows.extract_if(|_, window| window.ends <= now).collect::<Vec<_>>();
        ended.into_iter().flat_map(|(_, window)| window.counted).collect()
    }

    /// Takes everything; whoever is denied from now on is recorded at once.
    fn close(&self) -> Vec<Sum<R>> {
        let mut state = self.state();
        state.closed = true;
        state.windows.drain().flat_map(|(_, window)| window.counted).collect()
    }

    async fn write(&self, log: &impl DenialLog<Record = R>, due: Vec<Sum<R>>) {
        let mut writing = Writing { denials: self, due };
        while !writing.due.is_empty() {
            let lot = writing.due.len().min(LOT);
            let records = writing.due[..lot].iter().map(Sum::record).collect();
            if let Err(error) = log.append(records).await {
                tracing::warn!(
                    error = &error as &dyn Error,
                    audit.records = writing.due.len(),
                    "denials cannot be recorded, they are counted until they can"
                );
                return;
            }
            writing.due.drain(..lot);
        }
    }

    /// Counts again what was not written.
    fn put_back(&self, unwritten: Vec<Sum<R>>) {
        if unwritten.is_empty() {
            return;
        }
        let mut state = self.state();
        let now = Instant::now();
        for sum in unwritten {
            let principal = sum.last.principal();
            let room = state.windows.len() < MOST_WINDOWS || state.windows.contains_key(principal);
            if room && !state.closed {
                state.window(principal, now).put_back(sum);
            } else {
                let ((action, reason), count) = (sum.last.kind(), sum.count);
                tracing::error!(principal, action, reason, count, "denials are not in the audit record");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Denial> State<R> {
    /// The window of a principal, which begins now if there is none.
    fn window(&mut self, principal: &str, now: Instant) -> &mut Window<R> {
        let begin = || Window { ends: now + WINDOW, told: 0, counted: Vec::new() };
        self.windows.entry(principal.to_owned()).or_insert_with(begin)
    }

    fn end(&mut self, principal: &str) -> Vec<Sum<R>> {
        self.windows.remove(principal).map(|window| window.counted).unwrap_or_default()
    }

    fn end_oldest(&mut self) -> Vec<Sum<R>> {
        let oldest = self.windows.iter().min_by_key(|(_, window)| window.ends);
        let oldest = oldest.map(|(principal, _)| principal.clone());
        oldest.map(|principal| self.end(&principal)).unwrap_or_default()
    }
}

impl<R: Denial> Window<R> {
    fn count(&mut self, denial: R) {
        match self.like(&denial) {
            Some(sum) => *sum = Sum { last: denial, count: sum.count + 1 },
            None => self.counted.push(Sum { last: denial, count: 1 }),
        }
    }

    /// Keeps the record of what was counted meanwhile: the other one may have been written without an answer.
    fn put_back(&mut self, unwritten: Sum<R>) {
        match self.like(&unwritten.last) {
            Some(sum) => sum.count += unwritten.count,
            None => self.counted.push(unwritten),
        }
    }

    fn like(&mut self, denial: &R) -> Option<&mut Sum<R>> {
        self.counted.iter_mut().find(|sum| sum.last.kind() == denial.kind())
    }
}

impl<R: Denial> Sum<R> {
    /// The last denial, which says how many there were like it.
    fn record(&self) -> R {
        let mut record = self.last.clone();
        if self.count > 1 {
            record.add(format!("and {} more like this", self.count - 1));
        }
        record
    }
}

/// What is being written; whatever is not when this ends is counted again.
struct Writing<'a, R: Denial> {
    denials: &'a Denials<R>,
    due: Vec<Sum<R>>,
}

impl<R: Denial> Drop for Writing<'_, R> {
    fn drop(&mut self) {
        self.denials.put_back(std::mem::take(&mut self.due));
    }
}

#[cfg(test)]
mod tests;
