use std::io;
use std::sync::{Arc, Mutex};

use portico_db::on_db;
use portico_proto_registry as proto;
use portico_proto_registry::catalogue_service_client::CatalogueServiceClient;
use prost::Message as _;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;

use super::fixture::*;

const CANARY: &str = "canary-4711-do-not-leak";

fn set(reference: &str, value: &str) -> proto::SetSecretRequest {
    proto::SetSecretRequest { r#ref: reference.to_owned(), value: value.as_bytes().to_vec() }
}

fn resolve(reference: &str, instance: &proto::Instance) -> proto::ResolveSecretsRequest {
    proto::ResolveSecretsRequest {
        refs: vec![reference.to_owned()],
        purpose: format!("instance/{}", instance.id),
        spec_revision: 0,
    }
}

async fn register_with(
    owner: &mut Clients,
    name: &str,
    reference: &str,
) -> Result<proto::Instance, tonic::Status> {
    let request =
        proto::RegisterServerRequest { json_spec: Some(bearer_spec(reference)), ..registration(name) };
    Ok(owner.servers.register_server(request).await?.into_inner().instance.unwrap())
}

#[tokio::test]
async fn s4_04_nothing_is_resolved_for_a_spec_that_is_not_the_newest() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let mut worker = fixture.clients(As::Service("worker"));
    let instance = register_with(&mut owner, "github", "github-token").await.unwrap();
    owner.secrets.set_secret(set("github-token", CANARY)).await.unwrap();
    let at =
        |spec_revision| proto::ResolveSecretsRequest { spec_revision, ..resolve("github-token", &instance) };
    // Setting the secret did not change the spec.
    let found = worker.resolver.resolve_secrets(at(instance.revision)).await.unwrap().into_inner();
    assert_eq!(found.secrets.len(), 1);
    for other in [instance.revision + 1, 1_000_000_000, -1] {
        let outcome = worker.resolver.resolve_secrets(at(other)).await;
        refused(outcome, Code::FailedPrecondition, "spec_superseded");
    }
}

