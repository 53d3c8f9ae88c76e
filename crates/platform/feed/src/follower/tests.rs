use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use portico_clock::MockClock;
use portico_proto_auth::TrustItem;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::frame::Frame;
use crate::frame::tests::{Trust, item, text};

type Message = Result<<Trust as FrameCodec>::Message, Status>;

/// What a server does when it is called: fail, or send these frames and then stay silent or end.
enum Answer {
    Fail,
    Frames(Vec<Frame<TrustItem>>, Then),
}

#[derive(PartialEq)]
enum Then {
    Silence,
    End,
}

/// A server that plays a script and notes from which revision it was asked; after the script it fails.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<(VecDeque<Answer>, Vec<i64>)>>);

impl Server {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self(Arc::new(Mutex::new((answers.into_iter().collect(), Vec::new()))))
    }

    fn asked(&self) -> Vec<i64> {
        self.0.lock().unwrap().1.clone()
    }

    fn open(
        &self,
        since: i64,
        open: &mpsc::Sender<mpsc::Sender<Message>>,
    ) -> Result<ReceiverStream<Message>, Status> {
        let mut script = self.0.lock().unwrap();
        script.1.push(since);
        let Some(Answer::Frames(frames, then)) = script.0.pop_front() else {
            return Err(Status::unavailable("down"));
        };
        let (sender, receiver) = mpsc::channel(frames.len() + 1);
        for frame in frames {
            sender.try_send(Ok(Trust::encode(frame))).unwrap();
        }
        if then == Then::Silence {
            open.try_send(sender).unwrap();
        }
        Ok(ReceiverStream::new(receiver))
    }
}

/// A follower under way, with everything that it applied.
struct Following {
    applied: Arc<Mutex<Vec<Batch<TrustItem>>>>,
    status: FeedStatus,
    clock: MockClock,
    server: Server,
    token: CancellationToken,
    tasks: JoinSet<Result<(), Infallible>>,
    /// Streams that are open and silent.
    streams: mpsc::Receiver<mpsc::Sender<Message>>,
}

impl Following {
    fn start(server: Server, disk: Option<DiskCopy>) -> Self {
        let applied = Arc::new(Mutex::new(Vec::new()));
        let clock = MockClock::at(noon());
        let apply = {
            let applied = applied.clone();
            move |batch| applied.lock().unwrap().push(batch)
        };
        let follower = Follower::<Trust>::new("trust", disk, apply, Arc::new(clock.clone()));
        let (status, token) = (follower.status(), CancellationToken::new());
        let (streams, kept) = mpsc::channel(100);
        let mut tasks = JoinSet::new();
        let open = {
            let server = server.clone();
            move |since| std::future::ready(server.open(since, &streams))
        };
        tasks.spawn(follower.run(open, token.clone()));
        Self { applied, status, clock, server, token, tasks, streams: kept }
    }

    /// Every applied batch as `revision snapshot? key=text … -removed …`.
    fn applied(&self) -> Vec<String> {
        let batches = self.applied.lock().unwrap();
        let line = |batch: &Batch<TrustItem>| {
            let mut words = vec![batch.revision.to_string()];
            words.extend(batch.snapshot.then(|| "all".to_owned()));
            words.extend(batch.items.iter().map(|(key, item)| format!("{key}={}", text(item))));
            words.extend(batch.removed.iter().map(|key| format!("-{key}")));
            words.join(" ")
        };
        batches.iter().map(line).collect()
    }

