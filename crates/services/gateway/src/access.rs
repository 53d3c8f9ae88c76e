//! Who calls, whether they may, and whether they may now.

mod open_calls;

pub(crate) use open_calls::{OpenCall, OpenCalls};

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Uri};
use portico_authn::{Principal, TokenRejected, Verifier, bearer_token};
use portico_authz::{Action, Authorizer};
use portico_clock::SharedClock;
use portico_coordination::{Limit, LimitKey, RateLimiter};
use portico_mcp_types::{Id, SUBSCRIPTION_ID, result_answer};
use portico_oauth_types::Scope;

use crate::catalogue::{Endpoint, Snapshot};
use crate::engine::Engine;
use crate::metadata::{Challenge, challenge};
use crate::metrics::{GatewayMetrics, Shed};
use crate::refusal::{Reason, Refusal};
use crate::session::Binding;
use crate::trace::step;

/// Decides about every request (RS-26): token, scope, role, rate.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) origin: String,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) authorizer: Authorizer,
    pub(crate) limiter: RateLimiter,
    pub(crate) per_principal: Limit,
    pub(crate) global: Limit,
    /// The bucket of all principals together.
    pub(crate) all: LimitKey,
    pub(crate) open: Arc<OpenCalls>,
    pub(crate) clock: SharedClock,
    pub(crate) metrics: GatewayMetrics,
}

/// Where a request wants to go.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// `/mcp`: everything that the caller may use.
    Root { audience: String },
    /// `/{name}/mcp`.
    Endpoint(Arc<Endpoint>),
}

impl Place {
    /// The audience of tokens for it.
    fn audience(&self) -> &str {
        match self {
            Self::Root { audience } => audience,
            Self::Endpoint(endpoint) => &endpoint.audience,
        }
    }

    /// Its path, as metadata and challenges name it.
    fn path(&self, origin: &str) -> &str {
        self.audience().strip_prefix(origin).unwrap_or("/mcp")
    }

    /// What sessions and handles are bound to.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Root { .. } => "mcp",
            Self::Endpoint(endpoint) => &endpoint.id,
        }
    }

    /// What audit and logs call it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Root { .. } => "mcp",
            Self::Endpoint(endpoint) => &endpoint.name,
        }
    }
}

/// A caller that may use the place it came to.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) principal: Arc<Principal>,
    /// The principal's id as text.
    pub(crate) subject: String,
    pub(crate) place: Place,
    /// The catalogue that this request is served by, from its beginning to its end.
    pub(crate) snapshot: Arc<Snapshot>,
}

impl Agent {
    /// Whether a session or handle belongs to this caller here (RS-30).
    pub(crate) fn owns(&self, binding: &Binding) -> bool {
        binding.subject == self.subject
            && binding.client == self.principal.client_id
            && binding.endpoint == self.place.id()
    }

    pub(crate) fn binding(&self) -> Binding {
        Binding {
            subject: self.subject.clone(),
            client: self.principal.client_id.clone(),
            endpoint: self.place.id().to_owned(),
        }
    }
}

