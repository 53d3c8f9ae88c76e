use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use portico_coordination::Coordination;
use portico_db::{Duty, on_db, read};
use portico_proto_registry as proto;
use portico_proto_registry::audit_sink_service_client::AuditSinkServiceClient;
use tonic::service::interceptor::InterceptedService;

use super::audit::record;
use super::fixture::*;
use crate::store::audit::Stored;
use crate::upkeep::Upkeep;

fn upkeep(fixture: &Fixture, kept: Option<TimeDelta>) -> Upkeep {
    let leases = Coordination::in_process(Arc::new(fixture.clock.clone())).leases();
    let duty = Duty::new(leases, "upkeep", "test", Duration::from_mins(1));
    Upkeep { service: Arc::clone(&fixture.registry.rpc.service), duty, audit_kept: kept }
}

async fn kept(fixture: &Fixture) -> Vec<Stored> {
    const SQL: &str = "SELECT * FROM audit ORDER BY seq";
    on_db!(&fixture.db, pool => sqlx::query(SQL).try_map(read).fetch_all(pool).await.unwrap())
}

async fn append(fixture: &Fixture, records: Vec<proto::AuditRecord>) {
    let channel = InterceptedService::new(fixture.routes.clone(), As::Service("gateway"));
    AuditSinkServiceClient::new(channel).append_audit(proto::AppendAuditRequest { records }).await.unwrap();
}

#[tokio::test]
async fn s3_64_audit_records_are_removed_when_their_days_are_over_and_not_before() {
    for (label, fixture) in Fixture::everywhere().await {
        append(&fixture, (1..=1000).map(record).collect()).await;
        append(&fixture, (1001..=1500).map(record).collect()).await;
        let ninety = upkeep(&fixture, Some(TimeDelta::days(90)));
        fixture.clock.advance(TimeDelta::days(90));
        ninety.sweep().await.unwrap();
        assert_eq!(kept(&fixture).await.len(), 1500, "{label}: the day is not over yet");
        fixture.clock.advance(TimeDelta::days(1));
        upkeep(&fixture, None).sweep().await.unwrap();
        assert_eq!(kept(&fixture).await.len(), 1500, "{label}: without a limit nothing goes");
        let mut late = record(2000);
        late.occurred_at.as_mut().unwrap().seconds += 86_400 * 2;
        append(&fixture, vec![late]).await;
        ninety.sweep().await.unwrap();
        ninety.sweep().await.unwrap();
        let kept = kept(&fixture).await;
        assert_eq!(kept.len(), 2, "{label}");
        assert_eq!(kept[0].record.id.as_uuid().as_u128(), 2000, "{label}");
        let pruned = &kept[1].record;
        assert_eq!((pruned.action.as_str(), pruned.principal.as_str()), ("audit.prune", "service:registry"));
        assert!(pruned.name.starts_with("before 2027-01-"), "{label}: {}", pruned.name);
    }
}
