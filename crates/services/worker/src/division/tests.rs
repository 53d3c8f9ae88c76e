use std::sync::Arc;

use chrono::{DateTime, TimeDelta};
use portico_clock::MockClock;
use portico_telemetry::Metrics;

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
