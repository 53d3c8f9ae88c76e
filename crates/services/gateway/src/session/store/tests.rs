use portico_clock::{Clock, MockClock};
use portico_coordination::{Coordination, CoordinationDeps};
use portico_ids::{SeededRng, SharedRng};
use portico_mcp_types::Revision;
use portico_process::Tasks;
use portico_sealing::KeyRing;
use portico_telemetry::Metrics;
use tokio::task::JoinSet;

use super::*;
use crate::catalogue::testing::server_id;

/// Two replicas over one map; `per_principal` bounds what a principal has.
struct Two {
    clock: MockClock,
    map: TtlMap,
    one: Arc<Sessions>,
    other: Arc<Sessions>,
    dir: tempfile::TempDir,
}

impl Two {
    fn new(per_principal: usize) -> Self {
        let clock = MockClock::at(crate::testing::start());
        let coordination = Coordination::in_process(Arc::new(clock.clone()));
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyRing::generate_file(&dir.path().join("keys"), &SeededRng::new(1)).unwrap();
        let sessions = |seed| {
            let rng: SharedRng = Arc::new(SeededRng::new(seed));
            let parts = SessionParts {
                map: coordination.ttl_map("gateway"),
                handles: HandleSealer::new(&keys, Arc::clone(&rng)),
                rng,
                clock: Arc::new(clock.clone()),
                replica: format!("replica-{seed}").into(),
                idle: TimeDelta::hours(1),
                per_principal,
            };
            Arc::new(Sessions::new(parts).0)
        };
        let (one, other) = (sessions(2), sessions(3));
        Self { clock, map: coordination.ttl_map("gateway"), one, other, dir }
    }
}

fn record(initialize: usize) -> Record {
    Record {
        binding: Binding { subject: "user:a".into(), client: "c".into(), endpoint: "e".into() },
        revision: Revision::V2025_06_18,
        initialize: "x".repeat(initialize),
        log_level: None,
        subscriptions: Vec::new(),
    }
}

impl Two {
    /// What the other replica says of a session.
    async fn found(&self, id: &str) -> Result<(), Reason> {
        self.other.find(id, |_| true).await.map(drop).map_err(|refusal| refusal.reason)
    }

