//! Two auth-servers on one database, and services that follow one or the other.

use std::sync::Arc;
use std::time::Duration;

use portico_authn::{DEFAULT_MAX_STALENESS, TrustFeed, TrustHandle, Verifier};
use portico_db::migrate;
use portico_db::testing::{OwnPostgres, connect};
use portico_process::{Readiness, Tasks};
use portico_proto_auth as proto;
use portico_transport::{Exchange, PeerIdentity};
use tokio::time::{Instant, sleep, timeout};
use tonic::service::Routes;

use super::fixture::*;
use crate::schema;

/// Half of what is promised, so that a slow machine does not fail the test and a slow system does.
pub(super) const PROMPT: Duration = Duration::from_millis(2500);

/// A service that verifies tokens by what one replica tells it.
struct Follower {
    verifier: Verifier,
    trust: TrustHandle,
    tasks: Tasks,
}

impl Follower {
    async fn of(routes: &Routes, fixture: &Fixture) -> Self {
        let exchange = Exchange::new();
        exchange.serve("auth-server", routes.clone());
        let (trust, tasks, readiness) = (TrustHandle::new(), Tasks::new(), Readiness::new());
        let feed = TrustFeed {
            link: exchange.link("auth-server", PeerIdentity::new("gateway")),
            disk: None,
            clock: Arc::new(fixture.clock.clone()),
        };
        let mut changes = trust.changes();
        trust.follow(feed, &tasks, &readiness);
        timeout(Duration::from_secs(5), changes.changed()).await.unwrap().unwrap();
        let verifier = Verifier::new(trust.clone(), Arc::new(fixture.clock.clone()), DEFAULT_MAX_STALENESS);
        Self { verifier, trust, tasks }
    }

    fn counts(&self, token: &str) -> bool {
        self.verifier.verify(token, &format!("{ORIGIN}/api")).is_ok()
    }

    /// How long it takes until the token counts no more.
    async fn until_refused(&self, token: &str) -> Duration {
        let begun = Instant::now();
        while self.counts(token) {
            assert!(begun.elapsed() < Duration::from_secs(20), "it counts for ever");
            sleep(Duration::from_millis(5)).await;
        }
        begun.elapsed()
    }

    async fn stop(self) {
        self.tasks.trigger_shutdown();
        assert!(self.tasks.wait(Duration::from_secs(5)).await.is_clean());
    }
}

fn disabled(user: &proto::User) -> proto::UpdateUserRequest {
    let (id, expected_revision) = (user.id.clone(), user.revision);
    proto::UpdateUserRequest { id, expected_revision, disabled: Some(true), ..Default::default() }
}

#[tokio::test]
async fn rs_27_a_disabled_user_and_a_revoked_grant_stop_at_the_followers_of_every_replica_in_time() {
    for fixture in Fixture::all().await {
        let other = fixture.replica().await;
        fixture.server.spawn_tasks(&fixture.tasks);
        other.server.spawn_tasks(&other.tasks);
        let followers =
            [Follower::of(&fixture.routes, &fixture).await, Follower::of(&other.routes, &fixture).await];
        let mut slowest = Duration::ZERO;
        for n in 0..8 {
            // Each replica writes in turn.
            let routes = if n % 2 == 0 { &fixture.routes } else { &other.routes };
            let mut root = Clients::of(routes, As::Token(fixture.token(&fixture.root, "admin").await));
            let user = root.user(&format!("user-{n}")).await;
            let principal = format!("user:{}", user.id);
            let granted = root.grant(&principal, "publisher", "*").await;
            let token = fixture.token(&principal.parse().unwrap(), "registry:write").await;
            assert!(followers.iter().all(|follower| follower.counts(&token)), "{}", fixture.label);
            if n < 4 {
                root.users.update_user(disabled(&user)).await.unwrap();
            } else {
                root.grants.delete_grant(proto::DeleteGrantRequest { id: granted.id }).await.unwrap();
            }
            let [one, two] = &followers;
            let (one, two) = tokio::join!(one.until_refused(&token), two.until_refused(&token));
            slowest = slowest.max(one).max(two);
        }
        assert!(slowest < PROMPT, "{}: {slowest:?}", fixture.label);
        for follower in followers {
            follower.stop().await;
        }
        other.stop().await;
        fixture.stop().await;
    }
}

