//! A service owner publishes a server; agents reach it at once, and not a moment longer than it is there.

use std::time::Duration;

use acceptance::deployment::{Deployment, register_request, url_spec};
use acceptance::mcp::{Session, Stateless};
use acceptance::upstream::{Era, Mood, Upstream};
use acceptance::{DEADLINE, eventually};
use portico_proto_registry as registry;
use portico_transport::reason_of;
use serde_json::json;
use tonic::Code;

/// Within this time a change of what is registered acts.
const LIMIT: Duration = Duration::from_secs(2);

async fn gone(deployment: &Deployment, name: &str) {
    for gateway in deployment.replicas("gateway") {
        let caller = deployment.caller_at(&gateway, name);
        let gone = async || {
            let answer = caller.post("{}").await;
            (answer.status == 404).then_some(answer)
        };
        let answer = eventually(LIMIT, "a deleted endpoint is 404", gone).await;
        assert_eq!(answer.json()["error"]["data"]["reason"], "unknown_endpoint");
    }
    let metadata = deployment.url(&format!("/.well-known/oauth-protected-resource/{name}/mcp"));
    assert_eq!(deployment.http.get(&metadata).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_04_a_server_registered_by_the_command_line_is_usable_and_after_deletion_404_within_2_s() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let register = deployment.cli(&["server", "register", "notes", "--url", &upstream.url()]).await;
    assert_eq!(register.code, Some(0), "{}", register.output);
    assert!(register.output.contains(&deployment.resource("notes")), "{}", register.output);
    let agent = deployment.usable_within(LIMIT, "notes").await;
    let result = Session::open(&agent).await.call("echo", &json!({ "a": 1 })).await;
    assert_eq!(result["structuredContent"], json!({ "a": 1 }));
    let listed = deployment.cli(&["--json", "server", "list"]).await;
    assert!(listed.output.contains("\"notes\""), "{}", listed.output);
    let delete = deployment.cli(&["server", "delete", "notes"]).await;
    assert_eq!(delete.code, Some(0), "{}", delete.output);
    gone(&deployment, "notes").await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_09_a_server_registered_by_grpc_is_usable_and_after_deletion_404_within_2_s() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Stateless).await;
    let api = deployment.api().await;
    let request = register_request("notes", &upstream.url());
    let answer = api.servers().register_server(request).await.unwrap().into_inner();
    let (server, endpoint) = (answer.server.unwrap(), answer.endpoint.unwrap());
    assert_eq!(endpoint.url, deployment.resource("notes"));
    let agent = deployment.usable_within(LIMIT, "notes").await;
    let result = Stateless::new(&agent).call("echo", &json!({ "a": 1 })).await;
    assert_eq!(result["structuredContent"], json!({ "a": 1 }));
    let stale =
        registry::DeleteServerRequest { id: server.id.clone(), expected_revision: server.revision + 1000 };
    assert_eq!(api.servers().delete_server(stale).await.unwrap_err().code(), Code::Aborted);
    let delete = registry::DeleteServerRequest { id: server.id, expected_revision: server.revision };
    api.servers().delete_server(delete).await.unwrap();
    gone(&deployment, "notes").await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_44_servers_and_instances_are_created_read_changed_and_deleted_over_the_api() {
    let deployment = Deployment::start().await;
    let (first, second) = (Upstream::start(Era::Session).await, Upstream::start(Era::Session).await);
    let agent = deployment.publish("notes", &first).await;
    let api = deployment.api().await;
    let get = registry::GetServerRequest { name: "notes".to_owned(), ..Default::default() };
    let server = api.servers().get_server(get).await.unwrap().into_inner().server.unwrap();
    let list = registry::ListInstancesRequest { server_id: server.id.clone(), ..Default::default() };
    let instance = api.instances().list_instances(list).await.unwrap().into_inner().instances.remove(0);
    // The address changes: the next session goes to the new one.
    let moved = registry::Instance { json_spec: Some(url_spec(&second.url())), ..instance.clone() };
    let update = registry::UpdateInstanceRequest {
        instance: Some(moved),
        update_mask: Some(prost_types::FieldMask { paths: vec!["json_spec".to_owned()] }),
        expected_revision: instance.revision,
    };
    api.instances().update_instance(update).await.unwrap();
    let reaches = async || {
        Session::open(&agent).await.call("echo", &json!({})).await;
        (second.calls() > 0).then_some(())
    };
    eventually(DEADLINE, "the new address is called", reaches).await;
    // Out of service, and back.
    for (verb, status) in [("--disable", false), ("--enable", true)] {
        let update = deployment.cli(&["server", "update", "notes", verb]).await;
        assert_eq!(update.code, Some(0), "{}", update.output);
        let open = acceptance::mcp::initialize("2025-11-25", &json!({}));
        let acts = async || ((agent.post(open.clone()).await.status == 200) == status).then_some(());
        eventually(DEADLINE, verb, acts).await;
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_05_s1_07_s4_27_s4_30_the_worker_finds_tools_and_reports_health() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    deployment.publish("notes", &upstream).await;
    let api = deployment.api().await;
    let get = registry::GetServerRequest { name: "notes".to_owned(), ..Default::default() };
    let server = api.servers().get_server(get).await.unwrap().into_inner().server.unwrap();
    let found = async || {
        let list = registry::ListCapabilitiesRequest {
            server_id: server.id.clone(),
            page_size: 100,
            kind: registry::CapabilityKind::Tool.into(),
            ..Default::default()
        };
        let found = api.discovery().list_capabilities(list).await.unwrap().into_inner().capabilities;
        (found.len() >= 13).then_some(found)
    };
    let tools = eventually(DEADLINE, "all tools of all pages", found).await;
    assert!(tools.iter().any(|tool| tool.name == "echo" && tool.definition_json.contains("inputSchema")));
    let healthy = async || {
        let list = registry::ListInstancesRequest { server_id: server.id.clone(), ..Default::default() };
        let instances = api.instances().list_instances(list).await.unwrap().into_inner().instances;
        (instances[0].status() == registry::InstanceStatus::Healthy).then(|| instances[0].clone())
    };
    let instance = eventually(DEADLINE, "a healthy instance", healthy).await;
    assert!(instance.checked_at.is_some(), "{instance:?}");
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_10_the_api_answers_while_the_worker_waits_for_a_server_that_never_answers() {
    let deployment = Deployment::start().await;
    let (mute, well) = (Upstream::start(Era::Session).await, Upstream::start(Era::Session).await);
    mute.mood(Mood::Mute);
    deployment.register("mute", &mute.url()).await;
    let asked = async || (!mute.seen().is_empty()).then_some(());
    eventually(DEADLINE, "the worker asks", asked).await;
    // Its question stands for as long as it has time; nothing else waits for it.
    let agent = deployment.publish("well", &well).await;
    Session::open(&agent).await.call("echo", &json!({})).await;
    let api = deployment.api().await;
    let get = registry::GetServerRequest { name: "well".to_owned(), ..Default::default() };
    let server_id = api.servers().get_server(get).await.unwrap().into_inner().server.unwrap().id;
    let healthy = async || {
        let list = registry::ListInstancesRequest { server_id: server_id.clone(), ..Default::default() };
        let instances = api.instances().list_instances(list).await.unwrap().into_inner().instances;
        (instances[0].status() == registry::InstanceStatus::Healthy).then_some(())
    };
    eventually(DEADLINE, "the other server is looked at", healthy).await;
    deployment.stop().await;
}

/// The refusal of an RPC stands in the record.
async fn recorded(deployment: &Deployment, refused: &tonic::Status, reason: &str) {
    let correlation = refused.metadata().get("x-correlation-id").expect("a correlation id").to_str().unwrap();
    let record = deployment.record(correlation).await;
    assert_eq!((record.outcome.as_str(), record.reason.as_str()), ("denied", reason), "{record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_outside_the_slug_rule_and_reserved_ones_are_refused() {
    let deployment = Deployment::start().await;
    let api = deployment.api().await;
    let long = "a".repeat(64);
    let names =
        ["", "Upper", "-dash", "a_b", "a/b", "../etc", "a b", "ä", "mcp", "oauth2", "api", "console", &long];
    for name in names {
        let request = register_request(name, "http://127.0.0.1:9/mcp");
        let refused = api.servers().register_server(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name:?}: {refused:?}");
        assert!(refused.message().len() > 10, "{refused:?}");
        recorded(&deployment, &refused, "invalid_name").await;
    }
    let by_cli = deployment.cli(&["server", "register", "Upper", "--url", "http://127.0.0.1:9/mcp"]).await;
    assert_eq!(by_cli.code, Some(1));
    assert!(by_cli.output.contains("lower-case"), "it says which characters may stand: {}", by_cli.output);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_addresses_that_policy_forbids_are_refused_at_registration() {
    let deployment = Deployment::start().await;
    let api = deployment.api().await;
    let own = deployment.own_addresses();
    let foreign = [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/mcp",
        "http://[::ffff:169.254.169.254]/mcp",
        "http://0xa9fea9fe/mcp",
        "http://2852039166/mcp",
        "http://224.0.0.1/mcp",
        "http://metadata.google.internal/mcp",
        "http://0.0.0.0/mcp",
        "ftp://example.org/mcp",
        "file:///etc/passwd",
        "http://user:pw@example.org/mcp",
    ];
    for url in foreign.iter().map(|url| (*url).to_owned()).chain(own) {
        let refused = api.servers().register_server(register_request("fetched", &url)).await;
        let Err(refused) = refused else { panic!("{url} was registered") };
        assert_eq!(refused.code(), Code::InvalidArgument, "{url}: {refused:?}");
        assert!(refused.message().len() > 10, "{url}: {refused:?}");
        if reason_of(&refused).is_some_and(|reason| reason.starts_with("address_")) {
            recorded(&deployment, &refused, &reason_of(&refused).unwrap()).await;
        }
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s4_51_a_url_server_without_an_image_and_with_an_empty_schema_works() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let request = register_request("url-server", &upstream.url());
    assert!(request.env_schema.is_empty() && request.docker_image_url.is_empty());
    let api = deployment.api().await;
    let answer = api.servers().register_server(request).await.unwrap().into_inner();
    assert_eq!(answer.server.unwrap().docker_image_url, "");
    let agent = deployment.usable("url-server").await;
    Session::open(&agent).await.call("echo", &json!({})).await;
    deployment.stop().await;
}
