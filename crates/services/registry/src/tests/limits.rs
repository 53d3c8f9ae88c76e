//! What one principal may cost.

use std::time::Duration;

use portico_call_limits::{CallLimitSettings, InvalidCallLimits};
use portico_proto_registry as proto;
use portico_transport::{reason_of, retry_after_of};
use tonic::Code;

use super::fixture::*;
use crate::{InvalidSettings, RegistrySettings};

/// Records of denied looks at the audit, and how many looks they stand for.
async fn denied_looks(admin: &mut Clients) -> (usize, u64) {
    let request =
        proto::ListAuditRequest { action: "audit.read".to_owned(), page_size: 100, ..Default::default() };
    let records = admin.audit.list_audit(request).await.unwrap().into_inner().records;
    assert!(records.iter().all(|record| record.outcome == "denied" && record.reason == "no_permission"));
    let more = |record: &proto::AuditRecord| {
        record.name.split(' ').nth(1).map_or(0, |number| number.parse::<u64>().unwrap())
    };
    (records.len(), records.iter().map(|record| 1 + more(record)).sum())
}

#[tokio::test]
async fn a_flood_of_denied_calls_is_refused_and_recorded_in_sum() {
    for (label, mut fixture) in Fixture::everywhere().await {
        fixture.registry.spawn_tasks(&fixture.tasks);
        let mut admin = fixture.admin();
        let mallory = fixture.person(&["agent"], "admin");
        let mut mallory = fixture.clients(mallory);
        let burst = CallLimitSettings::default().principal_burst;
        for _ in 0..burst {
            let denied = mallory.audit.list_audit(proto::ListAuditRequest::default()).await;
            refused(denied, Code::PermissionDenied, "no_permission");
        }
        for _ in 0..50 {
            let limited = mallory.audit.list_audit(proto::ListAuditRequest::default()).await.unwrap_err();
            assert_eq!(limited.code(), Code::ResourceExhausted);
            assert_eq!(reason_of(&limited).as_deref(), Some("rate_limited"));
            assert_eq!(retry_after_of(&limited), Some(Duration::from_millis(100)));
        }
        assert!(fixture.metrics.render().contains("portico_registry_calls_limited_total 50"));
        assert_eq!(
            denied_looks(&mut admin).await,
            (10, 10),
            "{label}: others are served, and see the first ones"
        );
        fixture.stop().await;
        assert_eq!(denied_looks(&mut admin).await, (11, burst.into()), "{label}: the end tells of all");
    }
}

#[tokio::test]
async fn all_replicas_together_have_one_limit_for_a_principal() {
    let mut fixture = Fixture::new().await;
    let other = fixture.replica().await;
    let reader = fixture.person(&["auditor"], READ);
    let mut at = [fixture.clients(reader.clone()), Clients::of(&other.routes, reader)];
    for call in 0..CallLimitSettings::default().principal_burst {
        let answer = at[call as usize % 2].audit.list_audit(proto::ListAuditRequest::default()).await;
        answer.unwrap();
    }
    for clients in &mut at {
        let limited = clients.audit.list_audit(proto::ListAuditRequest::default()).await;
        refused(limited, Code::ResourceExhausted, "rate_limited");
    }
    fixture.clock.advance(chrono::TimeDelta::milliseconds(100));
    at[1].audit.list_audit(proto::ListAuditRequest::default()).await.unwrap();
}

#[test]
fn limits_under_which_nobody_could_call_are_refused() {
    let limits = CallLimitSettings { principal_burst: 0, ..CallLimitSettings::default() };
    let settings = RegistrySettings { limits, ..RegistrySettings::default() };
    assert!(matches!(settings.check(), Err(InvalidSettings::Limits(InvalidCallLimits::Burst))));
    RegistrySettings::default().check().unwrap();
}
