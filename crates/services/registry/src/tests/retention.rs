use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use portico_clock::{Clock as _, SystemClock};
use portico_coordination::Coordination;
use portico_db::testing::raw;
use portico_db::{Duty, on_db, read};
use portico_proto_registry as proto;
use portico_proto_registry::audit_sink_service_client::AuditSinkServiceClient;
use tonic::service::interceptor::InterceptedService;

use super::audit::record;
use super::fixture::*;
use crate::service::events::timestamp;
use crate::store::audit::{self, Stored};
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

/// A record from so long before now.
fn aged(n: u128, now: DateTime<Utc>, age: TimeDelta) -> proto::AuditRecord {
    proto::AuditRecord { occurred_at: Some(timestamp(now - age)), ..record(n) }
}

#[tokio::test]
async fn s3_64_audit_records_are_removed_when_their_days_are_over_and_not_before() {
    for (label, fixture) in Fixture::everywhere().await {
        // The database's own clock counts too, and it is the true one.
        let now = SystemClock.now();
        fixture.clock.set(now);
        append(&fixture, vec![aged(2000, now, TimeDelta::days(30))]).await;
        let old = TimeDelta::days(90) + TimeDelta::hours(1);
        append(&fixture, (1..=1000).map(|n| aged(n, now, old)).collect()).await;
        append(&fixture, (1001..=1500).map(|n| aged(n, now, old)).collect()).await;
        upkeep(&fixture, Some(TimeDelta::days(91))).sweep().await.unwrap();
        assert_eq!(kept(&fixture).await.len(), 1501, "{label}: the day is not over yet");
        upkeep(&fixture, None).sweep().await.unwrap();
        assert_eq!(kept(&fixture).await.len(), 1501, "{label}: without a limit nothing goes");
        let over = upkeep(&fixture, Some(TimeDelta::days(89)));
        for wrong in [TimeDelta::days(365), TimeDelta::minutes(-10)] {
            fixture.clock.set(now + wrong);
            over.sweep().await.unwrap();
            assert_eq!(kept(&fixture).await.len(), 1501, "{label}: with a wrong clock nothing goes");
        }
        fixture.clock.set(now);
        over.sweep().await.unwrap();
        over.sweep().await.unwrap();
        let kept = kept(&fixture).await;
        assert_eq!(kept.len(), 2, "{label}");
        assert_eq!(
            kept[0].record.id.as_uuid().as_u128(),
            2000,
            "{label}: a younger one does not hold up others"
        );
        let pruned = &kept[1].record;
        assert_eq!((pruned.action.as_str(), pruned.principal.as_str()), ("audit.prune", "service:registry"));
        let days = format!("before {}", (now - TimeDelta::days(89)).date_naive());
        assert_eq!(pruned.name, days, "{label}");
    }
}

#[tokio::test]
async fn s3_64_a_record_from_the_future_is_brought_to_now() {
    for (label, fixture) in Fixture::everywhere().await {
        let now = fixture.clock.now();
        append(&fixture, vec![aged(1, now, TimeDelta::days(-400)), aged(2, now, TimeDelta::minutes(-1))])
            .await;
        let at: Vec<_> = kept(&fixture).await.into_iter().map(|one| one.record.occurred_at - now).collect();
        assert_eq!(at, [TimeDelta::minutes(2), TimeDelta::minutes(1)], "{label}");
    }
}

#[tokio::test]
async fn s3_64_no_horizon_lets_the_last_day_go_or_moves_back() {
    for (label, fixture) in Fixture::everywhere().await {
        let now = SystemClock.now();
        fixture.clock.set(now);
        append(&fixture, vec![aged(1, now, TimeDelta::hours(23)), aged(2, now, TimeDelta::hours(25))]).await;
        let [far, back] = ["2100-01-01T00:00:00+00:00", "2000-01-01T00:00:00+00:00"]
            .map(|to| format!("UPDATE audit_horizon SET removable_to = '{to}'"));
        raw(&fixture.db, &far).await.unwrap();
        assert!(raw(&fixture.db, &back).await.is_err(), "{label}");
        assert!(raw(&fixture.db, "DELETE FROM audit").await.is_err(), "{label}: the last day");
        assert_eq!(audit::remove(&fixture.db, now - TimeDelta::hours(24), 9).await.unwrap(), 1, "{label}");
    }
}
