//! Idle sessions with an open GET stream each, and the memory that they take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::http::{Connection, EventStream, Target};
use crate::session::{Session, open_all};
use crate::usage::usage;
use crate::{Args, round};

/// The streams that opened; a connection lives as long as its stream.
struct Streams {
    open: Vec<(Connection, EventStream)>,
    errors: u64,
    first_error: Option<String>,
}

pub(crate) async fn run(args: Args) -> Result<Value> {
    let args = Arc::new(args);
    let target = Target::new(&args)?;
    let observed = || usage(&args.pid, args.tree);
    let before = observed();
    let begin = Instant::now();
    let mut sessions = open_all(&args, &target).await?;
    if args.call_first {
        for session in &mut sessions {
            session.call().await?;
        }
    }
    let setup = begin.elapsed();
    tokio::time::sleep(Duration::from_secs_f64(args.warmup)).await;
    let with_sessions = observed();

    let begin = Instant::now();
    let streams = open_streams(&args, &target, &sessions).await?;
    let opened = begin.elapsed();
    tokio::time::sleep(Duration::from_secs_f64(args.warmup)).await;
    let with_streams = observed();

    let held = streams.open.len();
    let (events, ended) = hold(streams.open, Duration::from_secs_f64(args.duration)).await;
    let after = observed();
    let n = args.sessions as f64;
    let per_session = |kib: u64| round((kib as f64 - before.rss_kib as f64) / n, 2);
    Ok(json!({
        "label": args.label,
        "mode": args.mode.name(),
        "url": args.url,
        "sessions": args.sessions,
        "streams": held,
        "errors": streams.errors,
        "first_error": streams.first_error,
        "setup_seconds": round(setup.as_secs_f64(), 3),
        "streams_seconds": round(opened.as_secs_f64(), 3),
        "events": events,
        "streams_ended_early": ended,
        "rss_before_kib": before.rss_kib,
        "rss_sessions_kib": with_sessions.rss_kib,
        "rss_streams_kib": with_streams.rss_kib,
        "rss_after_kib": after.rss_kib,
        "kib_per_session": per_session(with_sessions.rss_kib),
        "kib_per_session_with_stream": per_session(after.rss_kib),
        "setup_cpu_us_per_session": round((with_sessions.cpu_seconds - before.cpu_seconds) * 1e6 / n, 1),
        "held_cpu_seconds": round(after.cpu_seconds - with_streams.cpu_seconds, 3),
        "threads": after.threads,
    }))
}

async fn open_streams(args: &Arc<Args>, target: &Target, sessions: &[Session]) -> Result<Streams> {
    let slots = Arc::new(Semaphore::new(args.setup_concurrency.max(1)));
    let tasks: Vec<_> = sessions
        .iter()
        .enumerate()
        .map(|(index, session)| {
            let (target, id, slots) = (target.clone(), session.id.clone(), slots.clone());
            let limit = Duration::from_secs_f64(args.timeout);
            tokio::spawn(async move {
                let _slot = slots.acquire().await?;
                // The stream has a connection of its own, since it keeps it for good.
                let mut conn = Connection::open(&target, index).await?;
                let stream = tokio::time::timeout(limit, conn.get(id.as_deref())).await??;
                anyhow::Ok((conn, stream))
            })
        })
        .collect();
    let mut streams = Streams { open: Vec::new(), errors: 0, first_error: None };
    for task in tasks {
        match task.await? {
            Ok(stream) => streams.open.push(stream),
            Err(error) => {
                streams.errors += 1;
                streams.first_error.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
    Ok(streams)
}

/// Holds the streams and counts the events that arrive and the streams that end early.
async fn hold(streams: Vec<(Connection, EventStream)>, time: Duration) -> (u64, u64) {
    let (events, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for (conn, mut stream) in streams {
        let (events, ended) = (events.clone(), ended.clone());
        tokio::spawn(async move {
            let _conn = conn;
            while let Some(n) = stream.next_events().await {
                events.fetch_add(n, Ordering::Relaxed);
            }
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    tokio::time::sleep(time).await;
    (events.load(Ordering::Relaxed), ended.load(Ordering::Relaxed))
}
