//! What one principal may cost.

use std::time::Duration;

use portico_call_limits::CallLimitSettings;
use portico_proto_auth as proto;
use portico_transport::retry_after_of;
use tonic::Code;

use super::fixture::*;
use crate::store::audit::{AuditFilter, AuditRow};

/// Records of denied looks at the audit, and how many looks they stand for.
async fn denied_looks(fixture: &Fixture) -> (usize, u64) {
    let filter = AuditFilter { action: Some("audit.read".to_owned()), ..AuditFilter::default() };
    let rows = fixture.app.stores.audit.newest(&filter, 100).await.unwrap();
    assert!(rows.iter().all(|row| row.outcome == "denied" && row.reason == "no_permission"));
    let more = |row: &AuditRow| row.name.split(' ').nth(1).map_or(0, |number| number.parse::<u64>().unwrap());
    (rows.len(), rows.iter().map(|row| 1 + more(row)).sum())
}

#[tokio::test]
async fn a_flood_of_denied_calls_is_refused_and_recorded_in_sum() {
    for fixture in Fixture::all().await {
        fixture.server.spawn_tasks(&fixture.tasks);
        let (_, mut mallory) = fixture.person("mallory", &["agent"]).await;
        let burst = CallLimitSettings::default().principal_burst;
        for _ in 0..burst {
            let denied = mallory.audit.list_audit(proto::ListAuditRequest::default()).await;
            refused(denied, Code::PermissionDenied, "no_permission");
        }
        for _ in 0..50 {
            let limited = mallory.audit.list_audit(proto::ListAuditRequest::default()).await;
            let limited = refused(limited, Code::ResourceExhausted, "rate_limited");
            assert_eq!(retry_after_of(&limited), Some(Duration::from_millis(100)));
        }
        assert_eq!(denied_looks(&fixture).await, (10, 10), "{}: the first ones at once", fixture.label);
        let mut root = fixture.administrator().await;
        root.users.list_users(proto::ListUsersRequest::default()).await.unwrap();
        fixture.stop().await;
        assert_eq!(
            denied_looks(&fixture).await,
            (11, burst.into()),
            "{}: the end tells of all",
            fixture.label
        );
    }
}

#[tokio::test]
async fn a_denial_that_is_written_twice_stands_there_once() {
    for fixture in Fixture::all().await {
        let actor = crate::actor::Actor::service();
        let denial =
            |reason| fixture.app.entry(&actor, crate::actor::Deed::refused("audit.read", "", reason));
        let (first, second) = (denial("no_permission"), denial("no_permission"));
        let store = &fixture.app.stores.audit;
        store.append_once(std::slice::from_ref(&first)).await.unwrap();
        store.append_once(&[first, second]).await.unwrap();
        assert_eq!(denied_looks(&fixture).await, (2, 2), "{}", fixture.label);
    }
}
