use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use portico_clock::{MockClock, SystemClock};
use portico_coordination::{CoordinationDeps, CoordinationSettings};
use portico_ids::{Rng as _, SystemRng};
use portico_process::Tasks;
use portico_settings::Secret;
use portico_telemetry::Metrics;
use tokio::time::Instant;

use super::*;
use crate::shares::SHARES;

struct World {
    clock: MockClock,
    coordination: Coordination,
}

impl World {
    fn new() -> Self {
        let clock = MockClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let coordination = Coordination::in_process(Arc::new(clock.clone()));
        Self { clock, coordination }
    }

    fn worker(&self, name: &str) -> Division {
        Division::new(name, &self.coordination, WorkerMetrics::registered(&Metrics::new()))
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(TimeDelta::from_std(time).unwrap());
    }
}

fn shares(worker: &Division) -> BTreeSet<Share> {
    worker.held().borrow().shares.clone()
}

#[tokio::test]
async fn s2_30_a_second_worker_gets_half_and_no_share_is_held_twice() {
    let world = World::new();
    let (mut first, mut second) = (world.worker("first"), world.worker("second"));
    first.beat().await.unwrap();
    assert_eq!(shares(&first).len(), usize::from(SHARES), "alone it has everything");
    second.beat().await.unwrap();
    assert!(shares(&second).is_empty(), "not before the first one has let go");
    world.pass(BEAT);
    first.beat().await.unwrap();
    second.beat().await.unwrap();
    let (one, two) = (shares(&first), shares(&second));
    assert_eq!((one.len(), two.len()), (16, 16));
    assert!(one.is_disjoint(&two));
    for share in Share::all() {
        let holder = if one.contains(&share) { "first" } else { "second" };
        assert_eq!(first.holders.of(share).await.unwrap().as_deref(), Some(holder));
    }
    let taken = second.held().borrow().taken;
    world.pass(BEAT);
    first.beat().await.unwrap();
    second.beat().await.unwrap();
    assert_eq!((shares(&first), shares(&second)), (one, two), "nothing moves without a reason");
    assert_eq!(second.held().borrow().taken, taken);
}

#[tokio::test]
async fn s2_29_s0_30_the_shares_of_a_dead_worker_move_within_eight_seconds() {
    let world = World::new();
    let (mut first, mut second) = (world.worker("first"), world.worker("second"));
    for _ in 0..2 {
        first.beat().await.unwrap();
        second.beat().await.unwrap();
        world.pass(BEAT);
    }
    drop(second);
    let mut waited = BEAT;
    loop {
        first.beat().await.unwrap();
        if shares(&first).len() == usize::from(SHARES) {
            break;
        }
        world.pass(BEAT);
        waited += BEAT;
    }
    assert!(waited <= TTL + BEAT, "{waited:?}");
}

#[tokio::test]
async fn a_worker_that_slept_learns_what_it_has_lost_before_it_takes_anything() {
    let world = World::new();
    let (mut first, mut second) = (world.worker("first"), world.worker("second"));
    for _ in 0..2 {
        first.beat().await.unwrap();
        second.beat().await.unwrap();
        world.pass(BEAT);
    }
    let slept = shares(&second);
    world.pass(TTL);
    first.beat().await.unwrap();
    assert_eq!(shares(&first).len(), usize::from(SHARES));
    second.beat().await.unwrap();
    assert!(shares(&second).is_empty(), "another one has {slept:?} now");
    world.pass(BEAT);
    first.beat().await.unwrap();
    second.beat().await.unwrap();
    assert_eq!(shares(&second).len(), 16);
    assert!(shares(&first).is_disjoint(&shares(&second)));
}

#[tokio::test]
async fn s0_26_a_worker_that_leaves_is_followed_at_the_next_beat() {
    let world = World::new();
    let (mut first, mut second) = (world.worker("first"), world.worker("second"));
    for _ in 0..2 {
        first.beat().await.unwrap();
        second.beat().await.unwrap();
        world.pass(BEAT);
    }
    second.leave().await;
    assert!(shares(&second).is_empty());
    first.beat().await.unwrap();
    assert_eq!(shares(&first).len(), usize::from(SHARES));
}

#[tokio::test]
async fn s0_14_a_worker_whose_leases_were_wiped_goes_on_and_compares_with_the_registry() {
    let world = World::new();
    let mut worker = world.worker("only");
    worker.beat().await.unwrap();
    let taken = worker.held().borrow().taken;
    // As after a loss of all keys: they are gone, and the worker does not know.
    world.pass(TTL + BEAT);
    worker.beat().await.unwrap();
    assert_eq!(shares(&worker).len(), usize::from(SHARES));
    assert!(worker.held().borrow().taken > taken, "what was told meanwhile may have got lost");
}

/// The Redis that suites test with; without one this tests nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "a test suite has no settings; this is where its one variable is read"
)]
fn redis() -> Option<CoordinationSettings> {
    let url = std::env::var("PORTICO_TEST_REDIS_URL").ok().filter(|url| !url.is_empty())?;
    Some(CoordinationSettings { redis_url: Some(Secret::inline(url.into())), ca: None })
}

#[tokio::test]
async fn s2_29_s3_49_workers_divide_and_take_over_through_redis() {
    let Some(settings) = redis() else { return };
    let mut random = [0; 8];
    SystemRng.fill(&mut random);
    let (deployment, tasks) = (format!("test{:016x}", u64::from_be_bytes(random)), Tasks::new());
    let worker = |name: &str| {
        let deps = CoordinationDeps {
            deployment_id: &deployment,
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            tasks: &tasks,
            metrics: &Metrics::new(),
        };
        let coordination = Coordination::connect(&settings, deps).unwrap();
        Division::new(name, &coordination, WorkerMetrics::registered(&Metrics::new()))
    };
    let (mut first, mut second) = (worker("first"), worker("second"));
    let begun = Instant::now();
    while shares(&first).len() + shares(&second).len() < usize::from(SHARES) || shares(&second).is_empty() {
        // One that is connecting is tried again, as it is at the next beat.
        let _ = first.beat().await;
        let _ = second.beat().await;
        assert!(shares(&first).is_disjoint(&shares(&second)));
        assert!(begun.elapsed() < Duration::from_secs(30), "never divided");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((shares(&first).len(), shares(&second).len()), (16, 16));
    drop(second);
    let died = Instant::now();
    while shares(&first).len() < usize::from(SHARES) {
        assert!(died.elapsed() < TTL + BEAT + Duration::from_secs(5), "never taken over");
        sleep(Duration::from_millis(200)).await;
        let _ = first.beat().await;
    }
    first.leave().await;
    tasks.trigger_shutdown();
    assert!(tasks.wait(Duration::from_secs(5)).await.is_clean());
}
