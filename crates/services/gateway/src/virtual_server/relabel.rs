use std::sync::Arc;

use bytes::Bytes;
use portico_ids::ServerId;
use portico_mcp_types::{CallParams, Envelope, Id, Kind, Splice, method, text_of};
use serde_json::value::RawValue;

use super::streams::CHANGED;
use crate::access::Agent;
use crate::engine::Engine;
use crate::refusal::Refusal;
use crate::rewrite::Rewrite;
use crate::upstream::not_mcp;

/// What changes in the messages of one member on their way to the agent, and what is learnt from them.
#[derive(Debug)]
pub(crate) struct Relabel {
    engine: Arc<Engine>,
    agent: Arc<Agent>,
    server: ServerId,
    /// What is rewritten whoever the server is.
    inner: Rewrite,
}

impl Relabel {
    pub(super) fn new(engine: &Arc<Engine>, agent: &Arc<Agent>, server: ServerId, inner: Rewrite) -> Self {
        Self { engine: Arc::clone(engine), agent: Arc::clone(agent), server, inner }
    }

    pub(crate) fn needs_whole(&self) -> bool {
        self.inner.needs_whole()
    }

    pub(crate) fn needs_whole_after(&self, beginning: &[u8]) -> bool {
        self.inner.needs_whole_after(beginning)
    }

    pub(crate) fn apply(&self, message: &Bytes) -> Result<Bytes, Refusal> {
        let envelope = Envelope::parse(message).map_err(|_| not_mcp())?;
        match envelope.kind {
            Kind::Response => {
                if let Some(result) = envelope.result
                    && memchr::memmem::find(result.get().as_bytes(), b"uri\"").is_some()
                {
                    self.engine.virtual_servers.emitted.note_result(&self.agent, result, self.server);
                }
                self.inner.apply(message)
            }
            Kind::Request => Ok(self.replace_id(message, envelope.id)),
            Kind::Notification => self.notification(message, &envelope),
        }
    }

    fn notification(&self, message: &Bytes, envelope: &Envelope<'_>) -> Result<Bytes, Refusal> {
        let state = &self.engine.virtual_servers;
        match envelope.method() {
            // A server takes back its own request, whose id the agent knows under another name.
            method::CANCELLED => {
                let params = CallParams::parse(envelope.params).map_err(|_| not_mcp())?;
                Ok(params
                    .get("requestId")
                    .map_or_else(|| message.clone(), |id| self.replace_id(message, Id::Present(id))))
            }
            method::RESOURCE_UPDATED => {
                if let Some(params) = envelope.params {
                    state.emitted.note_params(&self.agent, params, self.server);
                }
                Ok(message.clone())
            }
            name => {
                if let Some(name) = CHANGED.iter().find(|changed| **changed == name) {
                    state.list_changed(self.server, name);
                    self.engine.replicas.tell_changed(self.server, name);
                }
                Ok(message.clone())
            }
        }
    }

    /// Ids of several servers collide, so each is told together with its server.
    fn replace_id(&self, message: &Bytes, id: Id<'_>) -> Bytes {
        let Id::Present(raw) = id else { return message.clone() };
        let mut splice = Splice::new(message);
        splice.replace_text(raw, &format!("{}/{}", self.server, raw.get()));
        splice.apply()
    }
}

/// The server that sent a request, and the id under which it knows it; `None` if no such id was ever given out.
pub(super) fn split_id(id: Id<'_>) -> Option<(ServerId, String)> {
    let Id::Present(raw) = id else { return None };
    let text = text_of(raw)?;
    let (server, own) = text.split_once('/')?;
    let own_raw: &RawValue = serde_json::from_str(own).ok()?;
    Id::Present(own_raw).names_a_request().then_some(())?;
    Some((server.parse().ok()?, own.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::testing::server_id;

    #[test]
    fn an_id_is_read_back_to_its_server_and_nonsense_to_none() {
        let split = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            split_id(Id::Present(&raw))
        };
        let server = server_id(7);
        assert_eq!(split(&format!("\"{server}/1\"")), Some((server, "1".to_owned())));
        assert_eq!(split(&format!("\"{server}/\\\"a/b\\\"\"")), Some((server, "\"a/b\"".to_owned())));
        for json in [
            "1",
            "\"x\"",
            "\"x/1\"",
            &format!("\"{server}/x\""),
            &format!("\"{server}/{{}}\""),
            &format!("\"{server}/1,\""),
        ] {
            assert_eq!(split(json), None, "{json}");
        }
    }
}
