//! What is revoked ends on every replica.

use std::time::{Duration, Instant};

use acceptance::api::Api;
use acceptance::deployment::Deployment;
use acceptance::mcp::Stateless;
use acceptance::oauth::Person;
use acceptance::upstream::{Era, Upstream};
use acceptance::{DEADLINE, eventually};
use portico_proto_auth as auth;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Trials that run at the same time.
const BATCH: usize = 50;
/// Within this time a revocation acts everywhere.
const LIMIT: Duration = Duration::from_secs(5);

/// Somebody who may call, and how that is ended.
struct Trial {
    /// An agent at each replica of the gateway.
    agents: Vec<Stateless>,
    end: End,
}

enum End {
    Grant(auth::DeleteGrantRequest),
    Account(auth::UpdateServiceAccountRequest),
    User(auth::UpdateUserRequest),
}

impl End {
    async fn act(self, api: &Api) {
        match self {
            Self::Grant(request) => api.grants().delete_grant(request).await.map(drop),
            Self::Account(request) => api.accounts().update_service_account(request).await.map(drop),
            Self::User(request) => api.users().update_user(request).await.map(drop),
        }
        .expect("a revocation");
    }
}

/// How many, unless a drill asks for more.
#[expect(clippy::disallowed_methods, reason = "a test's switch, read once")]
fn trials() -> usize {
    std::env::var("PORTICO_TEST_REVOCATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(12)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_ends_on_every_replica_within_5_s() {
    let deployment = Deployment::start().await;
    let upstream = Upstream::start(Era::Stateless).await;
    deployment.publish("notes", &upstream).await;
    let api = deployment.api().await;
    let mut took = Vec::new();
    for batch in 0..trials().div_ceil(BATCH) {
        let size = BATCH.min(trials() - batch * BATCH);
        let mut prepared = Vec::new();
        for number in batch * BATCH..batch * BATCH + size {
            prepared.push(prepare(&deployment, &api, number).await);
        }
        let mut running = JoinSet::new();
        for trial in prepared {
            running.spawn(revoke(trial, api.clone()));
        }
        let batch = running.join_all().await;
        let last = batch.iter().map(|(ended, _)| *ended).max().unwrap();
        tokio::time::sleep_until((last + LIMIT).into()).await;
        // Nobody comes back, at no replica.
        for (_, agents) in &batch {
            for agent in agents {
                assert!(!allowed(agent).await, "a call after its revocation was allowed");
            }
        }
        took.extend(batch.into_iter().flat_map(|(begin, agents)| agents.into_iter().map(move |_| begin)));
    }
    println!(
        "revocations: {} trials, {} agents refused everywhere within {LIMIT:?}, 0 allowed after",
        trials(),
        took.len()
    );
    deployment.stop().await;
}

/// Whether a call goes through.
async fn allowed(agent: &Stateless) -> bool {
    let answer = agent.ask("tools/call", &json!({ "name": "echo", "arguments": {} })).await;
    match answer.status.as_u16() {
        200 => true,
        401 | 403 | 404 => false,
        _ => panic!("neither allowed nor refused: {}", answer.text()),
    }
}

/// Ends it and waits until every replica refuses; answers when it was ended.
async fn revoke(trial: Trial, api: Api) -> (Instant, Vec<Stateless>) {
    let Trial { agents, end } = trial;
    end.act(&api).await;
    let begin = Instant::now();
    for agent in &agents {
        let ended = async || (!allowed(agent).await).then_some(());
        eventually(LIMIT.saturating_sub(begin.elapsed()), "a revocation acts", ended).await;
    }
    (begin, agents)
}

/// Somebody new with a grant, whom every replica of the gateway serves. Most are jobs, some are people.
async fn prepare(deployment: &Deployment, api: &Api, number: usize) -> Trial {
    let (token, end) = if number % 10 == 9 {
        person(deployment, api, number).await
    } else {
        robot(deployment, api, number).await
    };
    let mut agents = Vec::new();
    for gateway in deployment.replicas("gateway") {
        let agent = Stateless::new(&deployment.caller_at(&gateway, "notes").token(&token));
        let serves = async || allowed(&agent).await.then_some(());
        eventually(DEADLINE, "a grant acts", serves).await;
        agents.push(agent);
    }
    Trial { agents, end }
}

async fn grant(api: &Api, principal: String) -> auth::Grant {
    let request =
        auth::CreateGrantRequest { principal, role: "agent".to_owned(), endpoint: "notes".to_owned() };
    api.grants().create_grant(request).await.expect("a grant").into_inner().grant.unwrap()
}

async fn robot(deployment: &Deployment, api: &Api, number: usize) -> (String, End) {
    let request = auth::CreateServiceAccountRequest { name: format!("robot-{number}"), ..Default::default() };
    let made = api.accounts().create_service_account(request).await.expect("an account").into_inner();
    let account = made.service_account.unwrap();
    let grant = grant(api, format!("service-account:{}", account.id)).await;
    let sign_in = (account.client_id.as_str(), made.client_secret.as_str());
    let token = deployment.token_of(sign_in, &deployment.resource("notes"), "mcp").await;
    let end = if number.is_multiple_of(2) {
        End::Grant(auth::DeleteGrantRequest { id: grant.id })
    } else {
        End::Account(auth::UpdateServiceAccountRequest {
            id: account.id,
            disabled: Some(true),
            expected_revision: account.revision,
            ..Default::default()
        })
    };
    (token, end)
}

async fn person(deployment: &Deployment, api: &Api, number: usize) -> (String, End) {
    let name = format!("person-{number}");
    let created = deployment.cli(&["--json", "user", "create", &name]).await;
    assert_eq!(created.code, Some(0), "{}", created.output);
    let created: Value = serde_json::from_str(&created.output).unwrap();
    let id = created["id"].as_str().unwrap().to_owned();
    grant(api, format!("user:{id}")).await;
    let mut person = Person::new(deployment, &name, created["password"].as_str().unwrap()).await;
    let token = person.access_token(&deployment.resource("notes")).await;
    let request = auth::GetUserRequest { id: id.clone(), ..Default::default() };
    let user = api.users().get_user(request).await.expect("the user").into_inner().user.unwrap();
    let request = auth::UpdateUserRequest {
        id,
        disabled: Some(true),
        expected_revision: user.revision,
        ..Default::default()
    };
    (token, End::User(request))
}
