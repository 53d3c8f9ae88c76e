//! The one Redis of a deployment: a connection that one task keeps, and questions with a deadline.
//!
//! A process holds a single connection. Questions are interleaved on it; what is published to the channels that
//! the process listens to arrives on it too (RESP3). While Redis is down, questions fail at once instead of
//! waiting; a question that is asked before the first attempt to connect has ended waits for it.

mod channels;
mod dial;
mod keeper;
mod keys;
mod kind;
mod metrics;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use portico_process::{ReadinessCheck, Tasks};
use redis::{
    Cmd, ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use crate::{CoordinationDeps, CoordinationError, CoordinationSettings, SetupError};
use channels::Channels;
pub(crate) use channels::message_text;
pub(crate) use dial::Dialer;
#[cfg(test)]
pub(crate) use keys::slot;
pub(crate) use keys::{Keys, part};
use metrics::{Of, ServerMetrics};

/// The longest that one question may take, waiting for a connection included. (Tests that are not about it have
/// more time.)
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);

/// The Redis that replicas share. A clone shares the connection.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    keys: Keys,
    deadline: Duration,
    state: watch::Sender<State>,
    /// A task makes connections; not any more once the process ends.
    kept: AtomicBool,
    /// The log has told that a question was refused for lack of a right.
    refused: AtomicBool,
    channels: Arc<Channels>,
    metrics: ServerMetrics,
}

/// What is known of the connection.
#[derive(Clone, Debug)]
enum State {
    /// It is being made, and nothing speaks against it yet.
    Connecting,
    Up(Connected),
    /// It cannot be made, for this reason.
    Down(Arc<str>),
    /// It leads to a server that waiting does not make better, for this reason.
    Unusable(Arc<str>),
}

#[derive(Clone, Debug)]
struct Connected {
    connection: MultiplexedConnection,
    /// Tells the keeper that the connection has ended.
    ended: Arc<Notify>,
}

/// What is asked of Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    capability: &'static str,
    name: &'static str,
    /// Doing it twice is the same as doing it once, so it is asked again when the connection is cut meanwhile.
    repeatable: bool,
}

impl Operation {
    pub(crate) const fn once(capability: &'static str, name: &'static str) -> Self {
        Self { capability, name, repeatable: false }
    }

    pub(crate) const fn repeatable(capability: &'static str, name: &'static str) -> Self {
        Self { capability, name, repeatable: true }
    }

    pub(crate) fn unavailable(&self, reason: impl Into<String>) -> CoordinationError {
        CoordinationError::Unavailable { operation: self.name, reason: reason.into() }
    }
}

/// A command or a script with its arguments.
#[derive(Clone, Copy)]
pub(crate) enum Question<'a> {
    Command(&'a Cmd),
    Script(&'a ScriptInvocation<'a>),
}

impl Question<'_> {
    async fn ask(&self, connection: &mut MultiplexedConnection) -> redis::RedisResult<Value> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Script(script) => script.invoke_async(connection).await,
        }
    }
}

impl Server {
    /// Starts to keep a connection to the Redis of the settings; it is made in the background.
    pub(crate) fn start(
        settings: &CoordinationSettings,
        deps: &CoordinationDeps<'_>,
        deadline: Duration,
    ) -> Result<Self, SetupError> {
        let dialer = Dialer::new(settings)?;
        let inner = Inner {
            keys: Keys::new(deps.deployment_id),
            deadline,
            state: watch::Sender::new(State::Connecting),
            kept: AtomicBool::new(true),
            refused: AtomicBool::new(false),
            channels: Arc::default(),
            metrics: ServerMetrics::new(deps.metrics),
        };
        let server = Self { inner: Arc::new(inner) };
        let keeper = keeper::Keeper::new(server.clone(), dialer, Arc::clone(&deps.rng));
        let shutdown = deps.tasks.shutdown_token();
        deps.tasks.spawn("coordination.redis", async move {
            keeper.keep(shutdown).await;
            Ok::<_, std::convert::Infallible>(())
        });
        Ok(server)
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.inner.deadline
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.inner.channels
    }

    pub(crate) fn count_dead_letters(&self, letters: usize) {
        self.inner.metrics.dead_letters.inc_by(letters as u64);
    }

    /// Asks and waits for the answer until the deadline.
    pub(crate) async fn ask<T: FromRedisValue>(
        &self,
        operation: Operation,
        question: Question<'_>,
    ) -> Result<T, CoordinationError> {
        let (began, deadline) = (Instant::now(), self.inner.deadline);
        let answer = match timeout(deadline, self.attempt(operation, question)).await {
            Ok(answer) => answer,
            Err(_) => Err(operation.unavailable(format!("no answer within {deadline:?}"))),
        };
        let of = Of { capability: operation.capability };
        self.inner.metrics.seconds.get_or_create(&of).observe(began.elapsed().as_secs_f64());
        let answer = answer.and_then(|value| {
            T::from_redis_value(value)
                .map_err(|error| operation.unavailable(format!("unexpected answer: {error}")))
        });
        if answer.is_err() {
            self.inner.metrics.failures.get_or_create(&of).inc();
        }
        answer
    }

