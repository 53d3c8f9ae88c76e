//! What happens when Redis fails, on a real one.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use portico_clock::{Clock as _, SystemClock};
use portico_process::Readiness;
use portico_settings::Secret;
use tokio::time::{Instant, timeout};

use super::DEADLINE;
use crate::{
    CoordinationError, CoordinationSettings, Limit, LimitKey, StreamSettings,
    contract::{
        eventually,
        in_redis::{self, Replica},
        own_server::{FreePort, OwnServer},
    },
};

const MINUTE: Duration = Duration::from_mins(1);
/// Several deadlines and what a busy machine delays, but no endless wait.
const PATIENCE: Duration = Duration::from_secs(10);
const A: Bytes = Bytes::from_static(b"a");

async fn patient() -> Option<(OwnServer, Replica)> {
    let server = OwnServer::start().await?;
    let replica = Replica::of(server.url(), "d");
    replica.is_up().await;
    Some((server, replica))
}

async fn strict() -> Option<(OwnServer, Replica)> {
    let server = OwnServer::start().await?;
    let replica = Replica::strict(server.url(), "d");
    replica.is_up().await;
    Some((server, replica))
}

fn unavailable<T>(result: &Result<T, CoordinationError>) -> bool {
    matches!(result, Err(CoordinationError::Unavailable { .. }))
}

#[tokio::test]
async fn s0_14_an_emptied_redis_loses_what_it_held_and_everything_goes_on() {
    let Some((_server, replica)) = patient().await else { return };
    let (map, leases) = (replica.coordination.ttl_map("m"), replica.coordination.leases());
    let (events, mailbox) = (replica.coordination.events(), replica.coordination.mailbox());
    let consumer = events.subscribe("t", "g", "1").await.unwrap();
    let mut inbox = mailbox.receive("owner").await.unwrap();
    map.put("k", A, MINUTE).await.unwrap();
    let lease = leases.acquire("l", "a", MINUTE).await.unwrap().unwrap();
    events.publish("t", "lost", A).await.unwrap();

    replica.command(&["FLUSHALL"]).await;

    assert_eq!(map.get("k").await.unwrap(), None);
    map.put("k", A, MINUTE).await.unwrap();
    assert_eq!(leases.renew(&lease, MINUTE).await.unwrap(), None);
    let next = leases.acquire("l", "b", MINUTE).await.unwrap().unwrap();
    assert!(next.fence > lease.fence, "fences grow though the last one was forgotten");
    // The group is gone; taking makes it anew, with what was published before that.
    events.publish("t", "kept", A).await.unwrap();
    let event = consumer.next().await.unwrap();
    assert_eq!((event.key.as_str(), event.attempt), ("kept", 1));
    consumer.ack(event.id).await.unwrap();
    mailbox.send("owner", A).await.unwrap();
    assert_eq!(inbox.next().await, Some(A));
}

#[tokio::test]
async fn s0_14_a_redis_that_died_and_came_back_is_used_again() {
    let Some((mut server, replica)) = strict().await else { return };
    let (map, events) = (replica.coordination.ttl_map("m"), replica.coordination.events());
    let mailbox = replica.coordination.mailbox();
    let consumer = events.subscribe("t", "g", "1").await.unwrap();
    let mut inbox = mailbox.receive("owner").await.unwrap();

    server.kill().await;
    replica.is_down().await;
    let began = Instant::now();
    let refused = map.put("k", A, MINUTE).await;
    assert!(unavailable(&refused), "{refused:?}");
    assert!(unavailable(&events.publish("t", "k", A).await));
    assert!(unavailable(&mailbox.send("owner", A).await));
    assert!(unavailable(&mailbox.receive("another").await));
    assert!(unavailable(&replica.coordination.leases().acquire("l", "a", MINUTE).await));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    // Subscribing and waiting outlast the outage.
    let late = events.subscribe("t", "late", "1").await.unwrap();
    assert!(timeout(Duration::from_millis(100), consumer.next()).await.is_err());

    server.start_again().await;
    replica.is_up().await;
    events.publish("t", "after", A).await.unwrap();
    for consumer in [&consumer, &late] {
        assert_eq!(timeout(MINUTE, consumer.next()).await.unwrap().unwrap().key, "after");
    }
    mailbox.send("owner", A).await.unwrap();
    assert_eq!(inbox.next().await, Some(A), "the receiver listens again");
    map.put("k", A, MINUTE).await.unwrap();
    assert_eq!(map.get("k").await.unwrap(), Some(A));
    assert!(replica.metric("portico_coordination_connections_total") >= 2);
}