impl Access {
    /// Finds out who calls; what is refused from then on is recorded under that name.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        uri: &Uri,
        place: &Place,
    ) -> Result<Arc<Principal>, Refusal> {
        if uri.query().is_some_and(|query| query.contains("access_token=")) {
            tracing::warn!(path = uri.path(), "a token came in the query string and is ignored (RS-24)");
        }
        let call = tracing::Span::current();
        step!(&call, "gateway.authn").in_scope(|| self.authenticate(headers, place))
    }

    /// Decides before any upstream is touched and any tool name is resolved (RS-14).
    pub(crate) fn admit(
        &self,
        (principal, subject): (Arc<Principal>, String),
        place: Place,
        snapshot: Arc<Snapshot>,
    ) -> Result<Agent, Refusal> {
        let call = tracing::Span::current();
        step!(&call, "gateway.authz").in_scope(|| self.authorize(&principal, &place))?;
        self.count(&subject)?;
        Ok(Agent { principal, subject, place, snapshot })
    }

    /// Takes one of the places that a principal has for calls and streams at the same time.
    pub(crate) fn open(&self, principal: &Principal) -> Result<OpenCall, Refusal> {
        self.open.open(&principal.id).ok_or_else(|| {
            self.metrics.shed(Shed::Principal);
            let message = "too many calls and streams are open at once; end some and try again";
            Refusal::new(Reason::RateLimited, message).with_retry_after(Duration::from_secs(1))
        })
    }

    fn authenticate(&self, headers: &HeaderMap, place: &Place) -> Result<Arc<Principal>, Refusal> {
        let verified = bearer_token(headers).and_then(|token| self.verifier.verify(token, place.audience()));
        verified.map_err(|rejected| self.rejected(rejected, place))
    }

    fn rejected(&self, rejected: TokenRejected, place: &Place) -> Refusal {
        if rejected.code == TokenRejected::NOT_YET_VALID.code {
            self.metrics.clock_skew.inc();
        }
        let message = rejected.to_string();
        if rejected.unavailable {
            let skewed = rejected == TokenRejected::CLOCKS_DIFFER;
            let reason = if skewed { Reason::ClockSkew } else { Reason::TrustStale };
            return Refusal::new(reason, message).with_retry_after(Duration::from_secs(5));
        }
        let (reason, kind) = if rejected == TokenRejected::MISSING {
            (Reason::TokenMissing, Challenge::TokenMissing)
        } else {
            (Reason::TokenInvalid, Challenge::InvalidToken)
        };
        Refusal::new(reason, message)
            .with_data("token", format!("\"{}\"", rejected.code))
            .with_challenge(challenge(&self.origin, place.path(&self.origin), kind))
    }

    fn authorize(&self, principal: &Principal, place: &Place) -> Result<(), Refusal> {
        if !principal.may(Scope::Mcp) {
            let challenge = challenge(&self.origin, place.path(&self.origin), Challenge::InsufficientScope);
            return Err(Refusal::new(
                Reason::InsufficientScope,
                "the access token lacks the scope mcp; ask for it at the authorization server",
            )
            .with_challenge(challenge));
        }
        match place {
            // What lies behind it is decided server by server.
            Place::Root { .. } => Ok(()),
            Place::Endpoint(endpoint) if self.may_use(principal, endpoint) => Ok(()),
            Place::Endpoint(endpoint) => Err(Refusal::new(
                Reason::AccessDenied,
                format!(
                    "no role of yours allows the use of {0}; ask an administrator for a grant on {0}",
                    endpoint.name
                ),
            )),
        }
    }

    /// Whether the principal's roles, ownership or the endpoint's visibility allow its use.
    pub(crate) fn may_use(&self, principal: &Principal, endpoint: &Endpoint) -> bool {
        self.authorizer.decide(principal, Action::Use, &endpoint.resource).allowed
    }

    /// Counts one call of a principal against its rate and everybody's.
    pub(crate) fn count(&self, subject: &str) -> Result<(), Refusal> {
        let now = self.clock.now();
        let own =
            self.limiter.try_acquire(&LimitKey::new("gateway/principal", subject), self.per_principal, now);
        let all = own.and_then(|()| self.limiter.try_acquire(&self.all, self.global, now));
        all.map_err(|limited| {
            self.metrics.shed(Shed::Rate);
            Refusal::new(Reason::RateLimited, "too many calls; slow down and try again after Retry-After")
                .with_retry_after(limited.retry_after)
        })
    }
}

/// Whether a stream may go on although its request was admitted long ago (RS-26).
#[derive(Debug)]
pub(crate) struct Liveness {
    engine: Arc<Engine>,
    agent: Arc<Agent>,
    kind: StreamKind,
}

/// How long a stream is meant to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// Until one call is answered.
    Call,
    /// A GET stream: as long as the agent likes.
    Standing,
    /// A `subscriptions/listen`: likewise, and it ends with a result.
    Listen,
}

impl Liveness {
    pub(crate) fn new(engine: &Arc<Engine>, agent: &Arc<Agent>, kind: StreamKind) -> Self {
        Self { engine: Arc::clone(engine), agent: Arc::clone(agent), kind }
    }

    pub(crate) fn is_standing(&self) -> bool {
        self.kind != StreamKind::Call
    }

    /// A call that was begun may end after its token has expired, so it does not matter to it either whether the clocks
    /// tell the time; nothing goes on after a revocation.
    pub(crate) fn may_go_on(&self) -> bool {
        let valid = match self.engine.verifier.check_again(&self.agent.principal) {
            Ok(()) => true,
            Err(rejected) => {
                [TokenRejected::EXPIRED, TokenRejected::CLOCKS_DIFFER].contains(&rejected)
                    && !self.is_standing()
            }
        };
        valid && self.place_holds()
    }

    /// Whether the caller may still use the endpoint; a standing stream ends also when it is no longer the same one.
    fn place_holds(&self) -> bool {
        // What lies behind `/mcp` is decided server by server.
        let Place::Endpoint(before) = &self.agent.place else { return true };
        let snapshot = self.engine.catalogue.snapshot();
        let Some(now) = snapshot.endpoint(&before.name).filter(|now| now.id == before.id) else {
            return !self.is_standing();
        };
        self.engine.access.may_use(&self.agent.principal, now)
            && (!self.is_standing()
                || now.has_members_of(before)
                    && now
                        .single()
                        .is_none_or(|member| snapshot.server(member.server).is_some_and(|s| s.enabled)))
    }

    /// What a stream says when Portico ends it.
    pub(crate) fn closing_message(&self, request: Option<&str>) -> Option<bytes::Bytes> {
        if self.kind != StreamKind::Listen {
            return None;
        }
        let id: &serde_json::value::RawValue = serde_json::from_str(request?).ok()?;
        let result =
            format!("{{\"resultType\":\"complete\",\"_meta\":{{\"{SUBSCRIPTION_ID}\":{}}}}}", id.get());
        Some(result_answer(Id::Present(id), &result))
    }
}
