//! `portico demo-server`: the MCP server that a newcomer calls first, as a process of its own.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use portico_clock::SystemClock;
use portico_demo_server::DemoServer;
use portico_ids::SystemRng;
use portico_process::{Signals, Tasks};
use portico_transport::{BoundListener, HttpLimits};

use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Address of its MCP endpoint, at the path /mcp
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
}

pub(crate) async fn run(arguments: Arguments, output: Output) -> Result<ExitCode> {
    let signals = Signals::install()?;
    let listener = BoundListener::bind(arguments.listen)?.named("demo");
    let address = listener.local_addr();
    let tasks = Tasks::new();
    let demo = DemoServer::build(Arc::new(SystemClock), Arc::new(SystemRng));
    demo.spawn_tasks(&tasks);
    listener.serve(demo.http(), HttpLimits::default(), None, &tasks);
    output.note(&format!("the demo server listens on http://{address}/mcp"));
    Ok(portico_process::run(tasks, signals).await)
}
