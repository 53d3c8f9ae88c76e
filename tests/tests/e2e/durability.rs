//! What was acknowledged survives; what runs on its own memory survives the loss of the others.

use std::collections::BTreeSet;

use acceptance::deployment::{Deployment, Own, Plan};
use acceptance::mcp::{Caller, Session, Stateless};
use acceptance::oauth::Person;
use acceptance::upstream::{Era, Upstream};
use acceptance::{DEADLINE, eventually};
use portico_proto_registry::ListAuditRequest;
use serde_json::{Value, json};

use crate::expect::refused;

#[tokio::test(flavor = "multi_thread")]
async fn kill_and_restart_keep_everything_durable_and_no_audit_record_is_missing() {
    let deployment = Plan::new().child().start().await;
    let (old, new) = (Upstream::start(Era::Session).await, Upstream::start(Era::Stateless).await);
    let set = deployment.cli_with_input(&["secret", "set", "notes-token"], "s3cr3t-value").await;
    assert_eq!(set.code, Some(0), "{}", set.output);
    let register = ["server", "register", "old", "--url", &old.url(), "--bearer-secret", "notes-token"];
    assert_eq!(deployment.cli(&register).await.code, Some(0));
    let session = Session::open(&deployment.usable("old").await).await;
    let agent = Stateless::new(&deployment.publish("new", &new).await);
    let person = deployment.cli(&["--json", "user", "create", "ada"]).await;
    let person: Value = serde_json::from_str(&person.output).unwrap();
    let principal = format!("user:{}", person["id"].as_str().unwrap());
    assert_eq!(deployment.cli(&["grant", &principal, "agent", "old"]).await.code, Some(0));
    let mut correlations = BTreeSet::new();
    for n in 0..50 {
        let answer = agent.ask("tools/call", &json!({ "name": "echo", "arguments": { "n": n } })).await;
        assert_eq!(answer.status, 200);
        correlations.insert(answer.correlation());
    }
    let before = deployment.ready.clone();
    let deployment = deployment.kill().await.start().await;
    assert_eq!(deployment.ready.client_secret, before.client_secret);
    assert_eq!(deployment.ready.admin_password, before.admin_password);
    // Every call that was answered is in the record.
    let api = deployment.api().await;
    let missing = async || {
        let request =
            ListAuditRequest { page_size: 500, action: "tools/call".to_owned(), ..Default::default() };
        let records = api.audit().list_audit(request).await.unwrap().into_inner().records;
        let found: BTreeSet<_> = records.into_iter().map(|record| record.correlation_id).collect();
        correlations.is_subset(&found).then_some(())
    };
    eventually(DEADLINE, "every record", missing).await;
    // Servers, secrets, grants and people are there; the port has changed, so agents sign in anew.
    let agent = deployment.usable("old").await;
    let session_id = session.id();
    let again = Session::open(&agent).await;
    again.call("echo", &json!({})).await;
    let seen = old.got("tools/call").await;
    assert_eq!(seen.headers["authorization"], "Bearer s3cr3t-value");
    let mut ada = Person::new(&deployment, "ada", person["password"].as_str().unwrap()).await;
    let token = ada.access_token(&deployment.resource("old")).await;
    let caller = Caller::new(deployment.http.clone(), deployment.resource("old"), &token);
    Session::open(&caller).await.call("echo", &json!({})).await;
    // Sessions are not: agents initialise anew.
    let forgotten =
        agent.with("mcp-session-id", &session_id).post(again.request_text("ping", &json!({}))).await;
    refused(&forgotten, (404, -32600, "unknown_session"));
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_demo_server_deleted_by_its_owner_deleted() {
    let deployment = Plan::new().own(Own::Restart).start().await;
    assert_eq!(deployment.cli(&["server", "delete", "demo"]).await.code, Some(0));
    let deployment = deployment.stop().await.start().await;
    let list = deployment.cli(&["--json", "server", "list"]).await;
    assert!(!list.output.contains("\"demo\""), "{}", list.output);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_18_s2_24_changes_and_calls_are_in_the_record() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Session).await;
    let session = Session::open(&deployment.publish("notes", &upstream).await).await;
    let answer = session.ask("tools/call", &json!({ "name": "echo", "arguments": {} })).await;
    let record = deployment.record(&answer.correlation()).await;
    assert_eq!(
        (record.action.as_str(), record.name.as_str(), record.target.as_str(), record.outcome.as_str()),
        ("tools/call", "echo", "endpoint:notes", "allowed")
    );
    assert!(record.principal.starts_with("service-account:") && record.request_bytes > 0, "{record:?}");
    let tail = deployment.cli(&["--json", "audit", "tail", "-n", "100"]).await;
    assert_eq!(tail.code, Some(0), "{}", tail.output);
    for part in ["server.create", &answer.correlation()] {
        assert!(tail.output.contains(part), "{part} is not in {}", tail.output);
    }
    deployment.stop().await;
}
