//! From a signal to an exit code.

use std::{io, process::ExitCode, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::{Outcome, Tasks};

/// How long tasks may take to finish: below the 30 s after which Kubernetes and ECS kill.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(25);

/// How a process ends once it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// How long listeners go on accepting while `/readyz` says no already: balancers need time to look there.
    pub delay: Duration,
    /// How long tasks may take to finish after that.
    pub grace: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: Duration::ZERO, grace: DEFAULT_GRACE }
    }
}

/// Where requests to stop come from.
#[derive(Debug)]
pub struct Signals(Source);

#[derive(Debug)]
enum Source {
    Process { terminate: Signal, interrupt: Signal },
    Channel(mpsc::Receiver<()>),
}

impl Signals {
    /// Listens to SIGTERM and SIGINT.
    pub fn install() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self(Source::Process { terminate, interrupt }))
    }

    /// Takes each message as a signal, for tests and for embedding.
    #[must_use]
    pub fn from_channel(signals: mpsc::Receiver<()>) -> Self {
        Self(Source::Channel(signals))
    }

    /// Waits for the next signal and returns its name; a closed channel never signals.
    pub async fn next(&mut self) -> &'static str {
        let name = match &mut self.0 {
            Source::Process { terminate, interrupt } => tokio::select! {
                got = terminate.recv() => got.map(|()| "SIGTERM"),
                got = interrupt.recv() => got.map(|()| "SIGINT"),
            },
            Source::Channel(signals) => signals.recv().await.map(|()| "channel"),
        };
        match name {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }
}

/// Waits for a signal or a dead task, drains without a delay for [`DEFAULT_GRACE`], and says how the process shall exit.
pub async fn run(tasks: Tasks, signals: Signals) -> ExitCode {
    run_with_drain(tasks, signals, Drain::default()).await
}

/// Does what [`run`] does, with a delay and a grace of the caller's choice.
pub async fn run_with_drain(tasks: Tasks, mut signals: Signals, drain: Drain) -> ExitCode {
    let outcome = ended(&tasks, &mut signals, drain).await;
    if let Some(failure) = &outcome.failure {
        tracing::error!(%failure, "stopped because a task died");
    } else {
        tracing::info!("stopped");
    }
    outcome.exit_code()
}

/// Waits for the tasks; the first signal drains and, after the delay, asks them to finish, the second drops them.
async fn ended(tasks: &Tasks, signals: &mut Signals, drain: Drain) -> Outcome {
    let mut wait = std::pin::pin!(tasks.wait(drain.grace));
    let mut delay = std::pin::pin!(after_delay(tasks, drain.delay));
    let mut delayed = false;
    loop {
        tokio::select! {
            outcome = &mut wait => {
                if !outcome.aborted.is_empty() {
                    tracing::warn!(tasks = ?outcome.aborted, "tasks were dropped before they had finished");
                }
                return outcome;
            }
            () = &mut delay, if !delayed => delayed = true,
            signal = signals.next() => {
                if tasks.drain_token().is_cancelled() {
                    tracing::warn!(signal, "second signal, stopping at once");
                    tasks.abort();
                } else {
                    tracing::info!(
                        signal,
                        delay_ms = u64::try_from(drain.delay.as_millis()).unwrap_or(u64::MAX),
                        grace_seconds = drain.grace.as_secs(),
                        "shutting down, a second signal stops at once"
                    );
                    tasks.begin_drain();
                }
            }
        }
    }
}

/// Asks the tasks to finish some time after draining began.
async fn after_delay(tasks: &Tasks, delay: Duration) {
    tasks.drain_token().cancelled().await;
    tokio::time::sleep(delay).await;
    tasks.trigger_shutdown();
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn code(exit: ExitCode) -> String {
        format!("{exit:?}")
    }

    #[tokio::test]
    async fn s0_26_the_first_signal_drains_and_exits_0() {
        let tasks = Tasks::new();
        let token = tasks.shutdown_token();
        tasks.spawn("listener", async move {
            token.cancelled().await;
            Ok::<_, Infallible>(())
        });
        let (send, signals) = mpsc::channel(2);
        send.send(()).await.unwrap();
        let exit = run(tasks, Signals::from_channel(signals)).await;
        assert_eq!(code(exit), code(ExitCode::SUCCESS));
    }

    #[tokio::test]
    async fn the_second_signal_ends_at_once_and_exits_1() {
        let tasks = Tasks::new();
        tasks.spawn("stuck", std::future::pending::<Result<(), Infallible>>());
        let (send, signals) = mpsc::channel(2);
        send.send(()).await.unwrap();
        send.send(()).await.unwrap();
        let mut signals = Signals::from_channel(signals);
        // The grace is far longer than the test may take.
        let drain = Drain { grace: Duration::from_hours(1), ..Drain::default() };
        let outcome = ended(&tasks, &mut signals, drain).await;
        assert_eq!(outcome.aborted, ["stuck"]);
        assert_eq!(code(outcome.exit_code()), code(ExitCode::FAILURE));
    }

    #[tokio::test]
    async fn a_second_signal_that_comes_when_all_is_done_exits_0() {
        let tasks = Tasks::new();
        let (send, signals) = mpsc::channel(2);
        send.send(()).await.unwrap();
        send.send(()).await.unwrap();
        let exit = run(tasks, Signals::from_channel(signals)).await;
        assert_eq!(code(exit), code(ExitCode::SUCCESS));
    }

    #[tokio::test(start_paused = true)]
    async fn s0_26_tasks_go_on_for_the_delay_after_draining_began() {
        let tasks = Tasks::new();
        let (draining, shutdown) = (tasks.drain_token(), tasks.shutdown_token());
        let (took, measured) = tokio::sync::oneshot::channel();
        tasks.spawn("listener", async move {
            draining.cancelled().await;
            let began = tokio::time::Instant::now();
            shutdown.cancelled().await;
            let _ = took.send(began.elapsed());
            Ok::<_, Infallible>(())
        });
        let (send, signals) = mpsc::channel(2);
        send.send(()).await.unwrap();
        let drain = Drain { delay: Duration::from_secs(5), ..Drain::default() };
        let exit = run_with_drain(tasks, Signals::from_channel(signals), drain).await;
        assert_eq!(code(exit), code(ExitCode::SUCCESS));
        assert_eq!(measured.await.unwrap().as_secs(), 5);
    }

    #[tokio::test]
    async fn a_dead_task_drains_without_a_signal_and_exits_1() {
        let tasks = Tasks::new();
        tasks.spawn("relay", async { Err::<(), _>("lost its connection") });
        let (_send, signals) = mpsc::channel(1);
        let exit = run(tasks, Signals::from_channel(signals)).await;
        assert_eq!(code(exit), code(ExitCode::FAILURE));
    }
}
