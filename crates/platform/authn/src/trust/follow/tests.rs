use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeZone as _, Utc};
use futures_util::{Stream, StreamExt as _, stream};
use portico_clock::{Clock as _, MockClock};
use portico_feed::{Frame, FrameCodec as _};
use portico_proto_auth::trust_service_server::{TrustService, TrustServiceServer};
use portico_proto_auth::{TrustItem, WatchTrustResponse};
use portico_transport::{Exchange, PeerIdentity};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::*;
use crate::testing::TestIssuer;
use crate::{DEFAULT_MAX_STALENESS, TokenRejected, Verifier};

const MCP: &str = "https://portico.test/mcp";

/// Sends one snapshot, and what its clock shows if it differs.
struct AuthServer {
    items: Vec<TrustItem>,
    shows: Option<DateTime<Utc>>,
}

#[tonic::async_trait]
impl TrustService for AuthServer {
    type WatchTrustStream = Pin<Box<dyn Stream<Item = Result<WatchTrustResponse, Status>> + Send>>;

    async fn watch_trust(
        &self,
        _request: Request<WatchTrustRequest>,
    ) -> Result<Response<Self::WatchTrustStream>, Status> {
        let frames = [
            Frame::Begin { snapshot: true },
            Frame::Put { items: self.items.clone(), removed: Vec::new() },
            Frame::End { revision: 7 },
        ];
        let shown = self.shows.map(|sent_at| Frame::Heartbeat { revision: 7, sent_at: Some(sent_at) });
        let frames = frames.into_iter().chain(shown).map(|frame| Ok(TrustFrames::encode(frame)));
        Ok(Response::new(Box::pin(stream::iter(frames).chain(stream::pending()))))
    }
}

struct World {
    clock: MockClock,
    issuer: TestIssuer,
    disk: tempfile::TempDir,
}

/// One run of a service that follows the trust.
struct Run {
    trust: TrustHandle,
    verifier: Verifier,
    readiness: Readiness,
    tasks: Tasks,
}

impl World {
    fn new() -> Self {
        let clock = MockClock::at(Utc.timestamp_opt(1_800_000_000, 0).unwrap());
        let issuer = TestIssuer::new(Arc::new(clock.clone()));
        Self { issuer, clock, disk: tempfile::tempdir().unwrap() }
    }

    async fn start(&self, exchange: &Exchange) -> Run {
        let (trust, tasks, readiness) = (TrustHandle::new(), Tasks::new(), Readiness::new());
        let clock: SharedClock = Arc::new(self.clock.clone());
        let verifier = Verifier::new(trust.clone(), Arc::clone(&clock), DEFAULT_MAX_STALENESS);
        let link = exchange.link("auth-server", PeerIdentity::new("gateway"));
        let disk = Some(DiskCopy::Plain(self.disk.path().join("trust")));
        let mut changes = trust.changes();
        trust.follow(TrustFeed { link, disk, clock }, &tasks, &readiness);
        changes.changed().await.unwrap();
        Run { trust, verifier, readiness, tasks }
    }

    fn auth_server(&self) -> Exchange {
        self.auth_server_that_is(None)
    }

    fn auth_server_that_is(&self, seconds_ahead: Option<i64>) -> Exchange {
        let exchange = Exchange::new();
        let shows = seconds_ahead.map(|seconds| self.clock.now() + TimeDelta::seconds(seconds));
        let server = TrustServiceServer::new(AuthServer { items: self.issuer.items(), shows });
        exchange.serve("auth-server", Routes::new(server));
        exchange
    }
}

impl Run {
    async fn stop(self) {
        self.tasks.trigger_shutdown();
        assert!(self.tasks.wait(Duration::from_secs(10)).await.is_clean());
    }
}

#[tokio::test]
async fn a_followed_issuer_is_trusted_and_the_service_is_ready() {
    let world = World::new();
    let run = world.start(&world.auth_server()).await;
    let token = world.issuer.token(&world.issuer.user(), MCP, portico_oauth_types::ScopeSet::EMPTY);
    assert!(run.verifier.verify(&token, MCP).is_ok());
    assert!(run.readiness.is_ready());
    assert_eq!(run.trust.load().revision(), 7);
    run.stop().await;
}

#[tokio::test]
async fn rs_27_without_the_auth_server_the_copy_on_disk_decides_until_it_is_stale() {
    let world = World::new();
    world.start(&world.auth_server()).await.stop().await;
    world.clock.advance(chrono::Duration::seconds(100));

    let alone = world.start(&Exchange::new()).await;
    let token = world.issuer.token(&world.issuer.user(), MCP, portico_oauth_types::ScopeSet::EMPTY);
    assert!(alone.readiness.is_ready());
    assert!(alone.verifier.verify(&token, MCP).is_ok());
    world.clock.advance(chrono::Duration::seconds(21));
    assert_eq!(alone.verifier.verify(&token, MCP).err(), Some(TokenRejected::TRUST_STALE));
    assert!(alone.readiness.is_ready(), "stale trust refuses calls, but a restart would not help");
    alone.stop().await;
}

#[tokio::test]
async fn s3_42_a_service_that_never_heard_of_the_auth_server_is_not_ready() {
    let (trust, tasks, readiness) = (TrustHandle::new(), Tasks::new(), Readiness::new());
    let clock: SharedClock = Arc::new(portico_clock::SystemClock);
    let link = Exchange::new().link("auth-server", PeerIdentity::new("gateway"));
    trust.follow(TrustFeed { link, disk: None, clock }, &tasks, &readiness);
    assert!(!readiness.is_ready());
    tasks.trigger_shutdown();
    assert!(tasks.wait(Duration::from_secs(10)).await.is_clean());
}

#[tokio::test]
async fn rs_23_clocks_that_differ_by_two_minutes_stop_every_token_and_by_less_than_one_none() {
    let world = World::new();
    let token = world.issuer.token(&world.issuer.user(), MCP, portico_oauth_types::ScopeSet::EMPTY);
    let mut streaming = None;
    for (seconds, text) in [
        (45, ""),
        (-45, ""),
        (120, "the clock of the auth-server is 120 s ahead of the clock of this service"),
        (-120, "the clock of the auth-server is 120 s behind the clock of this service"),
    ] {
        let run = world.start(&world.auth_server_that_is(Some(seconds))).await;
        let metrics = Metrics::new();
        run.trust.measure(&metrics);
        while run.trust.skew().is_none() {
            tokio::task::yield_now().await;
        }
        let shown = format!("portico_trust_clock_skew_seconds {seconds}\n");
        assert!(metrics.render().contains(&shown), "{}", metrics.render());
        match run.verifier.verify(&token, MCP) {
            Ok(principal) => {
                assert_eq!((text, run.verifier.check_again(&principal)), ("", Ok(())));
                streaming = Some(principal);
            }
            Err(refused) => {
                let again = run.verifier.check_again(streaming.as_ref().unwrap());
                assert_eq!(again, Err(refused), "what was begun before goes no further");
                assert!(!text.is_empty() && refused.to_string().starts_with(text), "{refused}");
                assert_eq!((refused.code, refused.unavailable), ("clock_skew", true), "{seconds} s");
            }
        }
        run.stop().await;
    }
}