#[tokio::test]
async fn s0_14_a_redis_that_hangs_costs_a_deadline_and_then_nothing() {
    let Some((server, replica)) = strict().await else { return };
    let map = replica.coordination.ttl_map("m");
    map.put("k", A, MINUTE).await.unwrap();
    server.signal("STOP").await;
    let began = Instant::now();
    assert!(unavailable(&map.get("k").await));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    replica.is_down().await;
    eventually("questions fail at once", async || {
        let began = Instant::now();
        unavailable(&map.get("k").await) && began.elapsed() < DEADLINE / 5
    })
    .await;
    server.signal("CONT").await;
    eventually("it answers again", async || map.get("k").await.is_ok_and(|value| value == Some(A))).await;
}

#[tokio::test]
async fn s0_14_a_cut_connection_is_not_seen_by_what_may_be_repeated() {
    let Some((_server, replica)) = patient().await else { return };
    let (map, mailbox) = (replica.coordination.ttl_map("m"), replica.coordination.mailbox());
    let mut inbox = mailbox.receive("owner").await.unwrap();
    for n in 0..5 {
        map.put("k", A, MINUTE).await.unwrap();
        replica.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert_eq!(map.get("k").await.unwrap(), Some(A), "cut {n}");
    }
    eventually("the receiver listens again", async || mailbox.send("owner", A).await.is_ok()).await;
    assert_eq!(inbox.next().await, Some(A));
    assert!(replica.metric("portico_coordination_connections_total") > 5);
}

#[tokio::test]
async fn a_process_starts_without_redis_and_is_ready_once_it_was_there() {
    let Some(mut server) = OwnServer::start().await else { return };
    server.kill().await;
    let replica = Replica::strict(server.url(), "d");
    let readiness = Readiness::new();
    replica.coordination.watch_health(readiness.check("redis"), &replica.tasks);
    let reason = || readiness.snapshot().pop().unwrap().reason.unwrap_or_default();
    eventually("it says why", async || reason().contains("Redis cannot be reached")).await;
    assert!(unavailable(&replica.coordination.ttl_map("m").get("k").await));

    server.start_again().await;
    eventually("it is ready", async || readiness.is_ready()).await;
    server.kill().await;
    replica.is_down().await;
    assert!(readiness.is_ready(), "a replica without Redis still serves what it can");
}

fn impatient() -> StreamSettings {
    let visibility_timeout = Duration::from_millis(50);
    StreamSettings { max_attempts: 1, visibility_timeout, ..StreamSettings::default() }
}

/// Uses every command and script once.
async fn exercise(replica: &Replica) {
    let map = replica.coordination.ttl_map("m");
    map.put("k", A, MINUTE).await.unwrap();
    assert!(!map.put_if_absent("k", A, MINUTE).await.unwrap());
    assert!(map.touch("k", MINUTE).await.unwrap());
    assert_eq!(map.take("k").await.unwrap(), Some(A));
    assert!(!map.remove("k").await.unwrap());

    let leases = replica.coordination.leases();
    let lease = leases.acquire("a}b{c", "o", MINUTE).await.unwrap().unwrap();
    assert!(leases.renew(&lease, MINUTE).await.unwrap().is_some());
    assert!(leases.release(&lease).await.unwrap());

    let (events, mailbox) = (replica.coordination.events(), replica.coordination.mailbox());
    let consumer = events.subscribe("t}", "{g", "1").await.unwrap();
    for key in ["poison", "2"] {
        events.publish("t}", key, A).await.unwrap();
    }
    assert_eq!(consumer.next().await.unwrap().key, "poison");
    let handled = consumer.next().await.unwrap();
    consumer.ack(handled.id).await.unwrap();
    assert!(timeout(Duration::from_millis(500), consumer.next()).await.is_err());
    assert_eq!(events.dead_letters("t}", "{g").await.unwrap().len(), 1);

    let mut inbox = mailbox.receive("o").await.unwrap();
    mailbox.send("o", A).await.unwrap();
    assert_eq!(inbox.next().await, Some(A));

    let limiter = replica.coordination.rate_limiter();
    let (key, limit) = (LimitKey::new("principal", "p"), Limit { per_minute: 60, burst: 5 });
    limiter.try_acquire(&key, limit, SystemClock.now()).unwrap();
    eventually("a bucket is shared", async || replica.asked("rate_limit") > 0).await;
    assert_eq!(replica.metric("portico_coordination_failures_total{capability=\"rate_limit\"}"), 0);
}

