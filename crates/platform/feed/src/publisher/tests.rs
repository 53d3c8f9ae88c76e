use std::collections::BTreeMap;
use std::sync::Mutex;

use chrono::DateTime;
use portico_clock::MockClock;
use portico_proto_auth::{TrustItem, WatchTrustResponse};
use tokio_stream::StreamExt;
use tonic::Code;

use super::*;
use crate::frame::tests::{Trust, item, text};
use crate::{Batch, Follower};

/// The store's revision, and each key with the revision of its last change; no value: deleted.
type Rows = (i64, BTreeMap<String, (i64, Option<TrustItem>)>);

/// A store that remembers at which revision each key changed.
struct Store {
    rows: Mutex<Rows>,
    wake: watch::Sender<i64>,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self { rows: Mutex::default(), wake: watch::channel(0).0 })
    }

    fn write(&self, key: &str, value: Option<&str>) {
        let mut rows = self.rows.lock().unwrap();
        rows.0 += 1;
        let revision = rows.0;
        rows.1.insert(key.to_owned(), (revision, value.map(|value| item(key, value))));
        self.wake.send_replace(revision);
    }

    /// A commit that the feed has nothing to do with.
    fn write_elsewhere(&self) {
        let mut rows = self.rows.lock().unwrap();
        rows.0 += 1;
        self.wake.send_replace(rows.0);
    }

    fn watch(self: &Arc<Self>, since: i64) -> Watch<Self> {
        Watch { source: self.clone(), since, wake: self.wake.subscribe() }
    }
}

impl FeedSource<TrustItem> for Store {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    async fn changes(&self, since: Option<i64>) -> Result<Changes<TrustItem>, Status> {
        let rows = self.rows.lock().unwrap();
        let since = since.filter(|since| *since <= rows.0);
        let mut changes =
            Changes { snapshot: since.is_none(), items: Vec::new(), removed: Vec::new(), revision: rows.0 };
        for (key, (revision, value)) in &rows.1 {
            match value {
                Some(value) if since.is_none_or(|since| *revision > since) => {
                    changes.items.push(value.clone());
                }
                None if since.is_some_and(|since| *revision > since) => changes.removed.push(key.clone()),
                _ => {}
            }
        }
        Ok(changes)
    }
}

async fn next(stream: &mut FeedStream<WatchTrustResponse>) -> Frame<TrustItem> {
    Trust::decode(stream.next().await.unwrap().unwrap()).unwrap()
}

