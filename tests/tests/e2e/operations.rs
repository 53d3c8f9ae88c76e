//! What operators see and do: health, metrics, secrets, correlation, stopping.

use std::path::Path;

use acceptance::deployment::{Deployment, Plan};
use acceptance::mcp::Session;
use acceptance::upstream::{Era, Upstream};
use acceptance::{DEADLINE, eventually};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn s3_42_health_and_readiness_answer_under_both_names() {
    let deployment = Deployment::start().await;
    for (path, alias) in [("/livez", "/health"), ("/readyz", "/ready")] {
        for path in [path, alias] {
            let answer = deployment.http.get(&deployment.admin_url(path)).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        assert_eq!(
            deployment.http.get(&deployment.url(path)).await.status,
            404,
            "{path} is not for the public"
        );
    }
    let ready = deployment.http.get(&deployment.admin_url("/readyz")).await.text();
    assert!(ready.contains("catalogue") || ready.contains("trust"), "it lists its checks: {ready}");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_03_s2_05_s3_03_one_origin_leads_to_each_service_and_each_endpoint_to_its_server() {
    let deployment = Deployment::start().await;
    let upstreams = [Upstream::start(Era::Session).await, Upstream::start(Era::Session).await];
    let left = Session::open(&deployment.publish("left", &upstreams[0]).await).await;
    let right = Session::open(&deployment.publish("right", &upstreams[1]).await).await;
    upstreams.iter().for_each(Upstream::forget);
    left.call("echo", &json!({})).await;
    assert_eq!((upstreams[0].calls(), upstreams[1].calls()), (1, 0));
    right.call("echo", &json!({})).await;
    assert_eq!((upstreams[0].calls(), upstreams[1].calls()), (1, 1));
    // The authorization server, its pages, and the registry by gRPC stand at the same origin.
    let metadata =
        deployment.http.get(&deployment.url("/.well-known/oauth-authorization-server")).await.json();
    assert_eq!(metadata["issuer"], deployment.ready.origin.trim_end_matches('/'));
    assert!(deployment.http.get(&deployment.url("/login")).await.text().contains("Sign in"));
    let addresses = deployment.http.get(&deployment.url("/.well-known/portico")).await.json();
    assert_eq!(addresses["grpc"], deployment.ready.grpc.trim_end_matches('/'), "{addresses}");
    let list = portico_proto_registry::ListServersRequest::default();
    let servers = deployment.api().await.servers().list_servers(list).await.unwrap().into_inner().servers;
    assert_eq!(servers.len(), 3);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_07_the_correlation_id_goes_all_the_way_and_comes_back() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let session = Session::open(&agent).await;
    upstream.forget();
    let traced = session
        .caller
        .clone()
        .with("x-correlation-id", "my-correlation-id-1")
        .with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let answer =
        traced.post(session.request_text("tools/call", &json!({ "name": "echo", "arguments": {} }))).await;
    assert_eq!(answer.correlation(), "my-correlation-id-1");
    let seen = upstream.got("tools/call").await;
    assert_eq!(seen.headers["x-correlation-id"], "my-correlation-id-1");
    let trace = seen.headers["traceparent"].to_str().unwrap().to_owned();
    assert!(trace.contains("0af7651916cd43dd8448eb211c80319c"), "{trace}");
    let record = deployment.record("my-correlation-id-1").await;
    assert_eq!(record.trace_id, "0af7651916cd43dd8448eb211c80319c");
    // What does not look like an id is replaced, not repeated (A23).
    let made = session.caller.clone().with("x-correlation-id", "a b\"<script>").post("{}").await;
    assert!(!made.correlation().contains('<'), "{}", made.correlation());
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_36_a_secret_reaches_its_server_and_nothing_else() {
    let canary = "canary-7f3a9c51d2e84b60";
    let plan = Plan::new().child().set("telemetry.log_filter", "debug");
    let deployment = plan.start().await;
    let upstream = Upstream::start(Era::Session).await;
    let set = deployment.cli_with_input(&["secret", "set", "notes-token"], canary).await;
    assert_eq!(set.code, Some(0), "{}", set.output);
    assert!(!set.output.contains(canary));
    let register =
        ["server", "register", "notes", "--url", &upstream.url(), "--bearer-secret", "notes-token"];
    assert_eq!(deployment.cli(&register).await.code, Some(0));
    let agent = deployment.usable("notes").await;
    let session = Session::open(&agent).await;
    let result = session.call("headers", &json!({})).await;
    assert_eq!(
        result["structuredContent"]["authorization"],
        format!("Bearer {canary}"),
        "the server gets it"
    );
    let spied: Vec<(&str, String)> = vec![
        ("metrics", deployment.http.get(&deployment.admin_url("/metrics")).await.text()),
        ("logs", deployment.child().output()),
        ("audit", deployment.cli(&["--json", "audit", "tail", "-n", "500"]).await.output),
        ("servers", deployment.cli(&["--json", "server", "get", "notes"]).await.output),
        ("secrets", deployment.cli(&["--json", "secret", "list"]).await.output),
    ];
    for (place, text) in &spied {
        assert!(!text.contains(canary), "the secret stands in {place}");
        assert!(!text.is_empty(), "{place}");
    }
    let token = agent.headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
    let account = deployment.ready.client_secret.clone();
    let hidden = [canary, token.as_str(), account.as_str()];
    assert!(!spied[1].1.contains(&token), "an access token stands in the logs");
    let data = deployment.data_dir();
    let _plan = deployment.stop().await;
    for secret in &hidden[..2] {
        assert_eq!(files_with(&data, secret), Vec::<String>::new());
    }
    // The service account's secret stands in the files that are there to hand it out, and there only.
    let mut holders = files_with(&data, hidden[2]);
    holders.sort();
    assert_eq!(holders, ["dev.json", "ready.json"]);
}

fn files_with(directory: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_calls_in_flight_finish_and_takes_no_new_ones() {
    let deployment = Plan::new().child().start().await;
    let upstream = Upstream::start(Era::Session).await;
    let session = Session::open(&deployment.publish("notes", &upstream).await).await;
    let mut stream = session.call_stream("progress", &json!({})).await;
    stream.message().await.unwrap();
    deployment.child().signal("TERM");
    let address = url::Url::parse(&deployment.ready.origin).unwrap().socket_addrs(|| None).unwrap()[0];
    let closed = async || tokio::net::TcpStream::connect(address).await.is_err().then_some(());
    eventually(DEADLINE, "the door closes", closed).await;
    upstream.release();
    let (_, second) = stream.message().await.expect("the call goes on");
    assert_eq!(second["params"]["progress"], 2);
    assert_eq!(stream.message().await.unwrap().1["result"]["structuredContent"]["steps"], 2);
    let exit = deployment.child().exit().await;
    assert_eq!(exit.code, Some(0), "{}", exit.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_process_at_once() {
    let deployment = Plan::new().child().start().await;
    let upstream = Upstream::start(Era::Session).await;
    let session = Session::open(&deployment.publish("notes", &upstream).await).await;
    let mut stream = session.call_stream("endless", &json!({})).await;
    stream.message().await.unwrap();
    deployment.child().signal("TERM");
    let address = url::Url::parse(&deployment.ready.origin).unwrap().socket_addrs(|| None).unwrap()[0];
    let closed = async || tokio::net::TcpStream::connect(address).await.is_err().then_some(());
    eventually(DEADLINE, "the door closes", closed).await;
    deployment.child().signal("TERM");
    // The endless call would hold it up for the whole grace, which is longer than anybody waits here.
    let exit = deployment.child().exit().await;
    assert!(exit.code.is_some(), "it ended by itself: {}", exit.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_19_s3_16_metrics_count_calls_and_refusals_without_naming_people() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let agent = deployment.publish("notes", &upstream).await;
    let session = Session::open(&agent).await;
    let nobody = agent.without("authorization");
    let counted = async |reason: &str| {
        let series = format!("portico_gateway_calls_total{{reason=\"{reason}\"}} ");
        let metrics = deployment.gateway_metrics().await;
        assert!(metrics.ends_with("# EOF\n") && !metrics.contains("service-account:"), "{metrics}");
        metrics.lines().filter_map(|line| line.strip_prefix(&series)?.parse::<u64>().ok()).sum::<u64>()
    };
    let before = (counted("ok").await, counted("token_missing").await);
    for _ in 0..3 {
        session.call("echo", &json!({})).await;
        assert_eq!(nobody.post("{}").await.status, 401);
    }
    let after = (counted("ok").await, counted("token_missing").await);
    assert_eq!((after.0 - before.0, after.1 - before.1), (3, 3));
    deployment.stop().await;
}