    async fn stop(mut self) {
        self.token.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn begin(snapshot: bool) -> Frame<TrustItem> {
    Frame::Begin { snapshot }
}

fn put(items: &[(&str, &str)], removed: &[&str]) -> Frame<TrustItem> {
    let items = items.iter().map(|(key, text)| item(key, text)).collect();
    Frame::Put { items, removed: removed.iter().map(|key| (*key).to_owned()).collect() }
}

fn end(revision: i64) -> Frame<TrustItem> {
    Frame::End { revision }
}

fn beat(revision: i64) -> Frame<TrustItem> {
    Frame::Heartbeat { revision, sent_at: None }
}

fn snapshot(revision: i64) -> Vec<Frame<TrustItem>> {
    vec![begin(true), put(&[("a", "1")], &[]), put(&[("b", "2")], &[]), end(revision)]
}

fn plain(directory: &tempfile::TempDir) -> (PathBuf, Option<DiskCopy>) {
    let path = directory.path().join("trust.feed");
    (path.clone(), Some(DiskCopy::Plain(path)))
}

async fn a_moment() {
    sleep(Duration::from_millis(10)).await;
}

#[tokio::test(start_paused = true)]
async fn batches_are_applied_whole_and_in_order() {
    let mut frames = snapshot(5);
    frames.extend([
        begin(false),
        put(&[("a", "3")], &["b"]),
        end(6),
        beat(6),
        begin(false),
        put(&[("c", "4")], &[]),
    ]);
    let following = Following::start(Server::new([Answer::Frames(frames, Then::Silence)]), None);
    a_moment().await;
    // The last batch has no end yet: nothing of it is visible.
    assert_eq!(following.applied(), ["5 all a=1 b=2", "6 a=3 -b"]);
    assert_eq!(following.status.revision(), 6);
    assert!(following.status.is_connected());
    following.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_stream_is_resumed_from_the_last_whole_batch() {
    let mut cut = snapshot(5);
    cut.extend([begin(false), put(&[("a", "3")], &[])]);
    let rest = vec![begin(false), put(&[("a", "4")], &[]), end(8)];
    let server =
        Server::new([Answer::Frames(cut, Then::End), Answer::Fail, Answer::Frames(rest, Then::Silence)]);
    let following = Following::start(server, None);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(following.applied(), ["5 all a=1 b=2", "8 a=4"]);
    assert_eq!(following.server.asked(), [0, 5, 5]);
    following.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left_after_fifteen_seconds() {
    let server = Server::new([
        Answer::Frames(snapshot(5), Then::Silence),
        Answer::Frames(vec![begin(false), end(5)], Then::Silence),
    ]);
    let following = Following::start(server, None);
    sleep(Duration::from_millis(14_900)).await;
    assert_eq!(following.server.asked(), [0]);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(following.server.asked(), [0, 5]);
    following.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_asked_less_and_less_often() {
    let following = Following::start(Server::default(), None);
    sleep(Duration::from_mins(1)).await;
    let asked = following.server.asked().len();
    assert!((10..=22).contains(&asked), "{asked}");
    assert!(!following.status.has_copy());
    assert_eq!(following.status.last_contact(), None);
    following.stop().await;
}

#[tokio::test(start_paused = true)]
async fn frames_that_make_no_sense_are_not_applied() {
    let two_begins = vec![begin(true), begin(true), end(1)];
    let mut older = snapshot(5);
    older.extend([begin(false), put(&[("a", "0")], &[]), end(4)]);
    for (frames, applied) in [
        (vec![begin(false), put(&[("a", "1")], &[]), end(3)], 0),
        (vec![put(&[("a", "1")], &[]), end(3)], 0),
        (vec![end(3)], 0),
        (vec![beat(3)], 0),
        (vec![begin(true), beat(3), end(3)], 0),
        (two_begins, 0),
        (older, 1),
    ] {
        let following = Following::start(Server::new([Answer::Frames(frames, Then::Silence)]), None);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(following.applied().len(), applied);
        assert!(following.server.asked().len() > 1, "it connects again");
        following.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_confirmed_copy_counts_as_contact() {
    let mut frames = snapshot(5);
    frames.push(begin(false));
    let following = Following::start(Server::new([Answer::Frames(frames, Then::Silence)]), None);
    a_moment().await;
    assert_eq!(following.status.last_contact(), Some(noon()));
    following.clock.advance(chrono::Duration::seconds(20));
    sleep(Duration::from_secs(20)).await;
    // The server went away in the middle of a batch: the copy is as old as its last end.
    assert_eq!(following.status.last_contact(), Some(noon()));
    following.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_server_may_go_back_with_a_snapshot() {
    let server = Server::new([
        Answer::Frames(snapshot(9), Then::End),
        Answer::Frames(vec![begin(true), put(&[("a", "old")], &[]), end(4)], Then::Silence),
    ]);
    let following = Following::start(server, None);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(following.applied(), ["9 all a=1 b=2", "4 all a=old"]);
    assert_eq!(following.status.revision(), 4);
    following.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_without_the_server_starts_from_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut frames = snapshot(5);
    frames.extend([begin(false), put(&[("c", "3")], &["a"]), end(6)]);
    let before = Following::start(Server::new([Answer::Frames(frames, Then::Silence)]), plain(&directory).1);
    a_moment().await;
    before.clock.set(noon() + chrono::Duration::hours(1));
    before.stop().await;

    let after = Following::start(Server::default(), plain(&directory).1);
    a_moment().await;
    assert_eq!(after.applied(), ["6 all b=2 c=3"]);
    assert_eq!(after.server.asked()[0], 6);
    // As old as the server's last word, not as young as the file.
    assert_eq!(after.status.last_contact(), Some(noon()));
    assert!(!after.status.is_connected());
    after.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_from_disk_counts_as_known_only_when_it_is_applied() {
    let directory = tempfile::tempdir().unwrap();
    let disk = plain(&directory).1;
    let before = Following::start(Server::new([Answer::Frames(snapshot(5), Then::Silence)]), disk.clone());
    a_moment().await;
    before.stop().await;

    let status = Arc::new(std::sync::OnceLock::<FeedStatus>::new());
    let known = Arc::new(Mutex::new(Vec::new()));
    let apply = {
        let (status, known) = (status.clone(), known.clone());
        move |_| known.lock().unwrap().push(status.get().unwrap().last_contact())
    };
    let mut follower = Follower::<Trust>::new("trust", disk, apply, Arc::new(MockClock::at(noon())));
    status.set(follower.status()).unwrap();
    assert!(follower.load().await);
    assert_eq!(*known.lock().unwrap(), [None]);
    assert_eq!(follower.status().last_contact(), Some(noon()));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_copy_is_ignored_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let (path, disk) = plain(&directory);
    std::fs::write(&path, "half a co").unwrap();
    let following = Following::start(Server::new([Answer::Frames(snapshot(5), Then::Silence)]), disk.clone());
    a_moment().await;
    assert_eq!(following.server.asked(), [0]);
    assert_eq!(following.applied(), ["5 all a=1 b=2"]);
    following.stop().await;
    assert_eq!(disk.unwrap().read("trust").unwrap().unwrap().revision, 5);
}

#[tokio::test(start_paused = true)]
async fn a_change_and_a_mere_confirmation_reach_the_disk_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let disk = plain(&directory).1.unwrap();
    let mut frames = snapshot(5);
    frames.extend([begin(false), put(&[("c", "3")], &[]), end(6)]);
    let mut following =
        Following::start(Server::new([Answer::Frames(frames, Then::Silence)]), Some(disk.clone()));
    let started = Instant::now();
    let revision = || disk.read("trust").unwrap().map(|copy| copy.revision);
    while revision() != Some(6) {
        a_moment().await;
        assert!(started.elapsed() < Duration::from_secs(6), "a change is on disk within seconds");
    }

    let confirmed = || disk.read("trust").unwrap().map(|copy| copy.confirmed_at);
    let before = confirmed();
    following.clock.advance(chrono::Duration::minutes(1));
    let (stream, started) = (following.streams.recv().await.unwrap(), Instant::now());
    while confirmed() == before {
        stream.send(Ok(Trust::encode(beat(6)))).await.unwrap();
        sleep(Duration::from_secs(10)).await;
        assert!(started.elapsed() < Duration::from_secs(75), "a confirmation is on disk within a minute");
    }
    following.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_cannot_be_written_does_not_stop_the_feed() {
    let disk = DiskCopy::Plain(PathBuf::from("/proc/nowhere/trust.feed"));
    let following = Following::start(Server::new([Answer::Frames(snapshot(5), Then::Silence)]), Some(disk));
    a_moment().await;
    assert_eq!(following.applied(), ["5 all a=1 b=2"]);
    following.stop().await;
}
