//! The contract of every store, on each database.

use chrono::TimeDelta;
use portico_db::testing::databases;
use portico_db::{Tx, on_tx};
use portico_ids::{AuditId, EndpointId, EndpointName, InstanceId, PrincipalId, ServerId};
use serde_json::json;

use super::*;
use crate::domain::audit::{AuditFilter, AuditRecord, Outcome};
use crate::domain::capability::Capability;
use crate::domain::endpoint::{Endpoint, EndpointDetails, Member};
use crate::domain::env_schema::{EnvEntryInput, EnvSchema};
use crate::domain::instance::{Health, Instance, InstanceDetails};
use crate::domain::names::{CapabilityKind, InstanceStatus, Names, ServerStatus, Visibility};
use crate::domain::secret::{Secret, SecretRef};
use crate::domain::server::{Server, ServerDetails};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap() + TimeDelta::seconds(seconds)
}

fn owner() -> PrincipalId {
    PrincipalId::Service("tests".to_owned())
}

fn server(n: u8) -> Server {
    let variable = EnvEntryInput {
        name: "LIMIT".to_owned(),
        kind: "integer".to_owned(),
        description: "how many".to_owned(),
        required: true,
        secret: false,
        default: Some("3".to_owned()),
    };
    Server {
        id: ServerId::from(Uuid::from_u128(u128::from(n))),
        name: EndpointName::parse(&format!("server-{n}")).unwrap(),
        details: ServerDetails {
            description: "what it does".to_owned(),
            version: "1.2.3".to_owned(),
            tags: vec!["zeta".to_owned(), "alpha".to_owned()],
            docker_image_url: "registry.example/image:1".to_owned(),
            status: ServerStatus::Disabled,
            visibility: Visibility::Public,
            env_schema: EnvSchema::parse(vec![variable]).unwrap(),
        },
        owner: owner(),
        created_at: at(i64::from(n)),
        updated_at: at(i64::from(n)),
        revision: i64::from(n),
    }
}

fn instance(n: u8, server: &Server) -> Instance {
    Instance {
        id: InstanceId::from(Uuid::from_u128(u128::from(n))),
        server_id: server.id,
        details: InstanceDetails {
            name: format!("instance-{n}"),
            description: String::new(),
            json_spec: json!({"type": "url", "endpoint": "https://example.com/mcp", "timeout": 2.5, "stateless": true}),
        },
        health: Health::unseen(),
        created_at: at(i64::from(n)),
        updated_at: at(i64::from(n)),
        revision: i64::from(n),
    }
}

fn endpoint(n: u8, members: &[&Server]) -> Endpoint {
    let member =
        |server: &&Server| Member { tools: vec!["one".to_owned()], ..Member::whole(server.id, &server.name) };
    Endpoint {
        id: EndpointId::from(Uuid::from_u128(u128::from(n))),
        name: EndpointName::parse(&format!("endpoint-{n}")).unwrap(),
        details: EndpointDetails {
            description: "a route".to_owned(),
            visibility: Visibility::Private,
            names: Names::Prefixed,
            members: members.iter().map(member).collect(),
        },
        owner: owner(),
        created_at: at(i64::from(n)),
        updated_at: at(i64::from(n)),
        revision: i64::from(n),
    }
}

fn record(n: u8) -> AuditRecord {
    AuditRecord {
        id: AuditId::from(Uuid::from_u128(u128::from(n))),
        occurred_at: at(0),
        service: "gateway".to_owned(),
        principal: format!("user:{}", n % 2),
        client_id: "client".to_owned(),
        action: "tools/call".to_owned(),
        target: "endpoint:weather".to_owned(),
        name: "forecast".to_owned(),
        outcome: Outcome::Denied,
        reason: "no_permission".to_owned(),
        correlation_id: format!("correlation-{n}"),
        trace_id: "t".to_owned(),
        duration_ms: 1,
        request_bytes: 2,
        response_bytes: 3,
        peer: "127.0.0.1".to_owned(),
    }
}

fn reference(name: &str) -> SecretRef {
    SecretRef::parse(name).unwrap()
}

async fn writing(db: &Db) -> Tx {
    db.begin_write().await.unwrap()
}

