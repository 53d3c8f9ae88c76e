use portico_proto_registry as proto;
use serde_json::json;
use tonic::Code;

use super::fixture::*;
use crate::json::to_struct;

fn create(server_id: &str, name: &str, json_spec: prost_types::Struct) -> proto::CreateInstanceRequest {
    let instance = proto::Instance {
        name: name.to_owned(),
        server_id: server_id.to_owned(),
        json_spec: Some(json_spec),
        ..Default::default()
    };
    proto::CreateInstanceRequest { instance: Some(instance), request_id: String::new() }
}

#[tokio::test]
async fn s4_19_s4_21_s4_44_an_instance_is_created_read_listed_changed_and_deleted() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let server = owner.register("weather").await.server.unwrap();
    let second = owner.instances.create_instance(create(&server.id, "second", url_spec())).await.unwrap();
    let second = second.into_inner().instance.unwrap();
    refused(
        owner.instances.create_instance(create(&server.id, "second", url_spec())).await,
        Code::AlreadyExists,
        "name_taken",
    );
    let list = proto::ListInstancesRequest { server_id: server.id.clone(), ..Default::default() };
    assert_eq!(owner.instances.list_instances(list).await.unwrap().into_inner().instances.len(), 2);

    let changed = to_struct(&json!({"type": "url", "endpoint": URL, "stateless": true}));
    let request = proto::UpdateInstanceRequest {
        instance: Some(proto::Instance {
            id: second.id.clone(),
            json_spec: Some(changed.clone()),
            ..Default::default()
        }),
        update_mask: Some(mask(&["json_spec"])),
        expected_revision: second.revision,
    };
    let updated =
        owner.instances.update_instance(request.clone()).await.unwrap().into_inner().instance.unwrap();
    assert_eq!((updated.name.as_str(), updated.json_spec), ("second", Some(changed)));
    refused(owner.instances.update_instance(request).await, Code::Aborted, "stale_revision");
    let renamed = proto::UpdateInstanceRequest {
        instance: Some(proto::Instance {
            id: second.id.clone(),
            name: "third".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(mask(&["name"])),
        expected_revision: updated.revision,
    };
    let updated = owner.instances.update_instance(renamed).await.unwrap().into_inner().instance.unwrap();
    assert_eq!((updated.name.as_str(), updated.json_spec.is_some()), ("third", true));
    let delete = proto::DeleteInstanceRequest { id: second.id.clone(), expected_revision: updated.revision };
    owner.instances.delete_instance(delete.clone()).await.unwrap();
    refused(owner.instances.delete_instance(delete).await, Code::NotFound, "not_found");
}

#[tokio::test]
async fn s4_06_an_instance_has_to_fit_its_servers_env_schema() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let variable = |secret| proto::EnvEntry {
        name: "KEY".to_owned(),
        r#type: "string".to_owned(),
        required: true,
        secret,
        ..Default::default()
    };
    let server =
        proto::Server { name: "files".to_owned(), env_schema: vec![variable(true)], ..Default::default() };
    let request = proto::CreateServerRequest { server: Some(server), request_id: String::new() };
    let server = owner.servers.create_server(request).await.unwrap().into_inner().server.unwrap();

    let with = |environment: serde_json::Value| {
        to_struct(&json!({"type": "url", "endpoint": URL, "environment": environment}))
    };
    refused(
        owner.instances.create_instance(create(&server.id, "a", with(json!({})))).await,
        Code::InvalidArgument,
        "env_mismatch",
    );
    let plain =
        owner.instances.create_instance(create(&server.id, "a", with(json!({"KEY": "canary-env"})))).await;
    assert!(!format!("{plain:?}").contains("canary"));
    refused(plain, Code::InvalidArgument, "plain_secret");
    owner
        .instances
        .create_instance(create(&server.id, "a", with(json!({"KEY": "secret_ref:files:KEY"}))))
        .await
        .unwrap();

    let update = proto::UpdateServerRequest {
        server: Some(proto::Server { id: server.id.clone(), env_schema: Vec::new(), ..Default::default() }),
        update_mask: Some(mask(&["env_schema"])),
        expected_revision: server.revision,
    };
    refused(owner.servers.update_server(update).await, Code::FailedPrecondition, "instance_would_break");
}

#[tokio::test]
async fn s4_10_a_plain_token_and_another_provider_are_refused_with_reasons() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let server = owner.register("weather").await.server.unwrap();
    let plain = json!({"type": "url", "endpoint": URL, "authentication": {"type": "bearer", "token": "canary-token"}});
    let outcome = owner.instances.create_instance(create(&server.id, "a", to_struct(&plain))).await;
    assert!(!format!("{outcome:?}").contains("canary"));
    refused(outcome, Code::InvalidArgument, "plain_secret");
    let docker = to_struct(&json!({"type": "docker", "image": "mcp/filesystem", "port": 8000}));
    refused(
        owner.instances.create_instance(create(&server.id, "a", docker)).await,
        Code::FailedPrecondition,
        "provider_unavailable",
    );
}
