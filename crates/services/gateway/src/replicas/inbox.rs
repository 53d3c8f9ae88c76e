use std::sync::Arc;

use super::letter::Body;
use super::pump;
use crate::engine::Engine;
use crate::session_era::close_upstreams;

/// Does what another replica writes; nothing in it waits for another replica.
pub(super) fn receive(engine: &Arc<Engine>, letter: &[u8]) {
    let replicas = &engine.replicas;
    let Some((from, body)) = replicas.open(letter) else {
        tracing::debug!("a letter of another version, or not of a replica, is left unread");
        return;
    };
    match body {
        Body::Hello(_) => drop(replicas.meet(std::iter::once(from))),
        Body::Ended(ended) => {
            if let Some(session) = engine.sessions.at_hand(&ended.session) {
                engine.sessions.end_here(&session);
                close_upstreams(engine, &session);
            }
            replicas.confirm_ended(from, ended.number);
        }
        Body::Cancel(cancel) => {
            if let Some(session) = engine.sessions.at_hand(&cancel.session) {
                session.streams.cancel(&cancel.request);
            }
        }
        Body::Changed(changed) => {
            if let Ok(server) = changed.server.parse() {
                engine.virtual_servers.list_changed(server, &changed.method);
            }
        }
        Body::Resume(resume) => pump::begin(engine, from, resume),
        Body::Piece(piece) => replicas.take(piece),
        Body::Stay(stay) => replicas.stay(from, stay.number),
        Body::Stop(stop) => replicas.stop(from, stop.number),
        Body::Task(task) => engine.handles.learn(task.key, &task.sealed),
        Body::WhoShowed(asked) => {
            let server = engine.virtual_servers.showed(&asked.subject, &asked.endpoint, &asked.uri);
            replicas.answer(from, asked.number, server);
        }
        Body::Showed(showed) => replicas.hear(showed.number, showed.server.parse().ok()),
        Body::IsEnded(ended) => replicas.hear(ended.number, None),
    }
}
