//! The channels that this process listens to: bells of topics, and boxes of owners.
//!
//! A box has one receiver at a time among all replicas. Redis orders what is published to a channel, so the
//! receivers agree on who it is without any key: a new one announces itself on the channel, and from its own
//! announcement on the messages are its; whoever received before reads the announcement at the same place of the
//! order and ends. After a cut a receiver announces that it resumes; if another one has taken over meanwhile, that
//! one answers and the older ends.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use futures_util::future::try_join_all;
use redis::{RedisResult, Script, Value, aio::MultiplexedConnection};
use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
    oneshot, watch,
};

use crate::lock;

/// What a published text begins with.
const MESSAGE: u8 = b'M';
const TAKE_OVER: u8 = b'T';
const RESUME: u8 = b'R';

#[derive(Debug, Default)]
pub(crate) struct Channels {
    state: Mutex<State>,
    changed: Notify,
    followed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    wanted: HashMap<String, Listener>,
    /// What the present connection listens to.
    subscribed: HashSet<String>,
    /// The channels of which the connection has to learn something.
    changed: HashSet<String>,
    /// The connection is not kept any more.
    closed: bool,
}

#[derive(Debug)]
enum Listener {
    /// Rung by any text.
    Bell(Arc<Notify>),
    Receivers(Vec<Receiver>),
}

/// One opened box.
#[derive(Debug)]
struct Receiver {
    token: String,
    /// Where in the order this receiver took over (the server's microseconds, then the token); nothing before that.
    since: Option<(u64, String)>,
    /// It has to tell the others of itself.
    announce: bool,
    opened: Option<oneshot::Sender<()>>,
    messages: mpsc::Sender<Bytes>,
}

/// A box that is being opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Resolves when the messages are this receiver's.
    pub(crate) opened: oneshot::Receiver<()>,
    /// Ends when another receiver took over.
    pub(crate) messages: mpsc::Receiver<Bytes>,
}

impl Channels {
    /// Returns the bell of a channel; it is also rung when a connection was made anew, for what was missed.
    pub(crate) fn bell(&self, channel: &str) -> Arc<Notify> {
        let mut state = self.state();
        if let Some(Listener::Bell(bell)) = state.wanted.get(channel) {
            return Arc::clone(bell);
        }
        let bell = Arc::new(Notify::new());
        state.wanted.insert(channel.to_owned(), Listener::Bell(Arc::clone(&bell)));
        self.change(state, channel);
        bell
    }

    /// Opens a box; the token has to be used once only.
    pub(crate) fn open(&self, channel: &str, token: String, capacity: usize) -> Opened {
        let (sender, messages) = mpsc::channel(capacity);
        let (tell, opened) = oneshot::channel();
        let receiver = Receiver { token, since: None, announce: true, opened: Some(tell), messages: sender };
        let mut state = self.state();
        match state.wanted.get_mut(channel) {
            Some(Listener::Receivers(receivers)) => receivers.push(receiver),
            _ => {
                state.wanted.insert(channel.to_owned(), Listener::Receivers(vec![receiver]));
            }
        }
        self.change(state, channel);
        Opened { opened, messages }
    }

    /// Closes the box that was opened with the token.
    pub(crate) fn close_box(&self, channel: &str, token: &str) {
        let mut state = self.state();
        if let Some(Listener::Receivers(receivers)) = state.wanted.get_mut(channel) {
            receivers.retain(|receiver| receiver.token != token);
            if receivers.is_empty() {
                state.wanted.remove(channel);
            }
        }
        self.change(state, channel);
    }

    /// Notes that the connection has to learn something of a channel.
    fn change(&self, mut state: MutexGuard<'_, State>, channel: &str) {
        state.changed.insert(channel.to_owned());
        drop(state);
        self.changed.notify_one();
    }

