//! The task that makes the connection, watches it and makes it anew.

use std::{sync::Arc, time::Duration};

use portico_ids::SharedRng;
use redis::{PushKind, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Connected, Server, State,
    dial::{DialError, Dialer},
};

/// The first and the longest pause after a failed attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a connection is asked whether it still lives.
const PING: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    server: Server,
    dialer: Dialer,
    rng: SharedRng,
}

impl Keeper {
    pub(super) fn new(server: Server, dialer: Dialer, rng: SharedRng) -> Self {
        Self { server, dialer, rng }
    }

    /// Keeps a connection until shutdown. The last one stays usable after that, for what is still being finished.
    pub(super) async fn keep(self, shutdown: CancellationToken) {
        let mut failures = 0;
        while !shutdown.is_cancelled() {
            let dialled = tokio::select! {
                () = shutdown.cancelled() => break,
                dialled = self.connect() => dialled,
            };
            let error = match dialled {
                Ok(connected) => {
                    self.went_up(connected.clone(), failures);
                    failures = 0;
                    let began = Instant::now();
                    let reason = tokio::select! {
                        () = shutdown.cancelled() => break,
                        reason = self.watch(&connected) => reason,
                    };
                    self.server.lost(&connected);
                    self.server.inner.channels.cut();
                    self.server.inner.metrics.up.set(0);
                    if began.elapsed() < PING {
                        // One that ends as soon as it is made is not made again and again without a pause.
                        tracing::debug!(redis.reason = %reason, "the connection to Redis has ended at once");
                        sleep(self.pause(1)).await;
                    } else {
                        tracing::warn!(redis.reason = %reason, "the connection to Redis has ended");
                    }
                    continue;
                }
                Err(error) => error,
            };
            self.went_down(&error, failures);
            failures = failures.saturating_add(1);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep(self.pause(failures)) => {}
            }
        }
        self.server.ends();
    }

    async fn connect(&self) -> Result<Connected, DialError> {
        let ended = Arc::new(Notify::new());
        let (channels, ring) = (Arc::clone(&self.server.inner.channels), Arc::clone(&ended));
        let lost = self.server.inner.metrics.lost_messages.clone();
        let push = move |info: redis::PushInfo| match info.kind {
            PushKind::Disconnection => ring.notify_one(),
            PushKind::Message => {
                lost.inc_by(channels.deliver(&info.data));
            }
            _ => {}
        };
        let mut connection = self.dialer.dial(self.server.deadline(), push).await?;
        self.server.inner.channels.cut();
        self.server.inner.channels.follow(&mut connection).await?;
        Ok(Connected { connection, ended })
    }

    /// Returns why the connection is of no use any more.
    async fn watch(&self, connected: &Connected) -> String {
        let mut connection = connected.connection.clone();
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let checked = tokio::select! {
                () = connected.ended.notified() => return "it was closed".to_owned(),
                () = self.server.inner.channels.changed() => self.follow_channels(&mut connection).await,
                _ = ping.tick() => {
                    let ping = redis::cmd("PING");
                    let deadline = self.server.deadline();
                    match timeout(deadline, ping.exec_async(&mut connection)).await {
                        Ok(Ok(())) => Ok(()),
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(_) => Err(format!("no answer to PING within {deadline:?}")),
                    }
                }
            };
            if let Err(reason) = checked {
                return reason;
            }
        }
    }

    async fn follow_channels(&self, connection: &mut MultiplexedConnection) -> Result<(), String> {
        self.server.inner.channels.follow(connection).await.map_err(|error| error.to_string())
    }

    fn went_up(&self, connected: Connected, failures: u32) {
        self.server.inner.state.send_replace(State::Up(connected));
        self.server.inner.metrics.up.set(1);
        self.server.inner.metrics.connections.inc();
        if failures > 0 {
            tracing::info!(redis.failures = failures, "Redis can be reached again");
        }
    }

    /// Logged once for each time that Redis is down, however long it takes.
    fn went_down(&self, error: &DialError, failures: u32) {
        let reason = error.to_string();
        let unusable = matches!(error, DialError::Unusable(_));
        if failures == 0 {
            let what = if unusable { "Redis cannot be used" } else { "Redis cannot be reached" };
            tracing::error!(
                redis.reason = reason,
                "{what}: rate limits are local, sessions and events wait until it is back"
            );
        }
        let reason = reason.into();
        let state = if unusable { State::Unusable(reason) } else { State::Down(reason) };
        self.server.inner.state.send_replace(state);
    }

    /// Doubles from the first pause to the longest, between a half and the whole of it at random: replicas that
    /// lost Redis together do not return together.
    fn pause(&self, failures: u32) -> Duration {
        let whole = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
        let mut random = [0];
        self.rng.fill(&mut random);
        whole / 2 + whole / 2 * u32::from(random[0]) / 255
    }
}
