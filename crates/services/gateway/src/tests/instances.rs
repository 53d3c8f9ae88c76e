//! A server with several instances, of which not all are there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::catalogue::testing::{endpoint, instance, instance_id, server, server_id};
use crate::testing::{BLACK_HOLE, Bench, TestServer, call};

/// The instances of the server `demo`, the first of which is the one that calls go to first.
struct Instances {
    bench: Bench,
}

impl Instances {
    async fn at(urls: &[String]) -> Self {
        Self::of(Bench::new().await, urls)
    }

    fn of(bench: Bench, urls: &[String]) -> Self {
        let instances = (1..).zip(urls).map(|(n, url)| instance(n, 1, url));
        bench.catalogue([server(1, "demo"), endpoint("demo", &[1])].into_iter().chain(instances).collect());
        let this = Self { bench };
        let snapshot = this.bench.engine().catalogue.snapshot();
        // What has calls in flight is picked after what has none.
        for n in (2..).take(urls.len() - 1) {
            snapshot.instance(server_id(1), instance_id(n)).unwrap().traffic.begin();
        }
        this
    }

    fn counts(&self, metric: &str, label: &str) -> u64 {
        let page = self.bench.metrics.render();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{metric}_total{{{label}}} ")));
        line.unwrap_or_else(|| panic!("no {metric} {label} in:\n{page}")).parse().unwrap()
    }

    fn retries(&self, outcome: &str) -> u64 {
        self.counts("portico_gateway_retries", &format!("outcome=\"{outcome}\""))
    }

    fn ejections(&self, reason: &str) -> u64 {
        self.counts("portico_gateway_instance_ejections", &format!("reason=\"{reason}\""))
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/mcp")
}

/// An address where nothing listens: on a port below those that the system hands out.
fn closed() -> String {
    url(([127, 0, 0, 1], 32_767).into())
}

#[tokio::test]
async fn s2_08_a_call_that_an_instance_took_no_connection_for_goes_to_another_one() {
    let bench = Bench::new().await;
    let live = url(bench.server.address);
    let instances = Instances::of(bench, &[closed(), live]);
    for _ in 0..10 {
        let answer = instances.bench.stateless_call("echo", "").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!((instances.retries("answered"), instances.retries("failed")), (1, 0), "only the first met it");
    assert_eq!(instances.ejections("no_connection"), 1);
    assert_eq!(instances.bench.last_audit(), ("allowed".into(), "ok".into()));
}

#[tokio::test]
async fn s2_08_a_failed_tls_handshake_counts_as_no_connection() {
    let bench = Bench::new().await;
    let live = url(bench.server.address);
    let instances = Instances::of(bench, &[live.replace("http:", "https:"), live]);
    assert_eq!(instances.bench.stateless_call("echo", "").await.status, 200);
    assert_eq!((instances.retries("answered"), instances.ejections("no_connection")), (1, 1));
}

#[tokio::test]
async fn s2_08_an_address_that_may_not_be_called_is_passed_over() {
    let bench = Bench::new().await;
    let live = url(bench.server.address);
    let instances = Instances::of(bench, &["http://169.254.169.254/mcp".to_owned(), live]);
    assert_eq!(instances.bench.stateless_call("echo", "").await.status, 200);
    assert_eq!(instances.ejections("address_refused"), 1);
}

#[tokio::test]
async fn s2_08_a_black_hole_costs_one_call_a_second_and_the_others_nothing() {
    let bench = Bench::new().await;
    let live = url(bench.server.address);
    let instances = Instances::of(bench, &[format!("http://{BLACK_HOLE}/mcp"), live]);
    let begun = std::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(instances.bench.stateless_call("echo", "").await.status, 200);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}: the connect timeout is five seconds");
    assert_eq!((instances.retries("answered"), instances.ejections("connect_timeout")), (1, 1));
}

#[tokio::test]
async fn s2_08_an_instance_that_answers_again_takes_its_part_again() {
    let bench = Bench::new().await;
    let live = url(bench.server.address);
    let instances = Instances::of(bench, &[live.clone(), live]);
    let snapshot = instances.bench.engine().catalogue.snapshot();
    let first = snapshot.instance(server_id(1), instance_id(1)).unwrap();
    let begun = first.traffic.begin();
    first.traffic.not_connected(begun, 0);
    first.traffic.end();
    assert_eq!(snapshot.ejected(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
    assert_eq!(instances.bench.stateless_call("echo", "").await.status, 200);
    assert_eq!(snapshot.ejected(), 0);
    let page = instances.bench.metrics.render();
    assert!(page.contains("portico_gateway_instance_returns_total 1"), "{page}");
}

#[tokio::test]
async fn s2_08_an_instance_that_leaves_calls_in_a_row_unanswered_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let broken = url(listener.local_addr().unwrap());
    let bench = Bench::new().await;
    let live = url(bench.server.address);
    let instances = Instances::of(bench, &[broken, live]);
    instances.bench.engine().tool_headers.set(server_id(1), HashMap::new());
    for _ in 0..5 {
        let hangs_up = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 16]).await.unwrap();
        };
        let (answer, ()) = tokio::join!(instances.bench.stateless_call("echo", ""), hangs_up);
        assert_eq!(answer.refusal().2, "upstream_lost", "it may have been carried out");
    }
    assert_eq!(instances.ejections("no_answer"), 1);
    assert_eq!(instances.bench.stateless_call("echo", "").await.status, 200);
}