#[tokio::test]
async fn s4_18_a_server_round_trips_with_all_its_fields() {
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        servers::insert((&mut tx).into(), &server(1)).await.unwrap();
        assert_eq!(servers::get((&mut tx).into(), server(1).id).await.unwrap(), Some(server(1)), "{label}");
        assert_eq!(
            servers::by_name((&mut tx).into(), &server(1).name).await.unwrap(),
            Some(server(1)),
            "{label}"
        );
        assert_eq!(
            servers::by_ids((&mut tx).into(), &[server(1).id, server(2).id]).await.unwrap(),
            [server(1)],
            "{label}"
        );
        let mut changed = server(1);
        changed.details.tags = vec!["beta".to_owned()];
        changed.revision = 9;
        servers::update((&mut tx).into(), &changed, 1).await.unwrap();
        assert_eq!(servers::get((&mut tx).into(), changed.id).await.unwrap(), Some(changed), "{label}");
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_taken_name_and_a_stale_revision_are_told_apart() {
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        servers::insert((&mut tx).into(), &server(1)).await.unwrap();
        let stale = servers::update((&mut tx).into(), &server(1), 7).await;
        assert!(matches!(stale, Err(StoreError::Stale { current: 1 })), "{label}: {stale:?}");
        let missing = servers::update((&mut tx).into(), &server(2), 2).await;
        assert!(matches!(missing, Err(StoreError::NotFound)), "{label}: {missing:?}");
        let same_name = Server { id: server(2).id, ..server(1) };
        let taken = servers::insert((&mut tx).into(), &same_name).await;
        assert!(matches!(taken, Err(StoreError::AlreadyExists)), "{label}: {taken:?}");
    }
}

#[tokio::test]
async fn lists_go_on_where_they_stopped_and_filter_by_tag() {
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        for n in 1..=5 {
            let mut server = server(n);
            if n == 4 {
                server.details.tags = vec!["gamma".to_owned()];
            }
            servers::insert((&mut tx).into(), &server).await.unwrap();
        }
        let first = servers::list((&mut tx).into(), &servers::ServerPage { limit: 2, ..Default::default() })
            .await
            .unwrap();
        assert_eq!(first.iter().map(|s| s.revision).collect::<Vec<_>>(), [1, 2], "{label}");
        let last = &first[1];
        let after = Some(Position { created_at: last.created_at, id: last.id.as_uuid() });
        let page = servers::ServerPage { after, limit: 10, tag: Some("alpha".to_owned()) };
        let rest = servers::list((&mut tx).into(), &page).await.unwrap();
        assert_eq!(rest.iter().map(|s| s.revision).collect::<Vec<_>>(), [3, 5], "{label}");
    }
}

#[tokio::test]
async fn s4_19_an_instance_round_trips_with_its_document_and_health() {
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        servers::insert((&mut tx).into(), &server(1)).await.unwrap();
        let mut stored = instance(2, &server(1));
        instances::insert((&mut tx).into(), &stored, &[reference("a"), reference("b")]).await.unwrap();
        assert_eq!(
            instances::get((&mut tx).into(), stored.id).await.unwrap(),
            Some(stored.clone()),
            "{label}"
        );
        assert_eq!(
            instances::referring_to((&mut tx).into(), &reference("b")).await.unwrap(),
            [stored.clone()],
            "{label}"
        );

        stored.health = Health {
            status: InstanceStatus::Unhealthy,
            reason: "refused".to_owned(),
            protocol_versions: vec!["2026-07-28".to_owned()],
            checked_at: Some(at(9)),
        };
        instances::set_health((&mut tx).into(), stored.id, &stored.health, Some(7)).await.unwrap();
        assert_eq!(
            instances::of_server((&mut tx).into(), server(1).id).await.unwrap(),
            [stored.clone()],
            "{label}"
        );

        stored.revision = 8;
        instances::update((&mut tx).into(), &stored, &[reference("c")], 2).await.unwrap();
        assert!(
            instances::referring_to((&mut tx).into(), &reference("b")).await.unwrap().is_empty(),
            "{label}"
        );
        let stale = instances::update((&mut tx).into(), &stored, &[], 2).await;
        assert!(matches!(stale, Err(StoreError::Stale { current: 8 })), "{label}");
        instances::delete((&mut tx).into(), stored.id).await.unwrap();
        assert_eq!(instances::get((&mut tx).into(), stored.id).await.unwrap(), None, "{label}");
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn an_instance_needs_a_server_and_a_name_of_its_own() {
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        let orphan = instances::insert((&mut tx).into(), &instance(1, &server(1)), &[]).await;
        assert!(matches!(orphan, Err(StoreError::Referenced)), "{label}: {orphan:?}");
        drop(tx);
        let mut tx = writing(&db).await;
        servers::insert((&mut tx).into(), &server(1)).await.unwrap();
        instances::insert((&mut tx).into(), &instance(1, &server(1)), &[]).await.unwrap();
        let same_name = Instance { id: InstanceId::from(Uuid::from_u128(9)), ..instance(1, &server(1)) };
        let taken = instances::insert((&mut tx).into(), &same_name, &[]).await;
        assert!(matches!(taken, Err(StoreError::AlreadyExists)), "{label}: {taken:?}");
    }
}

