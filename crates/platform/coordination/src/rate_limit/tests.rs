use chrono::TimeDelta;
use portico_clock::{Clock as _, SystemClock};

use super::*;
use crate::contract::{
    eventually,
    in_redis::{self, Replica},
    own_server::OwnServer,
};

const LIMIT: Limit = Limit { per_minute: 60, burst: 3 };

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn keys(limiter: &RateLimiter) -> usize {
    limiter.shared.shards.iter().map(|shard| lock(shard).len()).sum()
}

#[test]
fn memory_stays_bounded_and_an_empty_bucket_is_not_forgotten_for_fuller_ones() {
    let limiter = RateLimiter::with_capacity(SHARDS * 8, None);
    let empty = LimitKey::new("principal", "greedy");
    for _ in 0..3 {
        limiter.try_acquire(&empty, LIMIT, start()).unwrap();
    }
    for n in 0..10_000 {
        limiter.try_acquire(&LimitKey::new("principal", &n.to_string()), LIMIT, start()).unwrap();
    }
    assert!(keys(&limiter) <= SHARDS * 8, "{}", keys(&limiter));
    assert!(limiter.try_acquire(&empty, LIMIT, start()).is_err());
}

#[test]
fn idle_keys_make_room() {
    let limiter = RateLimiter::with_capacity(SHARDS * 8, None);
    let later = start() + TimeDelta::minutes(1);
    for n in 0..10_000 {
        limiter.try_acquire(&LimitKey::new("idle", &n.to_string()), LIMIT, start()).unwrap();
    }
    for n in 0..10_000 {
        limiter.try_acquire(&LimitKey::new("idle", &n.to_string()), LIMIT, later).unwrap();
    }
    assert!(keys(&limiter) <= SHARDS * 8);
}

#[test]
fn threads_together_get_no_more_than_the_burst() {
    let limiter = RateLimiter::new();
    let limit = Limit { per_minute: 1, burst: 100 };
    let key = LimitKey::new("principal", "p");
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| (0..100).filter(|_| limiter.try_acquire(&key, limit, start()).is_ok()).count())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 100);
}

