use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::*;
use crate::health;
use crate::testing::any_port;

/// A program whose start takes as long as the test wants.
struct Slow;

#[derive(Clone, Default)]
struct Gate {
    /// Where the admin listener is, once the start has begun.
    begun: Arc<std::sync::OnceLock<SocketAddr>>,
    open: Arc<Notify>,
    fails: bool,
    /// Whether it has begun something that never ends.
    stuck: bool,
}

impl Program for Slow {
    const NAME: &'static str = "slow";
    const ABOUT: &'static str = "waits";
    type Settings = ProcessSettings;
    type Plan = Gate;

    fn frame(settings: &ProcessSettings) -> Frame {
        Frame { admin_listen: any_port(), process: settings.clone(), telemetry: TelemetrySettings::default() }
    }

    fn plan(_: ProcessSettings) -> Result<Gate, Problems> {
        Ok(Gate::default())
    }

    async fn start(plan: Gate, ground: &Ground) -> Result<Started, Failure> {
        if plan.stuck {
            ground.tasks.spawn("stuck", std::future::pending::<Result<(), std::convert::Infallible>>());
        }
        plan.begun.set(ground.admin).unwrap();
        plan.open.notified().await;
        if plan.fails { Err("the gate is broken".into()) } else { Ok(Started::default()) }
    }
}

fn frame() -> Frame {
    Slow::frame(&ProcessSettings::default())
}

async fn ask(address: SocketAddr, live: bool) -> Result<(), String> {
    let answer = tokio::task::spawn_blocking(move || health::ask(address, live)).await.unwrap();
    answer.map_err(|unwell| unwell.to_string())
}

async fn begun(gate: &Gate) -> SocketAddr {
    loop {
        if let Some(address) = gate.begun.get() {
            return *address;
        }
        tokio::task::yield_now().await;
    }
}

fn text(code: ExitCode) -> String {
    format!("{code:?}")
}

#[tokio::test]
async fn s3_53_a_program_lives_while_it_starts_is_ready_afterwards_and_drains_with_0() {
    let gate = Gate::default();
    let (send, signals) = mpsc::channel(2);
    let frame = frame();
    let run = supervise::<Slow>(gate.clone(), &frame, Metrics::new(), Signals::from_channel(signals));
    let test = async {
        let admin = begun(&gate).await;
        ask(admin, true).await.unwrap();
        let unwell = ask(admin, false).await.unwrap_err();
        assert!(unwell.contains("\"start\"") && unwell.contains("the program is starting"), "{unwell}");
        gate.open.notify_one();
        let ready = async { while ask(admin, false).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(10), ready).await.unwrap();
        send.send(()).await.unwrap();
        admin
    };
    let (code, admin) = tokio::join!(run, test);
    assert_eq!(text(code.unwrap()), text(ExitCode::SUCCESS));
    assert!(ask(admin, true).await.unwrap_err().contains("does not answer"));
}

#[tokio::test]
async fn a_signal_before_the_start_is_complete_ends_the_program_with_0() {
    let gate = Gate::default();
    let (send, signals) = mpsc::channel(2);
    let frame = frame();
    let run = supervise::<Slow>(gate.clone(), &frame, Metrics::new(), Signals::from_channel(signals));
    let test = async {
        begun(&gate).await;
        send.send(()).await.unwrap();
    };
    let (code, ()) = tokio::join!(run, test);
    assert_eq!(text(code.unwrap()), text(ExitCode::SUCCESS));
}

#[tokio::test]
async fn a_second_signal_before_the_start_is_complete_ends_the_program_at_once() {
    let gate = Gate { stuck: true, ..Gate::default() };
    let (send, signals) = mpsc::channel(2);
    let frame = frame();
    let run = supervise::<Slow>(gate.clone(), &frame, Metrics::new(), Signals::from_channel(signals));
    let test = async {
        begun(&gate).await;
        send.send(()).await.unwrap();
        send.send(()).await.unwrap();
    };
    // The grace is longer than the test waits.
    let ended = tokio::time::timeout(frame.process.drain().grace / 2, async { tokio::join!(run, test) });
    let (code, ()) = ended.await.unwrap();
    assert_eq!(text(code.unwrap()), text(ExitCode::FAILURE));
}

#[tokio::test]
async fn a_start_that_fails_ends_the_program_with_its_reason() {
    let gate = Gate { fails: true, ..Gate::default() };
    gate.open.notify_one();
    let (_send, signals) = mpsc::channel(1);
    let ended = supervise::<Slow>(gate, &frame(), Metrics::new(), Signals::from_channel(signals)).await;
    assert_eq!(ended.unwrap_err().to_string(), "the gate is broken");
}