#[tokio::test]
async fn an_endpoint_round_trips_with_its_members_in_order() {
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        for n in [1, 2] {
            servers::insert((&mut tx).into(), &server(n)).await.unwrap();
        }
        let mut stored = endpoint(5, &[&server(2), &server(1)]);
        endpoints::insert((&mut tx).into(), &stored).await.unwrap();
        assert_eq!(
            endpoints::get((&mut tx).into(), stored.id).await.unwrap(),
            Some(stored.clone()),
            "{label}"
        );
        assert_eq!(
            endpoints::by_name((&mut tx).into(), &stored.name).await.unwrap(),
            Some(stored.clone()),
            "{label}"
        );
        assert_eq!(
            endpoints::containing((&mut tx).into(), server(1).id).await.unwrap(),
            [stored.clone()],
            "{label}"
        );
        stored.details.members.reverse();
        stored.revision = 6;
        endpoints::update((&mut tx).into(), &stored, 5).await.unwrap();
        assert_eq!(endpoints::list((&mut tx).into(), None, 9).await.unwrap(), [stored.clone()], "{label}");
        let stale = endpoints::update((&mut tx).into(), &stored, 5).await;
        assert!(matches!(stale, Err(StoreError::Stale { current: 6 })), "{label}");
        endpoints::delete((&mut tx).into(), stored.id).await.unwrap();
        assert!(endpoints::containing((&mut tx).into(), server(1).id).await.unwrap().is_empty(), "{label}");
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn capabilities_are_replaced_as_a_whole_and_listed_in_order() {
    let capability = |n: u8, kind, name: &str| Capability {
        server_id: server(n).id,
        kind,
        name: name.to_owned(),
        title: "Title".to_owned(),
        description: "what it does".to_owned(),
        definition: r#"{"name":"x", "big":12345678901234567890123}"#.to_owned(),
        seen_at: at(1),
    };
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        for n in [1, 2] {
            servers::insert((&mut tx).into(), &server(n)).await.unwrap();
        }
        let many: Vec<_> =
            (0..1200).map(|n| capability(1, CapabilityKind::Tool, &format!("tool-{n:04}"))).collect();
        capabilities::replace((&mut tx).into(), server(1).id, &many).await.unwrap();
        let few = [capability(1, CapabilityKind::Prompt, "p"), capability(1, CapabilityKind::Tool, "t")];
        capabilities::replace((&mut tx).into(), server(1).id, &few).await.unwrap();
        capabilities::replace((&mut tx).into(), server(2).id, &[capability(2, CapabilityKind::Tool, "t")])
            .await
            .unwrap();
        let page = capabilities::CapabilityPage { limit: 2, ..Default::default() };
        assert_eq!(capabilities::list((&mut tx).into(), &page).await.unwrap(), few, "{label}");
        let after = Some((server(1).id, CapabilityKind::Tool, "t".to_owned()));
        let page = capabilities::CapabilityPage { after, kind: Some(CapabilityKind::Tool), ..page };
        assert_eq!(
            capabilities::list((&mut tx).into(), &page).await.unwrap(),
            [capability(2, CapabilityKind::Tool, "t")],
            "{label}"
        );
        let names = capabilities::names((&mut tx).into(), &[server(1).id, server(2).id]).await.unwrap();
        assert_eq!(names.len(), 3, "{label}");
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_secrets_version_only_grows_even_over_its_deletion() {
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        let secret = |version| Secret {
            reference: reference("github"),
            version,
            owner: owner(),
            created_at: at(0),
            updated_at: at(version),
        };
        assert_eq!(
            secrets::next_version((&mut tx).into(), &reference("github")).await.unwrap(),
            1,
            "{label}"
        );
        secrets::put((&mut tx).into(), &secret(1), b"sealed").await.unwrap();
        assert_eq!(
            secrets::get((&mut tx).into(), &reference("github")).await.unwrap(),
            Some(secret(1)),
            "{label}"
        );
        assert_eq!(secrets::list((&mut tx).into(), None, 5).await.unwrap(), [secret(1)], "{label}");
        assert!(secrets::list((&mut tx).into(), Some("github"), 5).await.unwrap().is_empty(), "{label}");
        let found =
            secrets::sealed((&mut tx).into(), &[reference("github"), reference("other")]).await.unwrap();
        assert_eq!(
            (found.len(), found[0].sealed.as_slice(), found[0].version),
            (1, b"sealed".as_slice(), 1),
            "{label}"
        );
        secrets::delete((&mut tx).into(), &reference("github"), at(5)).await.unwrap();
        assert_eq!(secrets::get((&mut tx).into(), &reference("github")).await.unwrap(), None, "{label}");
        assert!(
            secrets::sealed((&mut tx).into(), &[reference("github")]).await.unwrap().is_empty(),
            "{label}"
        );
        assert_eq!(
            secrets::next_version((&mut tx).into(), &reference("github")).await.unwrap(),
            3,
            "{label}"
        );
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn audit_records_are_kept_once_by_id_and_read_in_the_order_they_became_durable() {
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        // The second batch holds an older id: a gateway that was cut off delivers late.
        assert_eq!(audit::append((&mut tx).into(), &[record(5), record(6)]).await.unwrap(), 2, "{label}");
        assert_eq!(
            audit::append((&mut tx).into(), &[record(6), record(1), record(7)]).await.unwrap(),
            2,
            "{label}"
        );
        tx.commit().await.unwrap();

        let mut session = Session::open(&db).await.unwrap();
        let all = AuditFilter::default();
        let ids = |stored: Vec<audit::Stored>| {
            stored.into_iter().map(|s| s.record.id.as_uuid().as_u128()).collect::<Vec<_>>()
        };
        let newest = audit::newest(session.conn(), &all, 3).await.unwrap();
        assert_eq!(newest[2].record, record(7), "{label}");
        assert_eq!(ids(newest), [6, 1, 7], "{label}");
        let seq = audit::seq_of(session.conn(), record(6).id).await.unwrap().unwrap();
        assert_eq!(ids(audit::after(session.conn(), seq, &all, 9).await.unwrap()), [1, 7], "{label}");
        let filter = AuditFilter {
            principal: Some("user:1".to_owned()),
            correlation_id: Some("correlation-5".to_owned()),
            ..all
        };
        assert_eq!(ids(audit::newest(session.conn(), &filter, 9).await.unwrap()), [5], "{label}");
        assert_eq!(audit::seq_of(session.conn(), record(9).id).await.unwrap(), None, "{label}");
    }
}

#[tokio::test]
async fn audit_records_are_never_changed_or_removed() {
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        audit::append((&mut tx).into(), &[record(1)]).await.unwrap();
        tx.commit().await.unwrap();
        for sql in ["UPDATE audit SET principal = 'nobody'", "DELETE FROM audit"] {
            let mut tx = writing(&db).await;
            let tried = on_tx!(&mut tx, conn => sqlx::query(sql).execute(conn).await.map(drop));
            assert!(tried.is_err(), "{label}: {sql}");
        }
    }
}

#[tokio::test]
async fn the_feed_tells_what_changed_and_what_went_since_a_revision() {
    for (label, db, _guard) in databases(schema::schema()).await {
        let mut tx = writing(&db).await;
        servers::insert((&mut tx).into(), &server(1)).await.unwrap();
        servers::insert((&mut tx).into(), &server(2)).await.unwrap();
        instances::insert((&mut tx).into(), &instance(3, &server(1)), &[reference("github")]).await.unwrap();
        endpoints::insert((&mut tx).into(), &endpoint(4, &[&server(1)])).await.unwrap();
        tombstones::add((&mut tx).into(), "endpoint/gone", 4, at(0)).await.unwrap();
        tx.commit().await.unwrap();

        let mut session = Session::open(&db).await.unwrap();
        let changed = catalogue::changed(session.conn(), 0).await.unwrap();
        assert_eq!(
            (changed.servers.len(), changed.instances.len(), changed.endpoints.len()),
            (2, 1, 1),
            "{label}"
        );
        assert_eq!(changed.endpoints[0].details.members.len(), 1, "{label}");
        let changed = catalogue::changed(session.conn(), 2).await.unwrap();
        assert_eq!(
            (changed.servers.len(), changed.instances.len(), changed.endpoints.len()),
            (0, 1, 1),
            "{label}"
        );
        assert!(changed.secret_versions.is_empty(), "{label}");
        assert_eq!(tombstones::after(session.conn(), 3).await.unwrap(), ["endpoint/gone"], "{label}");
        assert!(tombstones::after(session.conn(), 4).await.unwrap().is_empty(), "{label}");
        drop(session);

        let mut tx = writing(&db).await;
        let secret = Secret {
            reference: reference("github"),
            version: 1,
            owner: owner(),
            created_at: at(0),
            updated_at: at(0),
        };
        secrets::put((&mut tx).into(), &secret, b"sealed").await.unwrap();
        instances::touch_users_of((&mut tx).into(), &reference("github"), 8).await.unwrap();
        let changed = catalogue::changed((&mut tx).into(), 7).await.unwrap();
        assert_eq!(changed.instances.len(), 1, "{label}");
        assert_eq!(
            (changed.secret_versions[&reference("github")], changed.instances[0].revision),
            (1, 3),
            "{label}"
        );

        assert_eq!(tombstones::horizon((&mut tx).into()).await.unwrap(), 0, "{label}");
        assert_eq!(tombstones::prune((&mut tx).into(), at(0)).await.unwrap(), 0, "{label}");
        assert_eq!(tombstones::prune((&mut tx).into(), at(1)).await.unwrap(), 1, "{label}");
        assert_eq!(tombstones::horizon((&mut tx).into()).await.unwrap(), 4, "{label}");
        tx.commit().await.unwrap();
    }
}