/// Reads one batch as `snapshot? key=text … -removed … @revision`.
async fn batch(stream: &mut FeedStream<WatchTrustResponse>) -> String {
    let mut words = Vec::new();
    loop {
        match next(stream).await {
            Frame::Begin { snapshot } => words.extend(snapshot.then(|| "all".to_owned())),
            Frame::Put { items, removed } => {
                words.extend(items.iter().map(|item| format!("{}={}", item.key, text(item))));
                words.extend(removed.iter().map(|key| format!("-{key}")));
            }
            Frame::End { revision } => {
                words.push(format!("@{revision}"));
                return words.join(" ");
            }
            Frame::Heartbeat { .. } => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_gets_a_snapshot_then_changes() {
    let (store, tasks) = (Store::new(), Tasks::new());
    store.write("a", Some("1"));
    store.write("b", Some("2"));
    let mut stream = serve::<Trust, _>(store.watch(0), &tasks);
    assert_eq!(batch(&mut stream).await, "all a=1 b=2 @2");
    store.write("a", None);
    store.write("c", Some("3"));
    assert_eq!(batch(&mut stream).await, "c=3 -a @4");
}

#[tokio::test(start_paused = true)]
async fn a_resumed_watcher_gets_only_what_it_missed_or_an_empty_batch() {
    let (store, tasks) = (Store::new(), Tasks::new());
    store.write("a", Some("1"));
    store.write("b", Some("2"));
    assert_eq!(batch(&mut serve::<Trust, _>(store.watch(1), &tasks)).await, "b=2 @2");
    assert_eq!(batch(&mut serve::<Trust, _>(store.watch(2), &tasks)).await, "@2");
    assert_eq!(batch(&mut serve::<Trust, _>(store.watch(9), &tasks)).await, "all a=1 b=2 @2");
}

#[tokio::test(start_paused = true)]
async fn a_slow_watcher_gets_the_newest_value_once() {
    let (store, tasks) = (Store::new(), Tasks::new());
    store.write("a", Some("0"));
    let mut stream = serve::<Trust, _>(store.watch(0), &tasks);
    batch(&mut stream).await;
    for value in 1..=1000 {
        store.write("a", Some(&value.to_string()));
    }
    assert_eq!(batch(&mut stream).await, "a=1000 @1001");
}

#[tokio::test(start_paused = true)]
async fn frames_stay_within_256_kib() {
    let (store, tasks) = (Store::new(), Tasks::new());
    let large = "x".repeat(40 * 1024);
    for key in 0..50 {
        store.write(&format!("key/{key}"), Some(&large));
    }
    let mut stream = serve::<Trust, _>(store.watch(0), &tasks);
    let (mut items, mut frames) = (0, 0);
    loop {
        let message = stream.next().await.unwrap().unwrap();
        assert!(message.encoded_len() <= CHUNK + 16, "{}", message.encoded_len());
        frames += 1;
        match Trust::decode(message).unwrap() {
            Frame::Put { items: some, .. } => items += some.len(),
            Frame::End { .. } => break,
            _ => {}
        }
    }
    assert_eq!(items, 50);
    assert_eq!(frames, 2 + 9, "six items a frame");
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_every_five_seconds_even_while_others_write() {
    let (store, tasks) = (Store::new(), Tasks::new());
    let mut stream = serve::<Trust, _>(store.watch(0), &tasks);
    batch(&mut stream).await;
    let started = Instant::now();
    let busy = async {
        loop {
            sleep(Duration::from_millis(100)).await;
            store.write_elsewhere();
        }
    };
    tokio::select! {
        frame = next(&mut stream) => assert!(matches!(frame, Frame::Heartbeat { .. }), "{frame:?}"),
        () = busy => {}
    }
    assert!(started.elapsed() <= Duration::from_millis(5_200));
    assert!(started.elapsed() >= Duration::from_millis(4_900));
}

#[tokio::test(start_paused = true)]
async fn a_silent_watcher_is_cut_after_thirty_seconds() {
    let (store, tasks) = (Store::new(), Tasks::new());
    let stream = serve::<Trust, _>(store.watch(0), &tasks);
    sleep(Duration::from_secs(29)).await;
    assert_eq!(Arc::strong_count(&store), 2);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(Arc::strong_count(&store), 1, "nothing is held for it any more");
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_leaves_is_forgotten() {
    let (store, tasks) = (Store::new(), Tasks::new());
    let mut stream = serve::<Trust, _>(store.watch(0), &tasks);
    batch(&mut stream).await;
    drop(stream);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(Arc::strong_count(&store), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_sends_watchers_away() {
    let (store, tasks) = (Store::new(), Tasks::new());
    let mut stream = serve::<Trust, _>(store.watch(0), &tasks);
    batch(&mut stream).await;
    tasks.trigger_shutdown();
    assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_follower_follows_a_publisher() {
    let (store, tasks) = (Store::new(), Tasks::new());
    store.write("a", Some("1"));
    let (applied, mut batches) = mpsc::unbounded_channel::<Batch<TrustItem>>();
    let clock = Arc::new(MockClock::at(DateTime::UNIX_EPOCH));
    let follower = Follower::<Trust>::new("trust", None, move |batch| drop(applied.send(batch)), clock);
    let open = {
        let (store, tasks) = (store.clone(), tasks.clone());
        move |since| std::future::ready(Ok(serve::<Trust, _>(store.watch(since), &tasks)))
    };
    tasks.spawn("feed.trust", follower.run(open, tasks.shutdown_token()));
    assert_eq!(batches.recv().await.unwrap().items, [("a".to_owned(), item("a", "1"))]);
    store.write("b", Some("2"));
    let second = batches.recv().await.unwrap();
    assert_eq!((second.snapshot, second.items), (false, vec![("b".to_owned(), item("b", "2"))]));
    sleep(Duration::from_mins(2)).await;
    assert!(batches.try_recv().is_err(), "heartbeats keep the stream alive");
}
