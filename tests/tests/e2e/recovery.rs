//! What operators do to lose nothing: backups that restore, keys that are rotated under load.

use std::time::Duration;

use acceptance::deployment::{Deployment, Exit, Own, Plan, command};
use acceptance::mcp::{Caller, Session, Stateless};
use acceptance::oauth::Person;
use acceptance::upstream::{Era, Upstream};
use acceptance::{DEADLINE, eventually};
use serde_json::{Value, json};

fn done(exit: &Exit) -> &str {
    assert_eq!(exit.code, Some(0), "{}", exit.output);
    &exit.output
}

/// A server that needs a secret, and a person who may call it; answers the person's password.
async fn furnish(deployment: &Deployment, upstream: &Upstream) -> String {
    done(&deployment.cli_with_input(&["secret", "set", "notes-token"], "s3cr3t-value").await);
    let register =
        ["server", "register", "notes", "--url", &upstream.url(), "--bearer-secret", "notes-token"];
    done(&deployment.cli(&register).await);
    let person = deployment.cli(&["--json", "user", "create", "ada"]).await;
    let person: Value = serde_json::from_str(done(&person)).unwrap();
    let principal = format!("user:{}", person["id"].as_str().unwrap());
    done(&deployment.cli(&["grant", &principal, "agent", "notes"]).await);
    person["password"].as_str().unwrap().to_owned()
}

/// Calls the server with the person's own token, and looks which credential it got.
async fn assert_works(deployment: &Deployment, upstream: &Upstream, password: &str) {
    deployment.usable("notes").await;
    let mut ada = Person::new(deployment, "ada", password).await;
    let token = ada.access_token(&deployment.resource("notes")).await;
    let caller = Caller::new(deployment.http.clone(), deployment.resource("notes"), &token);
    upstream.forget();
    Session::open(&caller).await.call("echo", &json!({})).await;
    assert_eq!(upstream.got("tools/call").await.headers["authorization"], "Bearer s3cr3t-value");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_losing_everything_a_backup_and_the_key_ring_bring_it_back() {
    let upstream = Upstream::start(Era::Session).await;
    let deployment = Plan::new().child().start().await;
    let password = furnish(&deployment, &upstream).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (backup, ring) = (elsewhere.path().join("one.backup"), elsewhere.path().join("keys.json"));
    let (backup, ring) = (backup.display().to_string(), ring.display().to_string());
    let data_dir = deployment.data_dir().display().to_string();
    std::fs::copy(deployment.data_dir().join("keys.json"), &ring).unwrap();
    // While it runs.
    done(&command(&["backup", "--data-dir", &data_dir, "--out", &backup], "").await);
    let before = deployment.ready.clone();

    let plan = deployment.kill().await;
    std::fs::remove_dir_all(plan.data_dir()).unwrap();
    let restore = ["restore", "--from", &backup, "--data-dir", &data_dir, "--keys", &ring];
    done(&command(&restore, "").await);
    let deployment = plan.start().await;
    assert_eq!(deployment.ready.admin_password, before.admin_password);
    assert_eq!(deployment.ready.client_secret, before.client_secret);
    assert_works(&deployment, &upstream, &password).await;
    let record = deployment.cli(&["--json", "audit", "tail"]).await;
    assert!(done(&record).contains("backup.restore"), "{}", record.output);
    // While it runs, nothing is restored over it.
    let mut again = restore.to_vec();
    again.push("--force");
    let refused = command(&again, "").await;
    assert_eq!(refused.code, Some(1), "{}", refused.output);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_29_rotating_the_key_ring_under_load_fails_no_call_and_loses_nothing() {
    let upstream = Upstream::start(Era::Session).await;
    let deployment = Plan::new().own(Own::Restart).start().await;
    let password = furnish(&deployment, &upstream).await;
    let session = Session::open(&deployment.usable("notes").await).await;
    let ring = deployment.data_dir().join("keys.json").display().to_string();
    let rotate = ["--json", "keys", "rotate", "--sealing", "--file", &ring, "--settle", "6"];
    let calling = async {
        loop {
            session.call("echo", &json!({})).await;
            // Below the rate that one principal may have.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let rotated = tokio::select! {
        rotated = deployment.cli(&rotate) => rotated,
        () = calling => unreachable!("it calls for as long as it is let"),
    };
    let report = done(&rotated);
    assert!(report.contains("\"service\": \"registry\""), "{report}");
    let closed = deployment.cli(&["--json", "audit", "tail", "--action", "key.close"]).await;
    assert_eq!(done(&closed).matches("\"key.close\"").count(), 2, "in each database: {}", closed.output);

    let young = deployment.cli(&["keys", "prune", "--file", &ring]).await;
    assert!(done(&young).contains("sealed less than 720 h ago"), "{}", young.output);
    let pruned = deployment.cli(&["keys", "prune", "--file", &ring, "--keep", "0"]).await;
    assert!(done(&pruned).contains("removed"), "{}", pruned.output);
    let known = async || {
        let list = deployment.cli(&["--json", "keys", "list"]).await;
        let keys: Vec<Value> = serde_json::from_str(&list.output).unwrap();
        let opens = keys.iter().filter(|key| key["state"] == "opens" || key["state"] == "lost");
        (opens.count() == 0).then_some(())
    };
    eventually(DEADLINE, "the key that was removed is forgotten", known).await;
    assert_works(&deployment, &upstream, &password).await;
    // Also what is on disk opens: nothing needs the key that is gone.
    let deployment = deployment.stop().await.start().await;
    assert_works(&deployment, &upstream, &password).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_29_a_rotated_signing_key_signs_after_every_verifier_knows_it() {
    let upstream = Upstream::start(Era::Stateless).await;
    let deployment = Plan::new().own(Own::Restart).start().await;
    let agent = Stateless::new(&deployment.publish("notes", &upstream).await);
    let rotated = deployment.cli(&["--json", "keys", "rotate", "--signing"]).await;
    let rotated: Value = serde_json::from_str(done(&rotated)).unwrap();
    assert_eq!(rotated["active"], false, "published first");
    let published = deployment.http.get(&deployment.url("/oauth2/jwks")).await.json();
    let keys: Vec<&Value> = published["keys"].as_array().unwrap().iter().map(|key| &key["kid"]).collect();
    assert!(keys.len() == 2 && keys.contains(&&rotated["kid"]), "{published}");
    let answer = agent.ask("tools/call", &json!({ "name": "echo", "arguments": {} })).await;
    assert_eq!(answer.status, 200, "a token of the key before still counts");
    deployment.stop().await;
}
