//! A load generator for MCP servers and gateways (streamable HTTP, both eras).
//!
//! It opens `--sessions` sessions, each on a keep-alive connection of its own, and then works through one of these modes:
//!
//! - `call`: tools/call in a loop for `--duration` seconds (closed loop), or at `--rate` calls per second in all (open
//!   loop: latency counts from the moment a call was due, so a stalled server cannot hide its stall)
//! - `list`: tools/list in a loop; `--expect-tools` checks the number of tools
//! - `setup`: connect, initialize, initialized, one call and DELETE in a loop
//! - `idle`: opens the sessions, a standing GET stream for each, and holds them
//!
//! Every answer is checked (HTTP status, JSON-RPC id, content); a wrong one counts as an error and its latency is not
//! recorded. One JSON object with the results goes to stdout.
#![expect(clippy::print_stdout, reason = "the result goes to stdout")]
#![expect(
    clippy::disallowed_methods,
    reason = "a tool that ends with its run: nothing drains, so nothing tracks tasks"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "counts, times and sizes of a benchmark are far below 2^52"
)]

mod failures;
mod http;
mod idle;
mod load;
mod session;
mod usage;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

const STATELESS_VERSION: &str = "2026-07-28";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Mode {
    Call,
    List,
    Setup,
    Idle,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::List => "list",
            Self::Setup => "setup",
            Self::Idle => "idle",
        }
    }
}

/// A load generator for MCP servers and gateways (streamable HTTP).
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// The MCP endpoint (http only)
    #[arg(long, default_value = "http://127.0.0.1:9001/mcp")]
    url: String,
    /// What to do
    #[arg(long, value_enum, default_value = "call")]
    mode: Mode,
    /// Concurrent sessions; each has one connection and one call in flight
    #[arg(short = 'c', long, default_value_t = 16)]
    sessions: usize,
    /// Seconds to measure
    #[arg(short = 'd', long, default_value_t = 5.0)]
    duration: f64,
    /// Seconds of load before the measurement starts
    #[arg(short = 'w', long, default_value_t = 1.0)]
    warmup: f64,
    /// Open loop: calls per second over all sessions (0: closed loop)
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Stop after this many calls at the latest
    #[arg(long, default_value_t = 50_000_000)]
    max_calls: u64,
    /// Tools to call, taken in turn. A name ending in `payload` is asked for --payload-kib KiB,
    /// one ending in `slow` for --slow-ms; any other is called as echo
    #[arg(long, value_delimiter = ',', default_value = "echo")]
    tools: Vec<String>,
    /// Size of the text sent to echo, in bytes
    #[arg(long, default_value_t = 32)]
    text_bytes: usize,
    /// Size of what `payload` tools answer
    #[arg(long, default_value_t = 64)]
    payload_kib: usize,
    /// How long `slow` tools take
    #[arg(long, default_value_t = 100)]
    slow_ms: u64,
    /// For `list`: the number of tools that must be listed (0: do not check)
    #[arg(long, default_value_t = 0)]
    expect_tools: usize,
    /// A further request header, `Name: value`; may be repeated
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    /// File with one access token per line; session N sends the Nth
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// Protocol version offered. 2026-07-28 is the stateless one: no initialize, no session
    #[arg(long, default_value = "2025-06-18")]
    protocol: String,
    /// Process whose CPU time and memory are reported; may be repeated
    #[arg(long)]
    pid: Vec<u32>,
    /// Count the descendants of --pid too
    #[arg(long)]
    tree: bool,
    /// Sessions set up at the same time at the start
    #[arg(long, default_value_t = 16)]
    setup_concurrency: usize,
    /// For `idle`: make one call in each session first, so that the server behind a gateway has a session too
    #[arg(long)]
    call_first: bool,
    /// Seconds after which one exchange counts as failed
    #[arg(long, default_value_t = 30.0)]
    timeout: f64,
    /// Worker threads (1: a current-thread runtime)
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// After a failed call go on with the same session on a new connection, instead of opening another session
    #[arg(long)]
    keep_sessions: bool,
    /// Send `X-Correlation-Id: PREFIX-<session>-<call>` with every call
    #[arg(long, value_name = "PREFIX")]
    correlation: Option<String>,
    /// File for the correlation ids of the calls that were answered rightly, one per line
    #[arg(long, requires = "correlation")]
    answered: Option<PathBuf>,
    /// A name for this run, copied to the output
    #[arg(long, default_value = "")]
    label: String,
}

impl Args {
    fn stateless(&self) -> bool {
        self.protocol.as_str() >= STATELESS_VERSION
    }

    /// One token per session, or none at all.
    fn read_tokens(&self) -> Result<Vec<String>> {
        let Some(path) = &self.tokens else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let tokens: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        ensure!(tokens.len() >= self.sessions, "{} tokens for {} sessions", tokens.len(), self.sessions);
        Ok(tokens)
    }
}

/// Rounds for people.
fn round(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(!args.tools.is_empty() && args.sessions > 0, "nothing to do");
    let mut runtime = if args.threads > 1 {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(args.threads);
        builder
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let out = runtime.enable_all().build()?.block_on(async {
        match args.mode {
            Mode::Idle => idle::run(args).await,
            _ => load::run(args).await,
        }
    })?;
    println!("{out}");
    // Idle streams are dropped with the process; there is nothing else to wait for.
    std::process::exit(0);
}
