//! What the registry's events ask of the worker (S4-24).

use portico_ids::{InstanceId, ServerId};
use portico_proto_events::event::Payload;
use portico_proto_events::{Event, SEALED_AS, ServerInstanceCreated, ServerInstanceUpdated, TOPIC};
use portico_sealing::HandleSealer;
use prost::Message as _;

use crate::settings::WorkerSettings;
use crate::spec::{InvalidSpec, Spec};

/// What to do about an event.
#[derive(Debug, PartialEq)]
pub(crate) enum Change {
    Look(Box<Spec>),
    /// What the spec refers to has changed, not the spec.
    LookAgain(Box<Spec>),
    Forget(InstanceId, ServerId),
    ForgetServer(ServerId),
    /// Not for the worker, or of a kind that a newer registry knows.
    Nothing,
}

/// An event that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidEvent {
    /// Whoever can write to the stream may have written it: nothing in it is believed.
    #[error("the event was not sealed by the registry, or its key is no longer in the ring")]
    Forged,
    #[error("the event is no portico.events.v1.Event")]
    Encoding(#[from] prost::DecodeError),
    #[error("the event carries an unusable spec")]
    Spec(#[from] InvalidSpec),
    #[error("the event's {0} is not an id")]
    Id(&'static str),
}

impl InvalidEvent {
    /// For the metric.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Encoding(_) | Self::Spec(_) | Self::Id(_) => "invalid",
        }
    }
}

impl Change {
    /// The server that it is about, which decides who handles it.
    pub(crate) fn server(&self) -> Option<ServerId> {
        match self {
            Self::Look(spec) | Self::LookAgain(spec) => Some(spec.server),
            Self::Forget(_, server) | Self::ForgetServer(server) => Some(*server),
            Self::Nothing => None,
        }
    }

    /// Reads what the stream or another worker brought, if it is the registry's word.
    pub(crate) fn open(
        sealed: &[u8],
        handles: &HandleSealer,
        settings: &WorkerSettings,
    ) -> Result<Self, InvalidEvent> {
        let opened = std::str::from_utf8(sealed)
            .ok()
            .and_then(|sealed| handles.open(SEALED_AS, TOPIC.as_bytes(), sealed));
        let event = Event::decode(opened.ok_or(InvalidEvent::Forged)?.as_slice())?;
        let look =
            |spec, revision, change: fn(Box<Spec>) -> Self| match Spec::of_event(spec, revision, settings) {
                Ok(spec) => Ok(change(Box::new(spec))),
                // The registry may know providers that this worker does not: nothing will ever come of it.
                Err(InvalidSpec::Provider) => Ok(Self::Nothing),
                Err(error) => Err(error.into()),
            };
        match event.payload {
            Some(
                Payload::ServerInstanceCreated(ServerInstanceCreated { spec })
                | Payload::ServerInstanceUpdated(ServerInstanceUpdated { spec }),
            ) => look(spec, event.revision, Self::Look),
            Some(Payload::ServerInstanceSecretChanged(changed)) => {
                look(changed.spec, changed.spec_revision, Self::LookAgain)
            }
            Some(Payload::ServerInstanceDeleted(deleted)) => {
                let id = deleted.instance_id.parse().map_err(|_| InvalidEvent::Id("instance_id"))?;
                let server = deleted.server_id.parse().map_err(|_| InvalidEvent::Id("server_id"))?;
                Ok(Self::Forget(id, server))
            }
            Some(Payload::ServerDeleted(deleted)) => {
                let id = deleted.server_id.parse().map_err(|_| InvalidEvent::Id("server_id"))?;
                Ok(Self::ForgetServer(id))
            }
            Some(Payload::InstanceStatusChanged(_)) | None => Ok(Self::Nothing),
        }
    }
}
