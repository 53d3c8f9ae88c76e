//! One principal that floods the management plane costs nobody else anything, and fills no table.

use std::time::Duration;

use acceptance::api::Api;
use acceptance::deployment::{Deployment, Own, Plan};
use portico_proto_auth as auth;
use portico_proto_registry as registry;
use portico_transport::{reason_of, retry_after_of};
use serde_json::Value;
use tonic::{Code, Status};

/// How many calls the flood has at each service.
const FLOOD: usize = 500;
/// How many of them pass at once.
const BURST: u64 = 200;

#[derive(Debug, Clone, Copy)]
enum Service {
    Registry,
    Auth,
}

impl Service {
    /// Looks at the audit; answers the names of the records of such looks.
    async fn look(self, api: &Api) -> Result<Vec<String>, Status> {
        let (action, page_size) = ("audit.read".to_owned(), 200);
        match self {
            Self::Registry => {
                let request = registry::ListAuditRequest { action, page_size, ..Default::default() };
                let records = api.audit().list_audit(request).await?.into_inner().records;
                Ok(records.into_iter().map(|record| record.name).collect())
            }
            Self::Auth => {
                let request = auth::ListAuditRequest { action, page_size, ..Default::default() };
                let records = api.auth_audit().list_audit(request).await?.into_inner().records;
                Ok(records.into_iter().map(|record| record.name).collect())
            }
        }
    }
}

/// An account that may look at nothing.
async fn nobody_special(deployment: &Deployment) -> Api {
    let created = deployment.cli(&["--json", "service-account", "create", "mallory"]).await;
    let created: Value = serde_json::from_str(&created.output).unwrap();
    let account = (created["client_id"].as_str().unwrap(), created["client_secret"].as_str().unwrap());
    let token = deployment.token_of(account, &deployment.url("/api"), "registry:read").await;
    Api::connect(&deployment.ready.grpc, Some(&token)).await
}

/// Answers how many looks were denied; the others came too often.
async fn flood(service: Service, mallory: &Api, admin: &Api) -> u64 {
    let (mut denied, mut limited) = (0, 0);
    for number in 0..FLOOD {
        let refused = service.look(mallory).await.unwrap_err();
        match refused.code() {
            Code::PermissionDenied => denied += 1,
            Code::ResourceExhausted => {
                assert_eq!(reason_of(&refused).as_deref(), Some("rate_limited"));
                let wait = retry_after_of(&refused).expect("when to come back");
                assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
                assert!(refused.message().contains("try again in 1 s"), "{refused:?}");
                limited += 1;
            }
            _ => panic!("{service:?}: {refused:?}"),
        }
        if number % 100 == 99 {
            service.look(admin).await.expect("others are served");
        }
    }
    assert!(denied >= BURST, "{service:?}: {denied} calls passed");
    assert!(limited > 0, "{service:?}: all {denied} calls passed");
    denied
}

/// How many denials a record stands for.
fn told(name: &str) -> u64 {
    if name.is_empty() {
        return 1;
    }
    let more = name.strip_prefix("and ").and_then(|rest| rest.strip_suffix(" more like this"));
    1 + more.unwrap_or_else(|| panic!("{name}")).parse::<u64>().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_denied_calls_is_refused_and_leaves_few_records_that_add_up() {
    let mut plan = Plan::new().own(Own::Limits);
    for service in ["registry", "auth_server"] {
        for (limit, value) in
            [("principal_per_minute", "60"), ("principal_burst", "200"), ("denial_records_per_minute", "10")]
        {
            plan = plan.set(&format!("{service}.limits.{limit}"), value);
        }
    }
    let deployment = plan.start().await;
    let mallory = nobody_special(&deployment).await;
    let admin = deployment.api().await;
    let mut denied = Vec::new();
    for service in [Service::Registry, Service::Auth] {
        denied.push((service, flood(service, &mallory, &admin).await));
    }
    let metrics = deployment.http.get(&deployment.admin_url("/metrics")).await.text();
    for name in ["portico_registry_calls_limited_total", "portico_auth_calls_limited_total"] {
        let counted = metrics.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        assert_ne!(counted.trim(), "0", "{name}");
    }

    // What was only counted so far is written when the process ends.
    let deployment = deployment.stop().await.start().await;
    let admin = deployment.api().await;
    for (service, denied) in denied {
        let records = service.look(&admin).await.unwrap();
        assert!(records.len() <= 30, "{service:?}: {} records of {denied} denials", records.len());
        assert_eq!(records.iter().map(|name| told(name)).sum::<u64>(), denied, "{service:?}: {records:?}");
    }
    deployment.stop().await;
}