#[tokio::test]
async fn s0_29_a_withdrawn_signing_key_stops_at_the_followers_of_every_replica_in_time() {
    for fixture in Fixture::all().await {
        let other = fixture.replica().await;
        fixture.server.spawn_tasks(&fixture.tasks);
        other.server.spawn_tasks(&other.tasks);
        let followers =
            [Follower::of(&fixture.routes, &fixture).await, Follower::of(&other.routes, &fixture).await];
        let old = fixture.token(&fixture.root, "admin").await;
        assert!(followers.iter().all(|follower| follower.counts(&old)), "{}", fixture.label);
        let mut root = Clients::of(&fixture.routes, As::Token(old.clone()));
        let withdraw = proto::RotateSigningKeysRequest { withdraw: true };
        let new = root.keys.rotate_signing_keys(withdraw).await.unwrap().into_inner().key.unwrap();
        let [one, two] = &followers;
        let (one, two) = tokio::join!(one.until_refused(&old), two.until_refused(&old));
        assert!(one.max(two) < PROMPT, "{}: {one:?} {two:?}", fixture.label);
        // The other replica signs with the new key as well, and publishes no other one.
        let keys = &other.server.app().keys;
        until("the new key signs", async || {
            keys.active().is_some_and(|active| active.key.jwk().kid() == new.kid)
                && keys.jwks().keys.len() == 1
        })
        .await;
        let fresh = fixture.token(&fixture.root, "admin").await;
        until("its tokens count", async || followers.iter().all(|follower| follower.counts(&fresh))).await;
        for follower in followers {
            follower.stop().await;
        }
        other.stop().await;
        fixture.stop().await;
    }
}

#[tokio::test]
async fn s0_26_a_create_that_is_repeated_at_the_other_replica_is_done_once() {
    for fixture in Fixture::all().await {
        let other = fixture.replica().await;
        let caller = As::Token(fixture.token(&fixture.root, "admin").await);
        let mut here = Clients::of(&fixture.routes, caller.clone());
        let mut there = Clients::of(&other.routes, caller);
        let request = proto::CreateServiceAccountRequest {
            name: "robot".to_owned(),
            request_id: "once".to_owned(),
            ..Default::default()
        };
        let (one, two) = tokio::join!(
            here.accounts.create_service_account(request.clone()),
            there.accounts.create_service_account(request),
        );
        assert_eq!(one.unwrap().into_inner(), two.unwrap().into_inner(), "{}", fixture.label);
    }
}

pub(super) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(Duration::from_secs(20), waiting).await.is_ok(), "never: {what}");
}

#[tokio::test]
async fn s0_30_s2_30_a_restart_of_postgres_is_survived_and_followers_are_let_go_meanwhile() {
    let Some(server) = OwnPostgres::start(None) else { return };
    let db = connect(&server, "sslmode=prefer", schema()).await.unwrap();
    migrate(&db, schema()).await.unwrap();
    let fixture = Fixture::over(&db).await;
    let replica = fixture.replica().await;
    replica.server.spawn_tasks(&replica.tasks);
    let follower = Follower::of(&replica.routes, &fixture).await;
    let database = |replica: &Replica| {
        let checks = replica.readiness.snapshot();
        checks.iter().any(|check| check.name == "auth-server.database" && check.ready)
    };
    until("ready", async || database(&replica)).await;
    let token = fixture.token(&fixture.root, "admin").await;
    server.down();
    until("not ready", async || !database(&replica)).await;
    let status = follower.trust.feed_status().unwrap().clone();
    until("let go", async || !status.is_connected()).await;
    assert!(follower.counts(&token), "the last copy decides");
    server.up();
    until("ready again", async || db.ping().await.is_ok() && database(&replica)).await;
    until("followed again", async || status.is_connected()).await;
    let mut root = Clients::of(&replica.routes, As::Token(token.clone()));
    let user = root.user("ada").await;
    let principal = format!("user:{}", user.id);
    root.grant(&principal, "publisher", "*").await;
    let hers = fixture.token(&principal.parse().unwrap(), "registry:write").await;
    assert!(follower.counts(&hers));
    root.users.update_user(disabled(&user)).await.unwrap();
    assert!(follower.until_refused(&hers).await < PROMPT);
    follower.stop().await;
    replica.stop().await;
}