    async fn attempt(
        &self,
        operation: Operation,
        question: Question<'_>,
    ) -> Result<Value, CoordinationError> {
        let mut again = operation.repeatable;
        loop {
            let mut connected = self.connection(operation).await?;
            let error = match question.ask(&mut connected.connection).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if error.is_unrecoverable_error() || error.is_connection_dropped() {
                self.lost(&connected);
                if std::mem::take(&mut again) {
                    continue;
                }
            } else if let ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::Moved) = error.kind()
            {
                // Another server took over from this one: the name in the URL leads there by now, or soon. Or it has
                // taken over some of the slots: connecting anew tells.
                self.lost(&connected);
            }
            self.tell_of_a_refusal(operation, &error);
            return Err(operation.unavailable(error.to_string()));
        }
    }

    /// Logs the first time that the user of the URL may not do something: whoever asked only sees that Redis is of no
    /// use, and what is local meanwhile hides it.
    fn tell_of_a_refusal(&self, operation: Operation, error: &RedisError) {
        let refused = error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
            || error.detail().is_some_and(|detail| detail.contains("ACL failure in script"));
        if refused && !self.inner.refused.swap(true, Ordering::Relaxed) {
            tracing::error!(
                redis.operation = operation.name,
                redis.capability = operation.capability,
                redis.reason = %error,
                "the user of the Redis URL may not do what this service needs: give it the rights of its line in \
                 deploy/redis-users.acl"
            );
        }
    }

    /// Returns the connection; waits while it is being made.
    async fn connection(&self, operation: Operation) -> Result<Connected, CoordinationError> {
        let mut states = self.inner.state.subscribe();
        loop {
            match &*states.borrow_and_update() {
                State::Up(connected) => return Ok(connected.clone()),
                State::Down(reason) | State::Unusable(reason) => {
                    return Err(operation.unavailable(&**reason));
                }
                State::Connecting => {}
            }
            if states.changed().await.is_err() {
                return Err(operation.unavailable("the process ends"));
            }
        }
    }

    /// Takes a connection that has ended out of use.
    fn lost(&self, connected: &Connected) {
        self.inner.state.send_if_modified(|state| {
            let same = matches!(state, State::Up(up) if Arc::ptr_eq(&up.ended, &connected.ended));
            if same {
                *state = self.without_connection();
            }
            same
        });
        connected.ended.notify_one();
    }

    fn without_connection(&self) -> State {
        if self.inner.kept.load(Ordering::Acquire) {
            State::Connecting
        } else {
            State::Down("the process ends".into())
        }
    }

    /// Notes that no connection is made any more; the present one stays usable.
    fn ends(&self) {
        self.inner.kept.store(false, Ordering::Release);
        // Whoever still waits for a connection shall not wait for one that nobody makes.
        self.inner.state.send_if_modified(|state| {
            let waiting = matches!(state, State::Connecting);
            if waiting {
                *state = self.without_connection();
            }
            waiting
        });
        self.inner.channels.close();
    }

    /// Fails at once while Redis is down, and waits while the connection is being made, until the deadline.
    pub(crate) async fn reachable(&self, operation: Operation) -> Result<(), CoordinationError> {
        let deadline = self.inner.deadline;
        match timeout(deadline, self.connection(operation)).await {
            Ok(connected) => connected.map(drop),
            Err(_) => Err(operation.unavailable(format!("no connection within {deadline:?}"))),
        }
    }

    /// Waits until Redis answers.
    pub(crate) async fn up(&self) {
        let mut states = self.inner.state.subscribe();
        // The sender lives as long as this server.
        let _ = states.wait_for(|state| matches!(state, State::Up(_))).await;
    }

    /// Waits until the server turns out to be one that waiting does not make better, and returns why.
    pub(crate) async fn unusable(&self) -> String {
        let mut states = self.inner.state.subscribe();
        loop {
            if let State::Unusable(reason) = &*states.borrow_and_update() {
                return reason.to_string();
            }
            if states.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Keeps a readiness check until Redis has answered for the first time. From then on the process does without
    /// it as well as it can, and being taken out of the balancer would help nobody.
    pub(crate) fn watch_health(&self, check: ReadinessCheck, tasks: &Tasks) {
        let mut states = self.inner.state.subscribe();
        let shutdown = tasks.shutdown_token();
        tasks.spawn_short("coordination.health", async move {
            loop {
                match &*states.borrow_and_update() {
                    State::Up(_) => return check.ready(),
                    State::Connecting => check.not_ready("connecting to Redis"),
                    State::Down(reason) => check.not_ready(format!("Redis cannot be reached: {reason}")),
                    State::Unusable(reason) => check.not_ready(format!("Redis cannot be used: {reason}")),
                }
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    changed = states.changed() => if changed.is_err() { return },
                }
            }
        });
    }
}

/// A time to live as Redis takes it: at least a millisecond, at most ten years.
pub(crate) fn millis(ttl: Duration) -> u64 {
    const LONGEST: u64 = 10 * 365 * 24 * 60 * 60 * 1000;
    u64::try_from(ttl.as_millis()).unwrap_or(LONGEST).clamp(1, LONGEST)
}
