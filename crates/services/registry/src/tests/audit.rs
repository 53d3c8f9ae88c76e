use portico_proto_registry as proto;
use portico_proto_registry::audit_sink_service_client::AuditSinkServiceClient;
use prost_types::Timestamp;
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use uuid::Uuid;

use super::fixture::*;

pub(super) fn record(n: u128) -> proto::AuditRecord {
    proto::AuditRecord {
        id: Uuid::from_u128(n).to_string(),
        occurred_at: Some(Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        service: "registry".to_owned(),
        principal: "user:x".to_owned(),
        action: "tools/call".to_owned(),
        name: "evil\n\u{1b}[31mname".to_owned(),
        outcome: "allowed".to_owned(),
        reason: "ok".to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn s2_18_s2_24_appended_records_are_kept_once_and_can_be_tailed() {
    let mut fixture = Fixture::new().await;
    let mut sink =
        AuditSinkServiceClient::new(InterceptedService::new(fixture.routes.clone(), As::Service("gateway")));
    let records = vec![record(5), record(6)];
    let request = proto::AppendAuditRequest { records };
    assert_eq!(sink.append_audit(request.clone()).await.unwrap().into_inner().appended, 2);
    assert_eq!(sink.append_audit(request).await.unwrap().into_inner().appended, 0);

    let auditor = fixture.person(&["auditor"], READ);
    let mut auditor = fixture.clients(auditor);
    let newest = auditor
        .audit
        .list_audit(proto::ListAuditRequest { page_size: 1, ..Default::default() })
        .await
        .unwrap();
    let newest = newest.into_inner().records;
    assert_eq!(newest[0].id, record(6).id);
    assert_eq!(newest[0].service, "gateway", "who reported it is not for the record to say");
    assert_eq!(newest[0].name, "evil [31mname");

    // An older id that arrives late still comes after what a reader has seen.
    sink.append_audit(proto::AppendAuditRequest { records: vec![record(1), record(9)] }).await.unwrap();
    let mut tail = proto::ListAuditRequest { after_id: record(6).id, page_size: 1, ..Default::default() };
    let first = auditor.audit.list_audit(tail.clone()).await.unwrap().into_inner();
    assert_eq!(first.records[0].id, record(1).id);
    tail.page_token = first.next_page_token;
    let second = auditor.audit.list_audit(tail).await.unwrap().into_inner();
    assert_eq!((second.records[0].id.clone(), second.next_page_token), (record(9).id, String::new()));
    let filter = proto::ListAuditRequest { principal: "user:nobody".to_owned(), ..Default::default() };
    assert!(auditor.audit.list_audit(filter).await.unwrap().into_inner().records.is_empty());
    let unknown = proto::ListAuditRequest { after_id: record(77).id, ..Default::default() };
    refused(auditor.audit.list_audit(unknown).await, Code::InvalidArgument, "invalid_field");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_does_not_hold_up_the_others() {
    let fixture = Fixture::new().await;
    let channel = InterceptedService::new(fixture.routes.clone(), As::Service("gateway"));
    let broken = [
        proto::AuditRecord { id: "no id".to_owned(), ..record(1) },
        proto::AuditRecord { outcome: "perhaps".to_owned(), ..record(2) },
        proto::AuditRecord { occurred_at: None, ..record(3) },
        proto::AuditRecord { occurred_at: Some(Timestamp { seconds: i64::MAX, nanos: 0 }), ..record(4) },
    ];
    let records = broken.into_iter().chain([record(5)]).collect();
    let mut sink = AuditSinkServiceClient::new(channel);
    let answer = sink.append_audit(proto::AppendAuditRequest { records }).await.unwrap().into_inner();
    assert_eq!((answer.appended, answer.unreadable), (1, 4));
}

#[tokio::test]
async fn every_change_and_every_denial_is_recorded_with_who_and_why() {
    let mut fixture = Fixture::new().await;
    let mut owner = fixture.publisher();
    let reader = fixture.person(&[], READ);
    let mut reader = fixture.clients(reader);
    let server = owner.register("weather").await.server.unwrap();
    refused(
        reader.servers.register_server(registration("x")).await,
        Code::PermissionDenied,
        "insufficient_scope",
    );
    let mut admin = fixture.admin();
    let records =
        admin.audit.list_audit(proto::ListAuditRequest::default()).await.unwrap().into_inner().records;
    let told: Vec<_> =
        records.iter().map(|r| (r.action.as_str(), r.outcome.as_str(), r.reason.as_str())).collect();
    assert_eq!(
        told,
        [
            ("server.create", "allowed", "ok"),
            ("instance.create", "allowed", "ok"),
            ("endpoint.create", "allowed", "ok"),
            ("server.register", "denied", "insufficient_scope"),
        ]
    );
    assert!(
        records.iter().all(|record| !record.correlation_id.is_empty() && record.client_id == "test-client")
    );
    assert_eq!(records[0].principal, server.owner);
}
