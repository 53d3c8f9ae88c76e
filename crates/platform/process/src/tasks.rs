//! Named, tracked, cancellable tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::causes::with_causes;

/// Longest wait for futures to be dropped once they are aborted.
const ABORT_WAIT: Duration = Duration::from_secs(2);

/// Starts and tracks every task of a process; clones share them.
///
/// The end has three stages: draining says that it is near while everything goes on, the soft token asks tasks to finish
/// what they have begun, the hard one drops them.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tracker: TaskTracker,
    /// A child of `soft`: whoever shuts down drains as well.
    drain: CancellationToken,
    soft: CancellationToken,
    hard: CancellationToken,
    state: Mutex<State>,
}

impl Default for Inner {
    fn default() -> Self {
        let soft = CancellationToken::new();
        Self {
            tracker: TaskTracker::new(),
            drain: soft.child_token(),
            soft,
            hard: CancellationToken::new(),
            state: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    failure: Option<TaskFailure>,
    running: BTreeMap<&'static str, usize>,
    /// Tasks that were dropped before they had finished.
    dropped: BTreeSet<&'static str>,
}

/// Why a task was not allowed to end the way it did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {name} {what}")]
pub struct TaskFailure {
    /// Name of the task.
    pub name: &'static str,
    /// What happened, e.g. `failed: connection refused`.
    pub what: String,
}

/// How the tasks of a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The first task that died; it is why the process ended.
    pub failure: Option<TaskFailure>,
    /// Tasks that did not finish within the grace and were dropped.
    pub aborted: Vec<&'static str>,
}

impl Outcome {
    /// Tells whether the process ended because it was asked to, and not because a task died.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failure.is_none()
    }

    /// Returns 0 if every task finished, 1 if one died or was dropped: an operator must be able to tell that work
    /// was lost.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.is_clean() && self.aborted.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Tasks {
    /// Makes an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task that lives until shutdown.
    ///
    /// If it returns an error, panics, or ends before shutdown was asked for, the process drains and exits 1.
    pub fn spawn<F, E>(&self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let tasks = self.clone();
        self.start(name, async move {
            let what = match AssertUnwindSafe(future).catch_unwind().await {
                Ok(Ok(())) if tasks.0.soft.is_cancelled() => return,
                Ok(Ok(())) => "ended before shutdown".to_owned(),
                Ok(Err(error)) => format!("failed: {}", with_causes(&*error.into())),
                Err(panic) => format!("panicked: {}", panic_message(&*panic)),
            };
            tasks.fail(TaskFailure { name, what });
        });
    }

    /// Starts a task that may end at any time, such as one connection. A panic is logged and ends that task only.
    pub fn spawn_short<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(name, async move {
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                tracing::error!(task.name = name, panic = panic_message(&*panic), "task panicked");
            }
        });
    }

    /// Returns the token that says that the end is near: readiness ends, connections are not kept any longer.
    #[must_use]
    pub fn drain_token(&self) -> CancellationToken {
        self.0.drain.clone()
    }

    /// Returns the token that asks tasks to finish what they have begun and take nothing new.
    #[must_use]
    pub fn shutdown_token(&self) -> CancellationToken {
        self.0.soft.clone()
    }

    /// Returns the token that drops whatever still runs; [`Tasks`] itself already races every task against it.
    #[must_use]
    pub fn abort_token(&self) -> CancellationToken {
        self.0.hard.clone()
    }

    /// Says that the end is near, while every task goes on.
    pub(crate) fn begin_drain(&self) {
        self.0.drain.cancel();
    }

    /// Asks every task to finish.
    pub fn trigger_shutdown(&self) {
        self.0.soft.cancel();
    }

    /// Drops every task now.
    pub fn abort(&self) {
        self.0.soft.cancel();
        self.0.hard.cancel();
    }

    /// Returns the names of the tasks that run, each once.
    pub(crate) fn running(&self) -> Vec<&'static str> {
        self.state().running.keys().copied().collect()
    }

    /// Waits for shutdown to be asked for or forced by a failure, then for the tasks, at most `grace`; drops the rest.
    pub async fn wait(&self, grace: Duration) -> Outcome {
        self.0.soft.cancelled().await;
        self.0.tracker.close();
        let drained = tokio::select! {
            drained = tokio::time::timeout(grace, self.0.tracker.wait()) => drained.is_ok(),
            () = self.0.hard.cancelled() => false,
        };
        if !drained {
            self.0.hard.cancel();
            // A task that never yields cannot be dropped: the runtime's own end takes it.
            if tokio::time::timeout(ABORT_WAIT, self.0.tracker.wait()).await.is_err() {
                tracing::warn!(tasks = ?self.running(), "tasks do not yield");
            }
        }
        let state = self.state();
        let aborted = state.dropped.iter().chain(state.running.keys()).copied().collect::<BTreeSet<_>>();
        Outcome { failure: state.failure.clone(), aborted: aborted.into_iter().collect() }
    }

    fn start(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let entry = Running::enter(self, name);
        let hard = self.0.hard.clone();
        self.0.tracker.spawn(async move {
            // The future owns the cleanup of its values: dropping it is the abort.
            if hard.run_until_cancelled_owned(future).await.is_none() {
                entry.tasks.state().dropped.insert(entry.name);
            }
        });
    }

    fn fail(&self, failure: TaskFailure) {
        tracing::error!(task.name = failure.name, what = failure.what, "task died, the process shuts down");
        self.state().failure.get_or_insert(failure);
        self.0.soft.cancel();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a task as running for as long as it exists, however it ends.
struct Running {
    tasks: Tasks,
    name: &'static str,
}

impl Running {
    fn enter(tasks: &Tasks, name: &'static str) -> Self {
        *tasks.state().running.entry(name).or_default() += 1;
        Self { tasks: tasks.clone(), name }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.tasks.state();
        if let Some(count) = state.running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                state.running.remove(self.name);
            }
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
