//! What a server would have to be told again if it forgot the session; remembered once the server has agreed.

use std::sync::Arc;

use portico_ids::ServerId;
use portico_mcp_types::{Envelope, method};

use crate::engine::Engine;
use crate::front::Inbound;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::upstream::{Answer, JsonBody, too_large};

/// A request that sets something.
#[derive(Debug)]
pub(crate) enum Setting {
    LogLevel(String),
    Subscription { server: ServerId, uri: String, on: bool },
}

impl Setting {
    pub(crate) fn of(inbound: &Inbound<'_>, server: ServerId) -> Option<Self> {
        match inbound.envelope.method() {
            method::SET_LEVEL => {
                Some(Self::LogLevel(inbound.params.raw.map_or("{}", |raw| raw.get()).to_owned()))
            }
            name @ (method::RESOURCES_SUBSCRIBE | method::RESOURCES_UNSUBSCRIBE) => {
                let uri = inbound.params.uri().ok()?.into_owned();
                Some(Self::Subscription { server, uri, on: name == method::RESOURCES_SUBSCRIBE })
            }
            _ => None,
        }
    }

    /// Remembers it if the answer says so; gives it back where the answer is still to come.
    pub(super) async fn agreed(
        self,
        engine: &Engine,
        session: &Session,
        answer: Answer,
    ) -> Result<(Answer, Option<Self>), Refusal> {
        let (status, message) = match answer {
            Answer::Json(reply) => {
                let limit = engine.upstream.settings.max_event_bytes;
                match engine.upstream.read_json(reply.body, limit).await? {
                    JsonBody::Whole(message) => (reply.status, message),
                    JsonBody::Begun(..) => return Err(too_large()),
                }
            }
            Answer::Read(status, message) => (status, message),
            later => return Ok((later, Some(self))),
        };
        if Envelope::parse(&message).is_ok_and(|answer| answer.result.is_some()) {
            self.keep(engine, session).await?;
        }
        Ok((Answer::Read(status, message), None))
    }

    async fn keep(self, engine: &Engine, session: &Session) -> Result<(), Refusal> {
        match self {
            Self::LogLevel(params) => engine.sessions.remember_log_level(session, &params).await,
            Self::Subscription { server, uri, on } => {
                engine.sessions.remember_subscription(session, server, &uri, on).await
            }
        }
    }

    /// Remembers it while the answer goes on to the agent.
    pub(crate) fn keep_soon(self, engine: &Arc<Engine>, session: &Arc<Session>) {
        let (task_engine, session) = (Arc::clone(engine), Arc::clone(session));
        engine.tasks.spawn_short("gateway.remember", async move {
            if let Err(refusal) = self.keep(&task_engine, &session).await {
                tracing::debug!(reason = refusal.reason.as_str(), "what a session set is not remembered");
            }
        });
    }
}