/// Starts a server in cluster mode, and says where its bus is.
async fn cluster_node() -> Option<(OwnServer, FreePort)> {
    let bus = FreePort::find();
    let number = bus.number.to_string();
    let options =
        |_: &Path| ["--cluster-enabled", "yes", "--cluster-port", &number].map(str::to_owned).into();
    Some((OwnServer::start_with(options).await?, bus))
}

async fn the_cluster_is_whole(seen_from: &Replica) {
    eventually("the cluster is whole", async || {
        let info: String = redis::from_redis_value(seen_from.command(&["CLUSTER", "INFO"]).await).unwrap();
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")
    })
    .await;
}

#[tokio::test]
async fn a_cluster_of_several_masters_is_refused_with_what_to_do() {
    let (Some((one, _)), Some((two, bus))) = (cluster_node().await, cluster_node().await) else { return };
    // One that was alone when it was connected to, and one that is met as a part of the whole.
    let early = Replica::with(one.url(), "d", impatient());
    let map = early.coordination.ttl_map("m");
    early.is_up().await;
    let other = Replica::with(two.url(), "d", impatient());
    early.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]).await;
    other.command(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]).await;
    let port = two.url().rsplit_once(':').unwrap().1;
    early.command(&["CLUSTER", "MEET", "127.0.0.1", port, &bus.number.to_string()]).await;
    the_cluster_is_whole(&early).await;
    the_cluster_is_whole(&other).await;
    let late = Replica::strict(two.url(), "d");
    let readiness = Readiness::new();
    late.coordination.watch_health(readiness.check("redis"), &late.tasks);
    let why = timeout(PATIENCE, late.coordination.unusable()).await.unwrap();
    assert!(
        why.contains("2 masters") && why.contains("give the URL of a Redis without cluster mode"),
        "{why}"
    );
    assert!(readiness.snapshot()[0].reason.as_ref().unwrap().starts_with("Redis cannot be used"));
    eventually("the early one meets a key of the other node, and says the same", async || {
        for n in 0..20 {
            drop(map.get(&n.to_string()).await);
        }
        matches!(map.get("k").await, Err(error) if error.to_string().contains("2 masters"))
    })
    .await;
}

#[tokio::test]
async fn a_sentinel_is_refused_with_what_to_do() {
    let sentinel = |dir: &Path| {
        let file = dir.join("sentinel.conf");
        std::fs::write(&file, "").unwrap();
        vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()]
    };
    let Some(server) = OwnServer::start_with(sentinel).await else { return };
    let replica = Replica::strict(server.url(), "d");
    let why = timeout(PATIENCE, replica.coordination.unusable()).await.unwrap();
    assert!(why.contains("Sentinel") && why.contains("give an address"), "{why}");
}

/// A server in cluster mode refuses a script whose keys are in different slots, or that uses a key it did not declare.
#[tokio::test]
async fn every_script_keeps_to_one_slot() {
    let Some((server, _bus)) = cluster_node().await else { return };
    let replica = Replica::with(server.url(), "d", impatient());
    replica.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let map = replica.coordination.ttl_map("m");
    eventually("the slots are served", async || map.put("k", A, MINUTE).await.is_ok()).await;
    exercise(&replica).await;
    replica.assert_every_key_is_bounded().await;
}