/// Calls as fast as a busy agent would, for some time; returns how many passed.
async fn hammer(replica: &Replica, key: LimitKey, limit: Limit, time: Duration) -> usize {
    let limiter = replica.coordination.rate_limiter();
    let end = Instant::now() + time;
    let mut passed = 0;
    while Instant::now() < end {
        passed += (0..5).filter(|_| limiter.try_acquire(&key, limit, SystemClock.now()).is_ok()).count();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    passed
}

/// Takes tokens until there is none; nothing else happens meanwhile.
fn drain(replica: &Replica, key: &LimitKey, limit: Limit) -> usize {
    let limiter = replica.coordination.rate_limiter();
    (0..1000).take_while(|_| limiter.try_acquire(key, limit, SystemClock.now()).is_ok()).count()
}

/// A hundred a second, sixty at once: what is overspent is paid back in about a second.
const SHARED: Limit = Limit { per_minute: 6000, burst: 60 };

/// Makes the first call of a key on a replica, and waits until the replica knows the shared bucket.
async fn first_call(replica: &Replica, key: &LimitKey, limit: Limit) {
    let asked = replica.asked("rate_limit");
    replica.coordination.rate_limiter().try_acquire(key, limit, SystemClock.now()).unwrap();
    eventually("the replica knows", async || replica.asked("rate_limit") > asked).await;
}

#[tokio::test]
async fn s3_49_replicas_together_pass_no_more_than_one_limit_and_little_less() {
    let Some(url) = in_redis::url() else { return };
    let deployment = in_redis::new_deployment();
    let replicas = [0; 3].map(|_| Replica::of(&url, &deployment));
    let key = LimitKey::new("principal", "busy");
    for replica in &replicas {
        replica.is_up().await;
    }

    let (began, mut total) = (Instant::now(), 0);
    // The first moments are those in which the replicas may spend what they have not asked for.
    for seconds in [1, 3] {
        let time = Duration::from_secs(seconds);
        let passed = replicas.each_ref().map(|replica| hammer(replica, key.clone(), SHARED, time));
        total += futures_util::future::join_all(passed).await.into_iter().sum::<usize>();
        let allowed =
            f64::from(SHARED.burst) + began.elapsed().as_secs_f64() * f64::from(SHARED.per_minute) / 60.0;
        let excess = if seconds == 1 { f64::from(2 * SHARED.burst) } else { 3.0 };
        let passed = f64::from(u32::try_from(total).unwrap());
        assert!(passed <= allowed + excess, "{passed} passed, {allowed} allowed after {seconds} s");
        // A busy machine lets some tokens go to waste.
        assert!(passed >= 0.5 * allowed, "{passed} passed of {allowed}");
    }
}

#[tokio::test]
async fn a_steady_caller_costs_one_question_for_many_calls() {
    let Some(replica) = in_redis::replica() else { return };
    replica.is_up().await;
    let limit = Limit { per_minute: 60_000, burst: 1000 };
    let passed = hammer(&replica, LimitKey::new("principal", "steady"), limit, Duration::from_secs(1)).await;
    let asked = replica.asked("rate_limit");
    assert!(asked > 0 && passed > 10 * asked, "{passed} calls, {asked} questions");
}

#[tokio::test]
async fn a_slow_caller_asks_rarely() {
    let Some(replica) = in_redis::replica() else { return };
    replica.is_up().await;
    let (key, limit) = (LimitKey::new("principal", "slow"), Limit { per_minute: 60_000, burst: 1000 });
    first_call(&replica, &key, limit).await;
    for _ in 0..100 {
        replica.coordination.rate_limiter().try_acquire(&key, limit, SystemClock.now()).unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(replica.asked("rate_limit"), 1);
}

#[tokio::test]
async fn a_lease_that_is_not_needed_is_given_back() {
    let Some(url) = in_redis::url() else { return };
    let deployment = in_redis::new_deployment();
    let (idle, busy) = (Replica::of(&url, &deployment), Replica::of(&url, &deployment));
    // So slow that nothing comes back by itself during the test.
    let limit = Limit { per_minute: 1, burst: 40 };
    let key = LimitKey::new("principal", "moved");
    for replica in [&idle, &busy] {
        replica.is_up().await;
    }
    let limiter = idle.coordination.rate_limiter();
    for _ in 0..8 {
        limiter.try_acquire(&key, limit, SystemClock.now()).unwrap();
    }
    let leased = async || idle.asked("rate_limit") > 0;
    eventually("the idle replica leases", leased).await;
    // Asked for the lease, and a second time to give it back.
    eventually("it gives back", async || idle.asked("rate_limit") > 1).await;
    first_call(&busy, &key, limit).await;
    assert_eq!(drain(&busy, &key, limit), 40 - 8 - 1);
}

#[tokio::test]
async fn leases_are_given_back_when_the_process_ends() {
    let Some(url) = in_redis::url() else { return };
    let deployment = in_redis::new_deployment();
    let (ending, staying) = (Replica::of(&url, &deployment), Replica::of(&url, &deployment));
    let limit = Limit { per_minute: 1, burst: 40 };
    let key = LimitKey::new("principal", "moved");
    for replica in [&ending, &staying] {
        replica.is_up().await;
    }
    let limiter = ending.coordination.rate_limiter();
    for _ in 0..8 {
        limiter.try_acquire(&key, limit, SystemClock.now()).unwrap();
    }
    eventually("it leases", async || ending.asked("rate_limit") > 0).await;
    ending.tasks.trigger_shutdown();
    assert!(ending.tasks.wait(Duration::from_secs(5)).await.is_clean());
    limiter.try_acquire(&key, limit, SystemClock.now()).unwrap();
    first_call(&staying, &key, limit).await;
    assert_eq!(drain(&staying, &key, limit), 40 - 8 - 1);
}

#[tokio::test]
async fn s0_14_without_redis_every_replica_grants_the_limit_and_shares_it_again_afterwards() {
    let Some(mut server) = OwnServer::start().await else { return };
    let replicas = [0; 2].map(|_| Replica::of(server.url(), "d"));
    let limit = Limit { per_minute: 1, burst: 200 };
    for replica in &replicas {
        replica.is_up().await;
    }
    let key = LimitKey::new("principal", "p");
    server.kill().await;
    for replica in &replicas {
        replica.is_down().await;
    }
    assert_eq!(replicas.each_ref().map(|replica| drain(replica, &key, limit)), [200, 200]);

    server.start_again().await;
    for replica in &replicas {
        replica.is_up().await;
    }
    let key = LimitKey::new("principal", "another");
    assert_eq!(drain(&replicas[0], &key, limit), 200);
    let bucket = replicas[0].key("rate", "principal:another");
    let paid = async || replicas[0].command(&["EXISTS", &bucket]).await == redis::Value::Int(1);
    eventually("what was spent is paid", paid).await;
    let limiter = replicas[1].coordination.rate_limiter();
    let refused = async || limiter.try_acquire(&key, limit, SystemClock.now()).is_err();
    eventually("the limit is shared again", refused).await;
    // The first call passed unasked and is owed. Its own bucket alone would ask for less than a minute.
    let wait = limiter.try_acquire(&key, limit, SystemClock.now()).unwrap_err().retry_after;
    assert!(wait > Duration::from_mins(1), "{wait:?}");
}

#[tokio::test]
async fn an_empty_shared_bucket_tells_when_to_come_back() {
    let Some(url) = in_redis::url() else { return };
    let deployment = in_redis::new_deployment();
    let (one, other) = (Replica::of(&url, &deployment), Replica::of(&url, &deployment));
    let limit = Limit { per_minute: 1, burst: 5 };
    let key = LimitKey::new("principal", "p");
    for replica in [&one, &other] {
        replica.is_up().await;
    }
    assert_eq!(drain(&one, &key, limit), 5);
    eventually("what was spent is paid", async || one.asked("rate_limit") > 0).await;
    // Its own bucket is full; the first call passes because nothing is known yet, and is owed.
    first_call(&other, &key, limit).await;
    let limiter = other.coordination.rate_limiter();
    let wait = limiter.try_acquire(&key, limit, SystemClock.now()).unwrap_err().retry_after;
    assert!(wait > Duration::from_mins(1) && wait <= Duration::from_mins(2), "{wait:?}");
}

#[tokio::test]
async fn an_account_is_settled_by_the_servers_clock_and_a_debt_is_paid_first() {
    let Some(replica) = in_redis::replica() else { return };
    let mut raw = replica.raw().await;
    let script = redis::Script::new(include_str!("settle.lua"));
    let mut settle = async |owed: u32, unspent: u32, wanted: u32| -> (u32, u32, u64) {
        let mut invocation = script.key(replica.key("rate", "k"));
        invocation.arg(1).arg(10).arg(owed).arg(unspent).arg(wanted);
        invocation.invoke_async(&mut raw).await.unwrap()
    };
    let minute = 60_000_000;
    assert_eq!(settle(0, 0, 4).await, (4, 6, 0));
    assert_eq!(settle(0, 4, 10).await, (10, 0, minute), "what is given back is there again");
    let (granted, open, wait) = settle(5, 0, 4).await;
    assert_eq!((granted, open), (0, 0));
    assert!(wait > 5 * minute && wait <= 6 * minute, "the debt is paid first: {wait}");
    assert_eq!(settle(10_000, 0, 0).await.0, 0);
    assert_eq!(settle(0, 16 * 10, 10).await.0, 10, "a debt is bounded");

    // Written by a server whose clock was an hour ahead: three tokens are missing, as they were then.
    let server: (u64, u64) = redis::cmd("TIME").query_async(&mut replica.raw().await).await.unwrap();
    let ahead = format!("{} {}", 3 * minute, (server.0 + 3600) * 1_000_000);
    replica.command(&["SET", &replica.key("rate", "k"), &ahead, "PX", "60000"]).await;
    assert_eq!(settle(0, 0, 10).await.0, 7, "a clock that is set back locks nobody out");
    replica.assert_every_key_is_bounded().await;
}
