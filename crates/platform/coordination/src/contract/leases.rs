use std::time::Duration;

use tokio::task::JoinSet;

use super::Suite;

pub(super) async fn one_owner_holds_a_lease_at_a_time<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let leases = suite.backend.leases();
    let ttl = suite.unit * 10;
    let held = leases.acquire("relay", "a", ttl).await.unwrap().unwrap();
    assert_eq!(leases.acquire("relay", "b", ttl).await.unwrap(), None);
    assert_eq!(leases.acquire("relay", "a", ttl).await.unwrap(), None);
    assert!(leases.acquire("sweeper", "b", ttl).await.unwrap().is_some());
    assert!(leases.release(&held).await.unwrap());
    assert!(leases.acquire("relay", "b", ttl).await.unwrap().is_some());
}

pub(super) async fn fences_grow_with_every_lease<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let leases = suite.backend.leases();
    let mut last = 0;
    for round in 0..10 {
        let lease = leases.acquire("relay", "a", suite.unit).await.unwrap().unwrap();
        assert!(lease.fence > last);
        last = lease.fence;
        if round % 2 == 0 {
            leases.release(&lease).await.unwrap();
        } else {
            (suite.pass)(suite.unit * 2).await;
        }
    }
}

pub(super) async fn a_lost_lease_is_neither_renewed_nor_released<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let leases = suite.backend.leases();
    let first = leases.acquire("relay", "a", suite.unit * 2).await.unwrap().unwrap();
    (suite.pass)(suite.unit).await;
    let renewed = leases.renew(&first, suite.unit * 2).await.unwrap().unwrap();
    assert_eq!(renewed.fence, first.fence);
    (suite.pass)(suite.unit * 3 / 2).await;
    assert_eq!(leases.acquire("relay", "b", suite.unit).await.unwrap(), None, "renewing prolonged it");

    (suite.pass)(suite.unit * 2).await;
    assert_eq!(leases.renew(&renewed, suite.unit).await.unwrap(), None);
    let second = leases.acquire("relay", "b", suite.unit * 10).await.unwrap().unwrap();
    assert_eq!(leases.renew(&renewed, suite.unit).await.unwrap(), None);
    assert!(!leases.release(&renewed).await.unwrap());
    assert!(leases.renew(&second, suite.unit).await.unwrap().is_some());
}

pub(super) async fn of_racers_one_gets_the_lease<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let leases = suite.backend.leases();
    let mut racers = JoinSet::new();
    for n in 0..16 {
        let (leases, ttl) = (leases.clone(), suite.unit * 10);
        racers.spawn(async move { leases.acquire("relay", &n.to_string(), ttl).await.unwrap() });
    }
    assert_eq!(racers.join_all().await.into_iter().flatten().count(), 1);
}