#[tokio::test]
async fn a_user_of_redis_needs_the_prefix_and_nothing_dangerous() {
    let rules = "--user portico on >secret ~portico:* &portico:* +@all -@admin -@dangerous";
    let user = |_: &Path| rules.split(' ').map(str::to_owned).collect();
    let Some(server) = OwnServer::start_with(user).await else { return };
    let url = server.url().replace("redis://", "redis://portico:secret@");
    exercise(&Replica::with(&url, "d", impatient())).await;
}

/// The users of the deployments, as an operator gets them: one for each service.
const USERS: &str = include_str!("../../../../../deploy/redis-users.acl");

/// A replica of each service, as its own user, and the topic between two of them.
async fn one_of_each() -> Option<(OwnServer, [Replica; 4])> {
    let users = |dir: &Path| {
        let file = dir.join("users.acl");
        let users = USERS.lines().filter(|line| line.starts_with("user "));
        let users: Vec<_> = users.map(|line| line.replacen("PASSWORD", ">secret", 1)).collect();
        std::fs::write(&file, users.join("\n")).unwrap();
        vec!["--aclfile".to_owned(), file.to_str().unwrap().to_owned()]
    };
    let server = OwnServer::start_with(users).await?;
    let replicas = ["gateway", "auth-server", "registry", "worker"].map(|user| {
        let url = server.url().replace("redis://", &format!("redis://{user}:secret@"));
        Replica::with(&url, "d", impatient())
    });
    Some((server, replicas))
}

const EVENTS: &str = "portico.registry.v1";

/// Uses what every service uses, under the names of one.
async fn use_as(replica: &Replica, prefix: &str) {
    let name = format!("{prefix}.x");
    let map = replica.coordination.ttl_map(&name);
    map.put("k", A, MINUTE).await.unwrap();
    assert!(!map.put_if_absent("k", A, MINUTE).await.unwrap());
    assert!(map.swap("k", &A, A, MINUTE).await.unwrap());
    assert!(map.touch("k", MINUTE).await.unwrap());
    assert_eq!(map.renew("k", MINUTE).await.unwrap(), Some(A));
    assert_eq!(map.take("k").await.unwrap(), Some(A));
    assert!(!map.remove("k").await.unwrap());
    let leases = replica.coordination.leases();
    let lease = leases.acquire(&name, "o", MINUTE).await.unwrap().unwrap();
    assert!(leases.renew(&lease, MINUTE).await.unwrap().is_some());
    assert!(leases.release(&lease).await.unwrap());
    let (key, limit) = (LimitKey::new(&name, "p"), Limit { per_minute: 60, burst: 5 });
    replica.coordination.rate_limiter().try_acquire(&key, limit, SystemClock.now()).unwrap();
    eventually("a bucket is shared", async || replica.asked("rate_limit") > 0).await;
    assert_eq!(replica.metric("portico_coordination_failures_total{capability=\"rate_limit\"}"), 0);
}

