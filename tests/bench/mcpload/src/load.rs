//! The loop of calls, and what it measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::failures::Failures;
use crate::http::Target;
use crate::session::{Session, open_all};
use crate::usage::{Usage, usage};
use crate::{Args, Mode, round};

/// What all workers share.
struct Shared {
    args: Arc<Args>,
    target: Target,
    /// The measurement lies between these two.
    start: Instant,
    end: Instant,
    calls: AtomicU64,
    stop: AtomicBool,
}

/// What one worker measured; latencies are in units of 100 ns.
struct Tally {
    latency: Histogram<u64>,
    failures: Failures,
    /// Correlation ids of the calls that were answered rightly, also before and after the measurement.
    answered: Vec<String>,
}

impl Tally {
    fn new() -> Result<Self> {
        let latency = Histogram::new_with_bounds(1, 1_200_000_000, 3)?;
        Ok(Self { latency, failures: Failures::default(), answered: Vec::new() })
    }

    fn add(&mut self, mut other: Self) -> Result<()> {
        self.latency.add(&other.latency)?;
        self.failures.merge(other.failures);
        self.answered.append(&mut other.answered);
        Ok(())
    }
}

/// When calls are due: at once (closed loop), or every `gap`, workers being offset from one another (open loop).
struct Schedule {
    gap: Option<Duration>,
    due: Instant,
}

impl Schedule {
    fn new(args: &Args, index: usize) -> Self {
        let gap = (args.rate > 0.0).then(|| Duration::from_secs_f64(args.sessions as f64 / args.rate));
        let offset = gap.map_or(Duration::ZERO, |gap| gap.mul_f64(index as f64 / args.sessions as f64));
        Self { gap, due: Instant::now() + offset }
    }

    /// Waits for the next call and returns the moment that its latency counts from.
    async fn next(&mut self) -> Instant {
        let Some(gap) = self.gap else { return Instant::now() };
        // A call that was due while the last one was still under way counts from when it was due. Else it counts
        // from now: the timer's own lateness (up to 1 ms) is ours.
        let late = Instant::now() >= self.due;
        tokio::time::sleep_until(self.due.into()).await;
        let begin = if late { self.due } else { Instant::now() };
        self.due += gap;
        begin
    }
}

async fn one(shared: &Shared, session: Option<&mut Session>, index: usize) -> Result<()> {
    match (shared.args.mode, session) {
        (Mode::Call, Some(session)) => session.call().await,
        (Mode::List, Some(session)) => session.list().await,
        _ => {
            let mut session = Session::open(shared.args.clone(), &shared.target, index).await?;
            session.call().await?;
            session.close().await
        }
    }
}