    /// Waits until this process no longer counts as a receiver of a channel whose box it has closed.
    pub(crate) async fn left(&self, channel: &str) {
        let mut followed = self.followed.subscribe();
        loop {
            followed.mark_unchanged();
            {
                let state = self.state();
                let leaving = state.subscribed.contains(channel) && !state.wanted.contains_key(channel);
                if !leaving || state.closed {
                    return;
                }
            }
            if followed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until something has to be told to Redis.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Without a connection nothing is listened to; on the next one the receivers have to say that they are back.
    pub(super) fn cut(&self) {
        let mut state = self.state();
        state.subscribed.clear();
        state.changed = state.wanted.keys().cloned().collect();
        for listener in state.wanted.values_mut() {
            if let Listener::Receivers(receivers) = listener {
                for receiver in receivers {
                    receiver.announce = true;
                }
            }
        }
        drop(state);
        self.followed.send_replace(());
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.followed.send_replace(());
    }

    /// Makes the connection listen to what is wanted; called by the keeper only, so one call ends before the next.
    pub(super) async fn follow(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let changed = std::mem::take(&mut self.state().changed);
        let (enter, leave) = self.differences(&changed);
        // One channel a command: each answer to several would count as the answer to a command of its own.
        let subscribe = |command: &'static str, channels: Vec<String>| {
            let connection = connection.clone();
            try_join_all(channels.into_iter().map(move |channel| {
                let mut connection = connection.clone();
                async move {
                    redis::cmd(command).arg(&channel).exec_async(&mut connection).await?;
                    RedisResult::Ok(channel)
                }
            }))
        };
        let left = subscribe("UNSUBSCRIBE", leave).await?;
        let entered = subscribe("SUBSCRIBE", enter).await?;
        let announcements = self.followed(left, entered, &changed);
        let script = Script::new(include_str!("announce.lua"));
        let announced = announcements.into_iter().map(|announcement| {
            let mut invocation = script.prepare_invoke();
            invocation
                .arg(announcement.channel)
                .arg(announcement.kind)
                .arg(announcement.time)
                .arg(announcement.token);
            let mut connection = connection.clone();
            async move { invocation.invoke_async::<()>(&mut connection).await }
        });
        try_join_all(announced).await?;
        self.followed.send_replace(());
        Ok(())
    }

    /// Returns which of the channels are to be entered, and which to be left.
    fn differences(&self, changed: &HashSet<String>) -> (Vec<String>, Vec<String>) {
        let state = self.state();
        let (wanted, rest): (Vec<_>, Vec<_>) =
            changed.iter().cloned().partition(|channel| state.wanted.contains_key(channel));
        let enter = wanted.into_iter().filter(|channel| !state.subscribed.contains(channel));
        let leave = rest.into_iter().filter(|channel| state.subscribed.contains(channel));
        (enter.collect(), leave.collect())
    }

    /// Notes what the connection listens to now, and returns what its receivers have to tell.
    fn followed(
        &self,
        left: Vec<String>,
        entered: Vec<String>,
        changed: &HashSet<String>,
    ) -> Vec<Announcement> {
        let mut state = self.state();
        for channel in left {
            state.subscribed.remove(&channel);
        }
        for channel in entered {
            if let Some(Listener::Bell(bell)) = state.wanted.get(&channel) {
                bell.notify_waiters();
            }
            state.subscribed.insert(channel);
        }
        let State { wanted, subscribed, .. } = &mut *state;
        let mut announcements = Vec::new();
        for channel in changed.iter().filter(|channel| subscribed.contains(*channel)) {
            let Some(Listener::Receivers(receivers)) = wanted.get_mut(channel) else { continue };
            for receiver in receivers.iter_mut().filter(|receiver| receiver.announce) {
                receiver.announce = false;
                announcements.push(Announcement::of(channel, receiver));
            }
        }
        announcements
    }

    /// Hands a published text to whom it is for and returns how many messages found no room.
    pub(super) fn deliver(&self, published: &[Value]) -> u64 {
        let [Value::BulkString(channel), Value::BulkString(text)] = published else { return 0 };
        let Ok(channel) = std::str::from_utf8(channel) else { return 0 };
        let mut state = self.state();
        let (lost, tell) = match state.wanted.get_mut(channel) {
            None => return 0,
            Some(Listener::Bell(bell)) => {
                bell.notify_waiters();
                return 0;
            }
            Some(Listener::Receivers(receivers)) => match text.split_first() {
                Some((&MESSAGE, message)) => (deliver_message(receivers, message), false),
                Some((&kind, announcement)) => {
                    let tell = parse(announcement)
                        .is_some_and(|(time, token)| announced(receivers, kind, time, token));
                    if receivers.is_empty() {
                        state.wanted.remove(channel);
                    }
                    (0, tell || !state.wanted.contains_key(channel))
                }
                None => (0, false),
            },
        };
        if tell {
            self.change(state, channel);
        }
        lost
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Prepares a message for its channel.
pub(crate) fn message_text(message: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(message.len() + 1);
    text.push(MESSAGE);
    text.extend_from_slice(message);
    text
}

struct Announcement {
    channel: String,
    kind: &'static [u8],
    /// 0 for now, by the server's clock.
    time: u64,
    token: String,
}

impl Announcement {
    fn of(channel: &str, receiver: &Receiver) -> Self {
        let (kind, time): (&[u8], _) = match &receiver.since {
            None => (&[TAKE_OVER], 0),
            Some((time, _)) => (&[RESUME], *time),
        };
        Self { channel: channel.to_owned(), kind, time, token: receiver.token.clone() }
    }
}

fn parse(announcement: &[u8]) -> Option<(u64, &str)> {
    let (time, token) = std::str::from_utf8(announcement).ok()?.split_once(':')?;
    Some((time.parse().ok()?, token))
}

fn deliver_message(receivers: &[Receiver], message: &[u8]) -> u64 {
    let Some(receiver) = receivers.iter().find(|receiver| receiver.since.is_some()) else { return 0 };
    match receiver.messages.try_send(Bytes::copy_from_slice(message)) {
        Err(TrySendError::Full(_)) => {
            // The metric counts every one; a log line for each would be a flood.
            tracing::debug!("a message was dropped: its mailbox is full");
            1
        }
        // A closed box is on its way out.
        Ok(()) | Err(TrySendError::Closed(_)) => 0,
    }
}

/// Lets the receivers know of an announcement; tells whether one of them has to answer.
fn announced(receivers: &mut Vec<Receiver>, kind: u8, time: u64, token: &str) -> bool {
    let place = (time, token.to_owned());
    if kind == TAKE_OVER {
        receivers.retain(|receiver| receiver.token == token || receiver.since.is_none());
    } else {
        receivers.retain(|receiver| receiver.since.as_ref().is_none_or(|since| *since >= place));
    }
    let mut answer = false;
    for receiver in receivers {
        if receiver.token == token {
            receiver.since.get_or_insert_with(|| place.clone());
            if let Some(opened) = receiver.opened.take() {
                // Nobody waits any more if opening took too long.
                let _ = opened.send(());
            }
        } else if receiver.since.is_some() {
            receiver.announce = true;
            answer = true;
        }
    }
    answer
}