#[tokio::test]
async fn the_user_of_a_service_may_do_what_the_service_does() {
    let Some((_server, replicas)) = one_of_each().await else { return };
    let [gateway, auth_server, registry, worker] = &replicas;
    for (replica, prefix) in
        [(gateway, "gateway"), (auth_server, "auth"), (registry, "registry"), (worker, "worker")]
    {
        use_as(replica, prefix).await;
    }
    for (replica, prefix) in [(gateway, "gateway"), (worker, "worker")] {
        let mailbox = replica.coordination.mailbox();
        let mut inbox = mailbox.receive(&format!("{prefix}/o")).await.unwrap();
        mailbox.send(&format!("{prefix}/o"), A).await.unwrap();
        assert_eq!(inbox.next().await, Some(A));
    }
    let (publisher, events) = (registry.coordination.events(), worker.coordination.events());
    let consumer = events.subscribe(EVENTS, "worker", "1").await.unwrap();
    for key in ["poison", "2"] {
        publisher.publish(EVENTS, key, A).await.unwrap();
    }
    assert_eq!(consumer.next().await.unwrap().key, "poison");
    let handled = consumer.next().await.unwrap();
    consumer.ack(handled.id).await.unwrap();
    assert!(timeout(Duration::from_millis(500), consumer.next()).await.is_err());
    assert_eq!(events.dead_letters(EVENTS, "worker").await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_user_of_a_service_cannot_read_or_change_what_only_another_needs() {
    let Some((_server, replicas)) = one_of_each().await else { return };
    let names = ["gateway", "auth.pushed", "registry", "worker.seats"];
    for (owner, name) in names.iter().enumerate() {
        replicas[owner].coordination.ttl_map(name).put("k", A, MINUTE).await.unwrap();
        for (other, replica) in replicas.iter().enumerate().filter(|(other, _)| *other != owner) {
            let map = replica.coordination.ttl_map(name);
            let refused = [map.get("k").await.unwrap_err(), map.put("k", A, MINUTE).await.unwrap_err()];
            assert!(
                refused.iter().all(|why| why.to_string().contains("NoPerm")),
                "{other} {name}: {refused:?}"
            );
            let lease = replica.coordination.leases().acquire(name, "o", MINUTE).await;
            assert!(unavailable(&lease), "{other} {name}: {lease:?}");
        }
    }
    let [gateway, auth_server, registry, worker] = &replicas;
    for replica in [gateway, auth_server] {
        assert!(unavailable(&replica.coordination.events().publish(EVENTS, "forged", A).await));
        assert!(unavailable(&replica.coordination.events().dead_letters(EVENTS, "worker").await));
    }
    // A letter between gateways carries calls and answers of agents.
    for replica in [auth_server, registry, worker] {
        assert!(unavailable(&replica.coordination.mailbox().send("gateway/o", A).await));
    }
    for words in [&["KEYS", "*"][..], &["FLUSHALL"], &["CONFIG", "GET", "*"], &["ACL", "LIST"], &["MONITOR"]]
    {
        let asked: redis::RedisResult<redis::Value> =
            redis::cmd(words[0]).arg(&words[1..]).query_async(&mut gateway.raw().await).await;
        assert!(asked.is_err(), "{words:?}");
    }
}

#[tokio::test]
async fn s0_14_a_redis_without_memory_refuses_what_is_new_and_goes_on_with_what_it_has() {
    let Some((_server, replica)) = patient().await else { return };
    let (map, events) = (replica.coordination.ttl_map("m"), replica.coordination.events());
    let consumer = events.subscribe("t", "g", "1").await.unwrap();
    map.put("k", A, MINUTE).await.unwrap();
    for key in ["1", "2"] {
        events.publish("t", key, A).await.unwrap();
    }
    replica.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"]).await;

    let refused = map.put("another", A, MINUTE).await;
    assert!(unavailable(&refused), "{refused:?}");
    assert!(unavailable(&events.publish("t", "3", A).await));
    assert_eq!(map.get("k").await.unwrap(), Some(A));
    for key in ["1", "2"] {
        let event = consumer.next().await.unwrap();
        assert_eq!(event.key, key);
        consumer.ack(event.id).await.unwrap();
    }
    let (limiter, key) = (replica.coordination.rate_limiter(), LimitKey::new("principal", "p"));
    let limit = Limit { per_minute: 1, burst: 50 };
    for _ in 0..50 {
        limiter.try_acquire(&key, limit, SystemClock.now()).unwrap();
        tokio::task::yield_now().await;
    }

    replica.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    events.publish("t", "3", A).await.unwrap();
    assert_eq!(consumer.next().await.unwrap().key, "3");
}

#[tokio::test]
async fn a_server_that_may_not_be_written_any_more_is_left() {
    let Some((_server, replica)) = strict().await else { return };
    let map = replica.coordination.ttl_map("m");
    replica.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert!(unavailable(&map.put("k", A, MINUTE).await));
    let made = async || replica.metric("portico_coordination_connections_total") > 1;
    eventually("it connects anew, and perhaps to another one", made).await;
    replica.command(&["REPLICAOF", "NO", "ONE"]).await;
    eventually("it can be written again", async || map.put("k", A, MINUTE).await.is_ok()).await;
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_an_error_and_not_a_wait() {
    if in_redis::url().is_none() {
        return;
    }
    let nobody = FreePort::find();
    let replica = Replica::strict(&format!("redis://127.0.0.1:{}", nobody.number), "d");
    let began = Instant::now();
    assert!(unavailable(&replica.coordination.ttl_map("m").get("k").await));
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn after_shutdown_the_last_connection_serves_what_is_being_finished() {
    let Some((_server, replica)) = strict().await else { return };
    let (map, mailbox) = (replica.coordination.ttl_map("m"), replica.coordination.mailbox());
    drop(mailbox.receive("gone").await.unwrap());
    replica.tasks.trigger_shutdown();
    assert!(replica.tasks.wait(Duration::from_secs(5)).await.is_clean());
    map.put("k", A, MINUTE).await.unwrap();
    assert_eq!(map.take("k").await.unwrap(), Some(A));
    let began = Instant::now();
    // Nobody keeps the channels any more, so it is not known whether the box is closed; only no time is lost.
    let _ = mailbox.send("gone", A).await;
    assert!(unavailable(&mailbox.receive("new").await));
    assert!(began.elapsed() < PATIENCE);
}

/// Certificates for localhost, signed by an authority of their own.
fn certificates(dir: &Path) {
    let issuer_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&issuer_key).unwrap();
    let issuer = rcgen::Issuer::new(params, issuer_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    for (name, pem) in [("ca.pem", ca.pem()), ("leaf.pem", leaf.pem()), ("key.pem", key.serialize_pem())] {
        std::fs::write(dir.join(name), pem).unwrap();
    }
}

#[tokio::test]
async fn tls_needs_the_authority_and_a_rotated_password_is_read_again() {
    portico_process::install_crypto_provider();
    let reserved = FreePort::find();
    let port = reserved.number;
    let options = |dir: &Path| {
        certificates(dir);
        let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let words = ["--tls-port", &port.to_string(), "--tls-auth-clients", "no", "--requirepass", "first"];
        let mut options: Vec<String> = words.map(str::to_owned).into();
        for (option, name) in
            [("--tls-ca-cert-file", "ca.pem"), ("--tls-cert-file", "leaf.pem"), ("--tls-key-file", "key.pem")]
        {
            options.extend([option.to_owned(), file(name)]);
        }
        options
    };
    let Some(server) = OwnServer::start_with(options).await else { return };
    let secret = server.dir().join("url");
    let write =
        |password: &str| std::fs::write(&secret, format!("rediss://:{password}@localhost:{port}\n")).unwrap();
    write("first");
    let settings = |ca: Option<&str>| CoordinationSettings {
        redis_url: Some(Secret::file(&secret)),
        ca: ca.map(|ca| server.dir().join(ca)),
    };
    let connect =
        |ca| Replica::connect(&settings(ca), server.url(), "d", (StreamSettings::default(), DEADLINE));

    // The system's authorities do not vouch for it.
    let stranger = connect(None);
    let refused = stranger.coordination.ttl_map("m").get("k").await;
    assert!(unavailable(&refused), "{refused:?}");
    assert!(!format!("{refused:?}").contains("first"), "{refused:?}");

    let replica = connect(Some("ca.pem"));
    replica.is_up().await;
    let map = replica.coordination.ttl_map("m");
    map.put("k", A, MINUTE).await.unwrap();

    let mut admin =
        redis::Client::open(server.url().replace("127", ":first@127")).unwrap().get_connection().unwrap();
    redis::cmd("CONFIG").arg(&["SET", "requirepass", "second"]).exec(&mut admin).unwrap();
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut admin).unwrap();
    eventually("the old password is refused", async || unavailable(&map.get("k").await)).await;
    write("second");
    eventually("the new one is used", async || map.get("k").await.is_ok_and(|value| value == Some(A))).await;
}
