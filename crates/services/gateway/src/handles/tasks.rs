//! Ids of tasks: which of a message's values are some, and how they are sealed and opened.

use portico_ids::ServerId;
use portico_mcp_types::{Envelope, Kind, Object, Splice, method, text_of};
use serde_json::value::RawValue;

use super::{Bound, Handle, Handles, list_key};
use crate::access::Agent;
use crate::front::Inbound;
use crate::refusal::Refusal;
use crate::upstream::not_mcp;

/// Names the task that a message belongs to (2025-11-25, Tasks, Related Task Metadata).
const RELATED: &str = "io.modelcontextprotocol/related-task";
/// A server tells how a task is doing: 2025-11-25, and the Tasks extension.
const STATUS: [&str; 2] = ["notifications/tasks/status", "notifications/tasks"];

/// Whether a method is about tasks.
pub(crate) fn is_about_tasks(name: &str) -> bool {
    names_a_task(name) || name == method::TASKS_LIST
}

/// Whether a method says in `taskId` which task it means.
pub(crate) fn names_a_task(name: &str) -> bool {
    matches!(name, method::TASKS_GET | method::TASKS_RESULT | method::TASKS_UPDATE | method::TASKS_CANCEL)
}

/// The tasks of one caller at one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskIds<'a> {
    pub(crate) handles: &'a Handles,
    pub(crate) agent: &'a Agent,
    pub(crate) server: ServerId,
}

impl TaskIds<'_> {
    fn open(&self, sealed: &str) -> Result<String, Refusal> {
        let key = list_key(self.server, "task");
        let bound = Bound::new(self.agent, &key);
        let id = self.handles.open(Handle::Task, &bound, sealed)?;
        // The agent goes on to know the task by the name that it used.
        self.handles.tasks.insert(bound.of_value(&id), sealed.into());
        Ok(id)
    }

    /// The same text each time, as long as it is remembered: agents compare ids.
    fn seal(&self, id: &str) -> String {
        let key = list_key(self.server, "task");
        let bound = Bound::new(self.agent, &key);
        let name = bound.of_value(id);
        let new = || {
            let sealed = self.handles.seal(Handle::Task, &bound, id);
            self.handles.news.task(name.clone(), &sealed);
            sealed.into()
        };
        self.handles.tasks.get_with_by_ref(&name, new).to_string()
    }

    fn was_given(&self, id: &str) -> bool {
        let key = list_key(self.server, "task");
        self.handles.tasks.contains_key(&Bound::new(self.agent, &key).of_value(id))
    }

    /// Opens the ids in an agent's message; gives the task that the message is about.
    pub(crate) fn open_in(
        &self,
        inbound: &Inbound<'_>,
        splice: &mut Splice<'_>,
    ) -> Result<Option<String>, Refusal> {
        let Inbound { envelope, params, .. } = *inbound;
        if envelope.kind == Kind::Response {
            if let Some(raw) = envelope.result.and_then(related) {
                self.open_related(raw, splice);
            }
            return Ok(None);
        }
        if let Some(raw) = params.meta.get(RELATED).and_then(|raw| member(raw, "taskId")) {
            if envelope.kind == Kind::Request {
                splice.replace_text(raw, &self.open(&text_of(raw).unwrap_or_default())?);
            } else {
                self.open_related(raw, splice);
            }
        }
        if let Some(raw) = params.get("notifications").and_then(|raw| member(raw, "taskIds")) {
            let sealed: Vec<String> = serde_json::from_str(raw.get()).unwrap_or_default();
            // What was not given to this caller is not listened to, and left out of the acknowledgement.
            let open: Vec<String> = sealed.iter().filter_map(|sealed| self.open(sealed).ok()).collect();
            splice.replace(raw, serde_json::Value::from(open).to_string());
        }
        if envelope.kind != Kind::Request || !names_a_task(envelope.method()) {
            return Ok(None);
        }
        let id = self.open(&params.required("taskId")?)?;
        if let Some(raw) = params.get("taskId") {
            splice.replace_text(raw, &id);
        }
        Ok(Some(id))
    }

    /// An id that was not sealed here may be of a task that runs at the agent, which minted it.
    fn open_related(&self, raw: &RawValue, splice: &mut Splice<'_>) {
        if let Some(id) = text_of(raw).and_then(|sealed| self.open(&sealed).ok()) {
            splice.replace_text(raw, &id);
        }
    }

    /// Seals the ids in a server's message, which may answer a request with this method.
    pub(crate) fn seal_in<'a>(
        &self,
        envelope: &Envelope<'a>,
        asked: &str,
        splice: &mut Splice<'_>,
    ) -> Result<(), Refusal> {
        let mut seal = |raw: Option<&'a RawValue>| {
            if let Some((raw, id)) = raw.and_then(|raw| Some((raw, text_of(raw)?))) {
                splice.replace_text(raw, &self.seal(&id));
            }
        };
        let Some(result) = envelope.result else {
            let Some(params) = envelope.params else { return Ok(()) };
            seal(related(params));
            if envelope.kind == Kind::Notification && STATUS.contains(&envelope.method()) {
                seal(member(params, "taskId"));
            }
            if envelope.method() == method::LISTEN_ACKNOWLEDGED
                && let Some(raw) = member(params, "notifications").and_then(|raw| member(raw, "taskIds"))
            {
                let ids: Vec<String> = serde_json::from_str(raw.get()).map_err(|_| not_mcp())?;
                let sealed: Vec<String> = ids.iter().map(|id| self.seal(id)).collect();
                splice.replace(raw, serde_json::Value::from(sealed).to_string());
            }
            return Ok(());
        };
        seal(related(result));
        seal(member(result, "task").and_then(|task| member(task, "taskId")));
        let created = || member(result, "resultType").is_some_and(|raw| raw.get() == "\"task\"");
        if names_a_task(asked) || created() {
            seal(member(result, "taskId"));
        }
        if asked == method::TASKS_LIST
            && let Some(raw) = member(result, "tasks")
        {
            splice.replace(raw, self.own_tasks(raw)?);
        }
        Ok(())
    }

    /// A list without the tasks of others: a server that knows all callers by one credential lists everyone's.
    fn own_tasks(&self, list: &RawValue) -> Result<String, Refusal> {
        let tasks: Vec<&RawValue> = serde_json::from_str(list.get()).map_err(|_| not_mcp())?;
        let own = tasks.into_iter().filter_map(|task| {
            let raw = member(task, "taskId")?;
            let id = text_of(raw).filter(|id| self.was_given(id))?;
            let mut splice = Splice::new(task.get().as_bytes());
            splice.replace_text(raw, &self.seal(&id));
            Some(String::from_utf8_lossy(&splice.apply()).into_owned())
        });
        Ok(format!("[{}]", own.collect::<Vec<_>>().join(",")))
    }
}

fn member<'a>(object: &'a RawValue, key: &str) -> Option<&'a RawValue> {
    Object::parse(object.get(), "object").ok()?.get(key)
}

fn related(holder: &RawValue) -> Option<&RawValue> {
    member(member(member(holder, "_meta")?, RELATED)?, "taskId")
}
