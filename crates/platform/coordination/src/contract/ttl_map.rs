use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::Suite;

const A: Bytes = Bytes::from_static(b"a");
const B: Bytes = Bytes::from_static(b"b");

pub(super) async fn values_come_back_until_they_expire<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let map = suite.backend.ttl_map("m");
    assert_eq!(map.get("k").await.unwrap(), None);
    map.put("k", A, suite.unit * 2).await.unwrap();
    map.put("longer", B, suite.unit * 20).await.unwrap();
    assert_eq!(map.get("k").await.unwrap(), Some(A));
    (suite.pass)(suite.unit * 3).await;
    assert_eq!(map.get("k").await.unwrap(), None);
    assert!(!map.touch("k", suite.unit).await.unwrap());
    assert!(!map.remove("k").await.unwrap());
    assert_eq!(map.take("k").await.unwrap(), None);
    assert_eq!(map.get("longer").await.unwrap(), Some(B));
    assert!(map.remove("longer").await.unwrap());
    assert_eq!(map.get("longer").await.unwrap(), None);
}

pub(super) async fn touching_prolongs_and_putting_replaces<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let map = suite.backend.ttl_map("m");
    map.put("k", A, suite.unit * 2).await.unwrap();
    assert!(map.touch("k", suite.unit * 10).await.unwrap());
    (suite.pass)(suite.unit * 3).await;
    assert_eq!(map.get("k").await.unwrap(), Some(A));
    map.put("k", B, suite.unit * 2).await.unwrap();
    assert_eq!(map.get("k").await.unwrap(), Some(B));
    (suite.pass)(suite.unit * 3).await;
    assert_eq!(map.get("k").await.unwrap(), None, "the later put also sets the time to live");
}

pub(super) async fn of_racers_to_put_one_wins<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let map = suite.backend.ttl_map("m");
    // Once with nothing there, once over an expired value.
    for _ in 0..2 {
        let mut racers = JoinSet::new();
        for n in 0..16_u8 {
            let (map, ttl) = (map.clone(), suite.unit * 2);
            racers.spawn(async move {
                let value = Bytes::from(vec![n]);
                map.put_if_absent("k", value.clone(), ttl).await.unwrap().then_some(value)
            });
        }
        let winners: Vec<_> = racers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(map.get("k").await.unwrap().as_ref(), winners.first());
        (suite.pass)(suite.unit * 3).await;
    }
}

pub(super) async fn of_racers_to_take_one_gets_it<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let map = suite.backend.ttl_map("m");
    map.put("k", A, suite.unit * 10).await.unwrap();
    let mut racers = JoinSet::new();
    for _ in 0..16 {
        let map = map.clone();
        racers.spawn(async move { map.take("k").await.unwrap() });
    }
    let taken: Vec<_> = racers.join_all().await.into_iter().flatten().collect();
    assert_eq!(taken, [A]);
}

pub(super) async fn only_the_expected_value_is_swapped<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let map = suite.backend.ttl_map("m");
    assert!(!map.swap("k", &A, B, suite.unit * 10).await.unwrap(), "nothing is there");
    assert_eq!(map.get("k").await.unwrap(), None);
    map.put("k", A, suite.unit * 2).await.unwrap();
    assert!(!map.swap("k", &B, B, suite.unit * 10).await.unwrap());
    assert!(map.swap("k", &A, B, suite.unit * 10).await.unwrap());
    (suite.pass)(suite.unit * 3).await;
    assert_eq!(map.get("k").await.unwrap(), Some(B), "the swap also sets the time to live");
    let mut racers = JoinSet::new();
    for n in 0..16_u8 {
        let (map, ttl) = (map.clone(), suite.unit * 2);
        racers.spawn(async move { map.swap("k", &B, Bytes::from(vec![n]), ttl).await.unwrap() });
    }
    let winners = racers.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(winners, 1);
    (suite.pass)(suite.unit * 3).await;
    assert_eq!(map.get("k").await.unwrap(), None);
}

pub(super) async fn renewing_prolongs_and_gives_the_value<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let map = suite.backend.ttl_map("m");
    assert_eq!(map.renew("k", suite.unit * 10).await.unwrap(), None);
    map.put("k", A, suite.unit * 2).await.unwrap();
    assert_eq!(map.renew("k", suite.unit * 10).await.unwrap(), Some(A));
    (suite.pass)(suite.unit * 3).await;
    assert_eq!(map.get("k").await.unwrap(), Some(A));
}

pub(super) async fn namespaces_do_not_meet<P: AsyncFn(Duration)>(suite: &Suite<P>) {
    let (one, two) = (suite.backend.ttl_map("one"), suite.backend.ttl_map("two"));
    one.put("k", A, suite.unit * 10).await.unwrap();
    assert_eq!(two.get("k").await.unwrap(), None);
    assert!(two.put_if_absent("k", B, suite.unit * 10).await.unwrap());
    assert_eq!(suite.backend.ttl_map("one").get("k").await.unwrap(), Some(A));
}