/// One worker: loops over calls until the time is up.
async fn worker(shared: Arc<Shared>, mut session: Option<Session>, index: usize) -> Result<Tally> {
    let args = shared.args.clone();
    let mut tally = Tally::new()?;
    let limit = Duration::from_secs_f64(args.timeout);
    let mut schedule = Schedule::new(&args, index);
    loop {
        let begin = schedule.next().await;
        if begin >= shared.end || shared.stop.load(Ordering::Relaxed) {
            return Ok(tally);
        }
        let outcome = match tokio::time::timeout(limit, one(&shared, session.as_mut(), index)).await {
            Ok(outcome) => outcome,
            Err(_) => timed_out(),
        };
        let measured = begin >= shared.start;
        if let (Ok(()), Some(session), true) = (&outcome, &session, args.answered.is_some()) {
            tally.answered.extend(session.correlation());
        }
        match outcome {
            Ok(()) if measured => tally.latency.saturating_record(begin.elapsed().as_nanos() as u64 / 100),
            Ok(()) => {}
            Err(error) => {
                // Whoever asks for the sessions to be kept wants to know of every failure.
                if measured || args.keep_sessions {
                    tally.failures.add(begin, &error);
                }
                // The connection may be unusable: start over, without spinning on a dead peer.
                tokio::time::sleep(Duration::from_millis(50)).await;
                if let (true, Some(session)) = (args.keep_sessions, session.as_mut()) {
                    // If nobody listens now, the next call says so.
                    let _ = tokio::time::timeout(limit, session.reconnect(&shared.target)).await;
                } else if args.mode != Mode::Setup {
                    let opened = Session::open(args.clone(), &shared.target, index);
                    if let Ok(Ok(opened)) = tokio::time::timeout(limit, opened).await {
                        session = Some(opened);
                    }
                }
            }
        }
        if shared.calls.fetch_add(1, Ordering::Relaxed) >= args.max_calls {
            shared.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// SIGTERM ends the run early: calls under way are finished, and the result is reported.
async fn stop_when_asked(shared: Arc<Shared>) {
    if let Ok(mut terminate) = signal(SignalKind::terminate()) {
        terminate.recv().await;
        shared.stop.store(true, Ordering::Relaxed);
    }
}

fn timed_out() -> Result<()> {
    bail!("timed out")
}

/// Samples the memory of the observed processes until told to stop; returns the peak.
async fn peak_memory(args: Arc<Args>, stop: Arc<AtomicBool>) -> u64 {
    let mut peak = 0;
    while !stop.load(Ordering::Relaxed) && !args.pid.is_empty() {
        peak = peak.max(usage(&args.pid, args.tree).rss_kib);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    peak
}

/// CPU time and calls over the measured span.
struct Span {
    observed: Usage,
    before: Usage,
    own_cpu_seconds: f64,
    seconds: f64,
    calls: u64,
}

/// Waits for the measured span; CPU time is read at both of its ends.
async fn measure(shared: &Shared) -> Span {
    let own = || usage(&[std::process::id()], false).cpu_seconds;
    let observed = || usage(&shared.args.pid, shared.args.tree);
    tokio::time::sleep_until(shared.start.into()).await;
    let (before, own_before, begin) = (observed(), own(), Instant::now());
    let calls_before = shared.calls.load(Ordering::Relaxed);
    while Instant::now() < shared.end && !shared.stop.load(Ordering::Relaxed) {
        let left = shared.end.saturating_duration_since(Instant::now());
        tokio::time::sleep(left.min(Duration::from_millis(100))).await;
    }
    Span {
        observed: observed(),
        before,
        own_cpu_seconds: own() - own_before,
        seconds: begin.elapsed().as_secs_f64(),
        calls: shared.calls.load(Ordering::Relaxed) - calls_before,
    }
}

/// Runs the load and returns the result as JSON.
pub(crate) async fn run(args: Args) -> Result<Value> {
    let args = Arc::new(args);
    let target = Target::new(&args)?;
    let rss_before = usage(&args.pid, args.tree).rss_kib;
    let setup_begin = Instant::now();
    let sessions = if args.mode == Mode::Setup { Vec::new() } else { open_all(&args, &target).await? };
    let setup_seconds = setup_begin.elapsed().as_secs_f64();

    let start = Instant::now() + Duration::from_secs_f64(args.warmup);
    let end = start + Duration::from_secs_f64(args.duration);
    let shared = Arc::new(Shared {
        args: args.clone(),
        target,
        start,
        end,
        calls: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    tokio::spawn(stop_when_asked(shared.clone()));
    let finished = Arc::new(AtomicBool::new(false));
    let sampler = tokio::spawn(peak_memory(args.clone(), finished.clone()));
    let mut sessions = sessions.into_iter();
    let workers: Vec<_> = (0..args.sessions)
        .map(|index| tokio::spawn(worker(shared.clone(), sessions.next(), index)))
        .collect();
    let span = measure(&shared).await;
    let mut tally = Tally::new()?;
    for worker in workers {
        tally.add(worker.await??)?;
    }
    finished.store(true, Ordering::Relaxed);
    if let Some(path) = &args.answered {
        std::fs::write(path, tally.answered.join("\n"))?;
    }
    let mut report = report(&args, &tally, &span);
    report["calls"] = json!(shared.calls.load(Ordering::Relaxed));
    report["setup_seconds"] = json!(round(setup_seconds, 3));
    report["rss_before_kib"] = json!(rss_before);
    report["rss_peak_kib"] = json!(sampler.await?);
    Ok(report)
}

fn report(args: &Args, tally: &Tally, span: &Span) -> Value {
    let latency = &tally.latency;
    let us = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 10.0;
    let cpu = span.observed.cpu_seconds - span.before.cpu_seconds;
    let per_call = |seconds: f64| round(seconds * 1e6 / span.calls.max(1) as f64, 2);
    json!({
        "label": args.label,
        "mode": args.mode.name(),
        "url": args.url,
        "protocol": args.protocol,
        "sessions": args.sessions,
        "seconds": round(span.seconds, 3),
        "ok": latency.len(),
        "errors": tally.failures.count(),
        "first_error": tally.failures.first(),
        "failures": tally.failures.list(),
        "rps": round(span.calls as f64 / span.seconds, 1),
        "latency_us": {
            "min": latency.min() as f64 / 10.0, "mean": round(latency.mean() / 10.0, 1),
            "p50": us(0.5), "p90": us(0.9), "p99": us(0.99), "p999": us(0.999), "max": us(1.0)
        },
        "cpu_seconds": round(cpu, 3),
        "cpu_us_per_call": per_call(cpu),
        "cpu_cores": round(cpu / span.seconds, 3),
        "own_cpu_us_per_call": per_call(span.own_cpu_seconds),
        "rss_after_kib": span.observed.rss_kib,
        "threads": span.observed.threads,
    })
}