    async fn is_live(&self, id: &str) -> bool {
        matches!(self.one.shared.record(id).await.unwrap(), Stored::Live(_))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s2_29_many_first_calls_of_a_session_at_once_count_it_once_and_end_no_other() {
    let two = Two::new(100);
    let (small, big) =
        (two.one.create(record(10)).await.unwrap(), two.one.create(record(60_000)).await.unwrap());
    two.other.find(&small.id, |_| true).await.unwrap();
    let mut finds = JoinSet::new();
    for _ in 0..200 {
        let (sessions, id) = (Arc::clone(&two.other), big.id.clone());
        finds.spawn(async move { sessions.find(&id, |_| true).await.map(drop) });
    }
    assert!(finds.join_all().await.iter().all(Result::is_ok));
    // As calls that have all missed what is at hand do.
    for _ in 0..200 {
        let size = big.record().size();
        two.other.count("user:a", &big.id, (Part::Record, size)).await.unwrap();
    }
    let expected = small.record().size() + big.record().size();
    assert_eq!(two.other.at_hand.owned.bytes_of("user:a"), expected);
    for sessions in [&two.one, &two.other] {
        sessions.find(&small.id, |_| true).await.unwrap();
    }
}

#[tokio::test]
async fn rs_30_a_session_that_could_not_be_opened_takes_no_room() {
    let two = Two::new(1);
    let settings = serde_json::from_str(r#"{"redis_url":"redis://127.0.0.1:1"}"#).unwrap();
    let (rng, tasks) = (Arc::new(SeededRng::new(4)), Tasks::new());
    let down = Coordination::connect(
        &settings,
        CoordinationDeps {
            deployment_id: "test",
            clock: Arc::new(two.clock.clone()),
            rng: rng.clone(),
            tasks: &tasks,
            metrics: &Metrics::new(),
        },
    );
    let keys = KeyRing::generate_file(&two.dir.path().join("other-keys"), &*rng).unwrap();
    let parts = SessionParts {
        map: down.unwrap().ttl_map("gateway"),
        handles: HandleSealer::new(&keys, rng.clone()),
        rng,
        clock: Arc::new(two.clock.clone()),
        replica: "down".into(),
        idle: TimeDelta::hours(1),
        per_principal: 1,
    };
    let sessions = Sessions::new(parts).0;
    // The older one cannot be ended, so that the new one finds no room.
    sessions.at_hand.owned.set("user:a", "older", Part::Record, 1);
    let refusal = sessions.create(record(10)).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::CoordinationUnavailable);
    assert_eq!(sessions.at_hand.owned.bytes_of("user:a"), 0);
}

#[tokio::test]
async fn rs_30_records_in_the_map_can_be_neither_read_forged_nor_moved() {
    let two = Two::new(100);
    let session = two.one.create(record(10)).await.unwrap();
    let key = Sessions::key_of(&session.id);
    assert!(!key.contains(&session.id) && two.map.get(&format!("s/{}", session.id)).await.unwrap().is_none());
    let sealed = two.map.get(&key).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&sealed);
    assert!(!text.contains("user:a") && !text.contains(&session.id), "{text}");
    let ttl = Duration::from_hours(1);
    // Bound to somebody else by who can write to the map.
    let mut forged = record(10);
    forged.binding.subject = "user:mallory".into();
    two.map.put(&key, forged.to_bytes().into(), ttl).await.unwrap();
    assert_eq!(two.found(&session.id).await, Err(Reason::UnknownSession));
    // A sealed record of mallory's own session in the place of the other one.
    let own = two.one.create(forged).await.unwrap();
    let moved = two.map.get(&Sessions::key_of(&own.id)).await.unwrap().unwrap();
    two.map.put(&key, moved, ttl).await.unwrap();
    assert_eq!(two.found(&session.id).await, Err(Reason::UnknownSession));
    two.map.put(&key, sealed, ttl).await.unwrap();
    assert_eq!(two.found(&session.id).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_was_ended_is_not_brought_back_by_what_is_set_at_the_same_time() {
    let two = Two::new(1_000);
    for _ in 0..100 {
        let session = two.one.create(record(10)).await.unwrap();
        let there = two.other.find(&session.id, |_| true).await.unwrap();
        let mut work = JoinSet::new();
        for n in 0..4 {
            let (sessions, there) = (Arc::clone(&two.other), Arc::clone(&there));
            work.spawn(async move {
                let uri = format!("file:///{n}");
                drop(sessions.remember_subscription(&there, server_id(1), &uri, true).await);
            });
        }
        let sessions = Arc::clone(&two.one);
        work.spawn(async move { sessions.end(&session).await.unwrap() });
        work.join_all().await;
        assert!(!two.is_live(&there.id).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_two_replicas_set_at_the_same_time_is_all_remembered() {
    let two = Two::new(100);
    let session = two.one.create(record(10)).await.unwrap();
    let there = two.other.find(&session.id, |_| true).await.unwrap();
    let mut work = JoinSet::new();
    for n in 0..16 {
        let one = n % 2 == 0;
        let sessions = Arc::clone(if one { &two.one } else { &two.other });
        let session = Arc::clone(if one { &session } else { &there });
        work.spawn(async move {
            let uri = format!("file:///{n}");
            sessions.remember_subscription(&session, server_id(1), &uri, true).await.unwrap();
        });
    }
    work.join_all().await;
    two.one.refresh(&session).await;
    assert_eq!(session.record().subscriptions.len(), 16);
}

#[tokio::test]
async fn a_replica_that_was_cut_off_does_not_bring_an_ended_session_back() {
    let two = Two::new(100);
    for pass in [TimeDelta::seconds(1), TimeDelta::minutes(2)] {
        let session = two.one.create(record(10)).await.unwrap();
        let there = two.other.find(&session.id, |_| true).await.unwrap();
        there.behind.store(true, Ordering::Relaxed);
        there.dirty.store(true, Ordering::Relaxed);
        two.one.end(&session).await.unwrap();
        // The letter is lost; the tomb is still there, and then it is not.
        two.clock.advance(pass);
        there.trust_until(two.clock.now());
        assert_eq!(two.found(&session.id).await, Err(Reason::UnknownSession), "{pass}");
        assert!(!two.is_live(&session.id).await);
        assert!(two.one.end_if_expired(&session.id).await.unwrap(), "its servers are told");
    }
}

#[tokio::test]
async fn a_session_that_expired_while_its_replica_was_cut_off_is_written_back() {
    let two = Two::new(100);
    let session = two.one.create(record(10)).await.unwrap();
    session.behind.store(true, Ordering::Relaxed);
    two.clock.advance(TimeDelta::minutes(62));
    two.one.find(&session.id, |_| true).await.unwrap();
    assert_eq!(two.found(&session.id).await, Ok(()));
}

#[tokio::test]
async fn s2_29_after_a_loss_agents_are_asked_to_wait_until_sessions_are_put_back() {
    let two = Two::new(100);
    let session = two.one.create(record(10)).await.unwrap();
    for sessions in [&two.one, &two.other] {
        assert_eq!(sessions.restore_if_lost().await.unwrap(), None);
    }
    assert_eq!(two.found("unknown").await, Err(Reason::UnknownSession));
    two.map.remove(&Sessions::key_of(&session.id)).await.unwrap();
    two.map.remove("epoch").await.unwrap();
    assert_eq!(two.found(&session.id).await, Err(Reason::CoordinationUnavailable));
    assert_eq!(two.one.restore_if_lost().await.unwrap(), Some(1));
    assert_eq!(two.found(&session.id).await, Ok(()));
    two.clock.advance(TimeDelta::seconds(11));
    assert_eq!(two.found("unknown").await, Err(Reason::UnknownSession));
}

#[tokio::test]
async fn a_map_that_is_months_old_is_not_taken_for_an_emptied_one() {
    let two = Two::new(100);
    for _ in 0..4 {
        assert_eq!(two.one.restore_if_lost().await.unwrap(), None);
        two.clock.advance(TimeDelta::days(20));
    }
    assert_eq!(two.one.restore_if_lost().await.unwrap(), None);
}
