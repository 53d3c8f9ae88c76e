//! The MCP server that a newcomer calls first: time zones, units, a countdown with progress, a table booked by form.
//!
//! It speaks both eras on one endpoint, `/mcp`: sessions for 2025-03-26 to 2025-11-25, stateless requests for 2026-07-28.
//! It keeps nothing on disk, asks for no credentials and is meant to listen on loopback only.

mod bookings;
mod catalogue;
mod completion;
mod event_log;
mod http;
mod json_rpc;
mod prompts;
mod request_state;
mod resources;
mod sessions;
mod tools;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use futures_util::future::BoxFuture;
use portico_clock::SharedClock;
use portico_ids::SharedRng;
use portico_process::Tasks;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use bookings::Bookings;
use request_state::RequestState;
use sessions::Sessions;

/// Calls of the session era that may be under way at once, each on a stream that outlives its connection.
const MAX_JOBS: usize = 256;

/// Work that goes on although nobody reads its stream: a disconnect is no cancellation before 2026-07-28.
type Job = BoxFuture<'static, ()>;

/// The demo server; it serves nothing until [`DemoServer::http`] is mounted.
#[derive(Debug)]
pub struct DemoServer {
    app: Arc<App>,
    jobs: Mutex<Option<mpsc::Receiver<Job>>>,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    clock: SharedClock,
    rng: SharedRng,
    bookings: Bookings,
    sessions: Sessions,
    request_state: RequestState,
    jobs: mpsc::Sender<Job>,
    /// Cancelled when the process drains: standing streams end, and say so.
    closing: CancellationToken,
}

impl DemoServer {
    /// Makes a server with no session and no booking.
    #[must_use]
    pub fn build(clock: SharedClock, rng: SharedRng) -> Self {
        let (jobs, receiver) = mpsc::channel(MAX_JOBS);
        let app = App {
            bookings: Bookings::new(),
            sessions: Sessions::new(clock.clone(), rng.clone()),
            request_state: RequestState::new(clock.clone(), &*rng),
            jobs,
            closing: CancellationToken::new(),
            clock,
            rng,
        };
        Self { app: Arc::new(app), jobs: Mutex::new(Some(receiver)) }
    }

    /// The endpoint `/mcp`. Requests must name a loopback host.
    pub fn http(&self) -> Router {
        http::router(self.app.clone())
    }

    /// Starts the task that runs the calls of the session era. It may be called once; a second call does nothing.
    pub fn spawn_tasks(&self, tasks: &Tasks) {
        let Some(jobs) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let (app, draining) = (self.app.clone(), tasks.shutdown_token());
        tasks.spawn("demo-server-calls", async move {
            run_jobs(jobs, &draining).await;
            app.closing.cancel();
            app.sessions.end_all();
            Ok::<(), Infallible>(())
        });
    }
}

/// Runs jobs until the process drains; those still under way then are dropped.
async fn run_jobs(mut jobs: mpsc::Receiver<Job>, draining: &CancellationToken) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            job = jobs.recv(), if running.len() < MAX_JOBS => match job {
                Some(job) => { running.spawn(job); }
                None => return,
            },
            Some(_) = running.join_next() => {}
        }
    }
}