#[tokio::test]
async fn a_secret_is_resolved_for_the_instance_that_refers_to_it_and_for_no_other() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let mut gateway = fixture.clients(As::Service("gateway"));
    let instance = register_with(&mut owner, "github", "github-token").await.unwrap();
    let other = owner.register("other").await.instance.unwrap();

    let none =
        gateway.resolver.resolve_secrets(resolve("github-token", &instance)).await.unwrap().into_inner();
    assert_eq!((none.secrets.len(), none.missing), (0, vec!["github-token".to_owned()]));
    let first = owner
        .secrets
        .set_secret(set("secret_ref:github-token", CANARY))
        .await
        .unwrap()
        .into_inner()
        .secret
        .unwrap();
    assert_eq!((first.r#ref.as_str(), first.version), ("github-token", 1));
    let found =
        gateway.resolver.resolve_secrets(resolve("github-token", &instance)).await.unwrap().into_inner();
    assert_eq!((found.secrets[0].value.as_slice(), found.secrets[0].version), (CANARY.as_bytes(), 1));
    let none = gateway.resolver.resolve_secrets(resolve("github-token", &other)).await.unwrap().into_inner();
    assert_eq!((none.secrets.len(), none.missing.len()), (0, 1));

    let second =
        owner.secrets.set_secret(set("github-token", "new")).await.unwrap().into_inner().secret.unwrap();
    assert_eq!((second.version, second.created_at), (2, first.created_at));
    owner
        .secrets
        .delete_secret(proto::DeleteSecretRequest { r#ref: "github-token".to_owned() })
        .await
        .unwrap();
    let none =
        gateway.resolver.resolve_secrets(resolve("github-token", &instance)).await.unwrap().into_inner();
    assert_eq!(none.missing.len(), 1);
    assert!(
        owner
            .secrets
            .list_secrets(proto::ListSecretsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .secrets
            .is_empty()
    );
}

#[tokio::test]
async fn nobody_gets_anothers_secret_by_pointing_an_instance_at_it_before_or_after() {
    let mut fixture = Fixture::new().await;
    let (mut owner, mut thief) = (fixture.publisher(), fixture.publisher());
    owner.secrets.set_secret(set("mine", CANARY)).await.unwrap();
    refused(register_with(&mut thief, "after", "mine").await, Code::PermissionDenied, "secret_not_yours");
    refused(thief.secrets.set_secret(set("mine", "x")).await, Code::PermissionDenied, "no_permission");
    let delete = proto::DeleteSecretRequest { r#ref: "mine".to_owned() };
    refused(thief.secrets.delete_secret(delete).await, Code::NotFound, "not_found");
    register_with(&mut thief, "before", "later").await.unwrap();
    refused(owner.secrets.set_secret(set("later", CANARY)).await, Code::PermissionDenied, "secret_claimed");
}

#[tokio::test]
async fn a_secret_has_between_one_byte_and_sixty_four_kilobytes() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    refused(owner.secrets.set_secret(set("a", "")).await, Code::InvalidArgument, "invalid_field");
    let large = "x".repeat(64 * 1024 + 1);
    refused(owner.secrets.set_secret(set("a", &large)).await, Code::InvalidArgument, "invalid_field");
    refused(owner.secrets.set_secret(set("no spaces", "x")).await, Code::InvalidArgument, "invalid_field");
}

async fn all_events(fixture: &Fixture) -> Vec<u8> {
    let consumer = fixture.events.subscribe(portico_proto_events::TOPIC, "test", "test").await.unwrap();
    let mut bytes = Vec::new();
    while let Ok(Ok(delivery)) =
        tokio::time::timeout(std::time::Duration::from_millis(300), consumer.next()).await
    {
        bytes.extend_from_slice(&fixture.opened(&delivery));
        consumer.ack(delivery.id).await.unwrap();
    }
    bytes
}

/// Everything that is logged on this thread, at every level.
#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn s4_12_no_answer_log_event_catalogue_item_audit_row_or_table_holds_a_secrets_value() {
    let logs = Logs::default();
    let writer = logs.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    fixture.registry.spawn_tasks(&fixture.tasks);
    let mut seen = Vec::new();
    let plain = crate::json::to_struct(&serde_json::json!({
        "type": "url", "endpoint": URL, "authentication": {"type": "bearer", "token": CANARY},
    }));
    let plain = proto::RegisterServerRequest { json_spec: Some(plain), ..registration("plain") };
    let refusal = owner.servers.register_server(plain).await.unwrap_err();
    seen.extend(format!("{refusal:?}").into_bytes());
    let nameless = owner.secrets.set_secret(set(&format!("{CANARY} as the name"), "x")).await.unwrap_err();
    seen.extend(format!("{nameless:?}").into_bytes());
    seen.extend(
        owner.secrets.set_secret(set("github-token", CANARY)).await.unwrap().into_inner().encode_to_vec(),
    );
    let instance = register_with(&mut owner, "github", "github-token").await.unwrap();
    seen.extend(instance.encode_to_vec());
    let mut gateway = fixture.clients(As::Service("gateway"));
    gateway.resolver.resolve_secrets(resolve("github-token", &instance)).await.unwrap();
    seen.extend(
        owner
            .secrets
            .list_secrets(proto::ListSecretsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .encode_to_vec(),
    );
    let mut admin = fixture.admin();
    let audit = admin.audit.list_audit(proto::ListAuditRequest::default()).await.unwrap().into_inner();
    assert!(
        audit
            .records
            .iter()
            .any(|record| record.action == "secret.resolve" && record.principal == "service:gateway")
    );
    seen.extend(audit.encode_to_vec());
    let channel = InterceptedService::new(fixture.routes.clone(), As::Service("gateway"));
    let mut watch = CatalogueServiceClient::new(channel);
    let mut frames =
        watch.watch_catalogue(proto::WatchCatalogueRequest::default()).await.unwrap().into_inner();
    while let Some(frame) = frames.message().await.unwrap() {
        seen.extend(frame.encode_to_vec());
        if matches!(frame.frame, Some(proto::watch_catalogue_response::Frame::End(_))) {
            break;
        }
    }
    let events = all_events(&fixture).await;
    assert!(!events.is_empty());
    seen.extend(events);
    seen.extend(fixture.metrics.render().into_bytes());
    let logged = logs.0.lock().unwrap().clone();
    assert!(String::from_utf8_lossy(&logged).contains("registry call refused"), "logs are captured");
    seen.extend(logged);
    let sealed: Vec<Vec<u8>> = on_db!(&fixture.db, pool => {
        sqlx::query("SELECT sealed FROM secrets").try_map(portico_db::scalar).fetch_all(pool).await.unwrap()
    });
    seen.extend(sealed.concat());
    assert!(
        String::from_utf8_lossy(&seen).contains("github-token"),
        "the reference is there, so the search works"
    );
    assert!(!seen.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
    fixture.stop().await;
}