/// Two instances of a server that keeps no sessions, and a session that the first of them opened.
async fn without_sessions() -> (Instances, TestServer, String) {
    let bench = Bench::new().await;
    let other = TestServer::start(&bench.tasks).await;
    bench.server.keep_no_sessions();
    other.keep_no_sessions();
    let urls = [url(bench.server.address), url(other.address)];
    let instances = Instances::of(bench, &urls);
    let session = instances.bench.initialize("2025-11-25").await;
    assert!(other.seen().is_empty());
    (instances, other, session)
}

#[tokio::test]
async fn s2_08_a_server_without_sessions_answers_at_any_instance_when_one_takes_no_connection() {
    let (instances, other, session) = without_sessions().await;
    let bench = &instances.bench;
    // It moved to where nobody listens, and nobody knows yet.
    let items = [instance(1, 1, &closed()), instance(2, 1, &url(other.address))];
    bench.catalogue([server(1, "demo"), endpoint("demo", &[1])].into_iter().chain(items).collect());
    for id in 1..3 {
        let answer = bench.in_session(&session, &call(id, "echo")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let seen = other.seen();
    assert_eq!(seen.len(), 2, "the two calls and no initialize: there is nothing to open");
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("mcp-session-id")));
    assert_eq!(instances.retries("answered"), 1, "the second goes where the first was answered");
}

#[tokio::test]
async fn s2_08_a_server_without_sessions_goes_on_when_the_instance_of_a_session_is_gone() {
    let (instances, other, session) = without_sessions().await;
    let bench = &instances.bench;
    let items = vec![server(1, "demo"), endpoint("demo", &[1]), instance(2, 1, &url(other.address))];
    bench.catalogue(items);
    let answer = bench.in_session(&session, &call(1, "echo")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(other.seen().len(), 1, "the call and no initialize");
}

#[tokio::test]
async fn s2_08_a_server_without_sessions_is_asked_where_it_was_asked_before() {
    let (instances, other, session) = without_sessions().await;
    let snapshot = instances.bench.engine().catalogue.snapshot();
    let first = snapshot.instance(server_id(1), instance_id(1)).unwrap();
    // The other one has less to do, but this one may be waiting for an answer of the agent.
    first.traffic.begin();
    first.traffic.begin();
    for id in 1..4 {
        assert_eq!(instances.bench.in_session(&session, &call(id, "echo")).await.status, 200);
    }
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn s2_08_with_every_instance_dead_the_call_fails_as_with_one() {
    let instances = Instances::at(&[closed(), closed(), closed()]).await;
    let open = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let answer = instances.bench.post(open).await;
    assert_eq!(answer.refusal(), (502, -32603, "upstream_unreachable".to_owned()));
    assert_eq!((instances.retries("failed"), instances.retries("no_instance")), (2, 1), "each once");
    assert_eq!(instances.ejections("no_connection"), 3);
    assert_eq!(instances.bench.last_audit(), ("failed".into(), "upstream_unreachable".into()));
}

#[tokio::test]
async fn s2_08_a_call_that_reached_a_server_is_never_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dying = url(listener.local_addr().unwrap());
    let bench = Bench::new().await;
    let live = url(bench.server.address);
    let instances = Instances::of(bench, &[dying, live]);
    // The tools are known, so that only the call itself goes out.
    instances.bench.engine().tool_headers.set(server_id(1), HashMap::new());
    let dies = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 16]).await.unwrap();
    };
    let (answer, ()) = tokio::join!(instances.bench.stateless_call("echo", ""), dies);
    assert_eq!(answer.refusal(), (502, -32603, "upstream_lost".to_owned()));
    assert!(instances.bench.server.seen().is_empty(), "the other instance was not called");
    assert_eq!((instances.retries("answered"), instances.ejections("no_connection")), (0, 0));
}

#[tokio::test]
async fn s2_08_without_budget_a_call_is_sent_once() {
    let bench = Bench::new().await;
    let live = url(bench.server.address);
    let instances = Instances::of(bench, &[closed(), live]);
    instances.bench.engine().tool_headers.set(server_id(1), HashMap::new());
    let snapshot = instances.bench.engine().catalogue.snapshot();
    snapshot.server(server_id(1)).unwrap().retries.close();
    let answer = instances.bench.stateless_call("echo", "").await;
    assert_eq!(answer.refusal(), (502, -32603, "upstream_unreachable".to_owned()));
    assert_eq!(instances.retries("no_budget"), 1);
    assert!(instances.bench.server.seen().is_empty());
}

#[tokio::test]
async fn s2_08_a_session_is_opened_where_a_connection_is_taken_and_stays_there() {
    let bench = Bench::new().await;
    let live = url(bench.server.address);
    let instances = Instances::of(bench, &[closed(), live.clone()]);
    let bench = &instances.bench;
    let session = bench.initialize("2025-11-25").await;
    assert_eq!(instances.retries("answered"), 1);
    assert_eq!(bench.in_session(&session, &call(1, "echo")).await.status, 200);
    // The instance that holds the session goes; another one does not know it.
    let items = [instance(1, 1, &live), instance(2, 1, &closed())];
    bench.catalogue([server(1, "demo"), endpoint("demo", &[1])].into_iter().chain(items).collect());
    let seen = bench.server.seen().len();
    let answer = bench.in_session(&session, &call(2, "echo")).await;
    assert_eq!(answer.refusal(), (502, -32603, "upstream_unreachable".to_owned()));
    assert_eq!(bench.server.seen().len(), seen, "no other instance hears of it");
    bench.initialize("2025-11-25").await;
}
