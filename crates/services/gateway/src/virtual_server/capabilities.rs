use std::fmt;
use std::time::Duration;

use portico_mcp_types::{Object, Revision, text_of};
use serde_json::{Map, Value, json};

use super::asker::{Asker, Gathered};
use super::listed::What;
use super::merge::{caching, meta, server_info};
use super::scope::Scope;
use crate::catalogue::Member;
use crate::refusal::Refusal;

/// Extensions whose data travels in lists and results, so that several servers can offer it side by side.
const EXTENSIONS: &[&str] = &["io.modelcontextprotocol/ui"];

/// What `initialize` and `server/discover` say of several servers.
#[derive(Debug)]
struct Merged {
    capabilities: Map<String, Value>,
    instructions: Vec<String>,
}

/// The `result` of `initialize` within a session of this revision.
pub(super) async fn initialized(asker: &Asker, scope: &Scope, revision: Revision) -> Result<String, Refusal> {
    let gathered = live(asker, scope).await?;
    let merged = Merged::of(scope, &gathered);
    let meta = meta(false, &gathered.warnings);
    Ok(format!("{{\"protocolVersion\":\"{revision}\",\"serverInfo\":{}{merged}{meta}}}", server_info()))
}

/// The `result` of `server/discover`.
pub(super) async fn discovered(asker: &Asker, scope: &Scope) -> Result<String, Refusal> {
    let gathered = live(asker, scope).await?;
    let merged = Merged::of(scope, &gathered);
    let versions: Vec<&str> = Revision::ALL
        .iter()
        .rev()
        .filter(|revision| **revision > Revision::V2024_11_05)
        .map(|revision| revision.as_str())
        .collect();
    let meta = meta(true, &gathered.warnings);
    Ok(format!(
        "{{\"supportedVersions\":{}{merged}{}{meta}}}",
        Value::from(versions),
        caching(Duration::ZERO)
    ))
}

/// Whether some member that answers has the capability.
pub(super) async fn offered(asker: &Asker, scope: &Scope, capability: &str) -> Result<bool, Refusal> {
    let gathered = live(asker, scope).await?;
    Ok(Merged::of(scope, &gathered).capabilities.contains_key(capability))
}

/// Only members that answer count; if none does, that is an error, because an agent would not ask again.
async fn live<'a>(asker: &Asker, scope: &'a Scope) -> Result<Gathered<'a>, Refusal> {
    let gathered = asker.ask_all(scope, What::Capabilities).await;
    match gathered.why_empty() {
        Some(refusal) => Err(refusal),
        None => Ok(gathered),
    }
}

impl Merged {
    fn of(scope: &Scope, gathered: &Gathered<'_>) -> Self {
        let mut merged = Self { capabilities: Map::new(), instructions: Vec::new() };
        if !scope.description().is_empty() {
            merged.instructions.push(scope.description().to_owned());
        }
        for (member, listed) in &gathered.members {
            let Ok(text) = std::str::from_utf8(&listed.result) else { continue };
            let Ok(result) = Object::parse(text, "result") else { continue };
            if let Some(Ok(Value::Object(own))) =
                result.get("capabilities").map(|raw| serde_json::from_str(raw.get()))
            {
                merged.add(&own);
            }
            if let Some(own) = result.get("instructions").and_then(text_of) {
                merged.instruct(member, &own);
            }
        }
        merged
    }

    /// Adds what a server can do; what Portico cannot route to the right one of several is left out.
    fn add(&mut self, own: &Map<String, Value>) {
        for (name, flags) in [
            ("tools", &["listChanged"][..]),
            ("prompts", &["listChanged"]),
            ("resources", &["listChanged", "subscribe"]),
            ("logging", &[]),
            ("completions", &[]),
        ] {
            let Some(theirs) = own.get(name).and_then(Value::as_object) else { continue };
            let ours = self.capabilities.entry(name).or_insert_with(|| json!({}));
            for flag in flags {
                if theirs.get(*flag) == Some(&Value::Bool(true)) {
                    ours[*flag] = Value::Bool(true);
                }
            }
        }
        let Some(extensions) = own.get("extensions").and_then(Value::as_object) else { return };
        for name in EXTENSIONS {
            if let Some(settings) = extensions.get(*name) {
                let ours = self.capabilities.entry("extensions").or_insert_with(|| json!({}));
                if ours.get(*name).is_none() {
                    ours[*name] = settings.clone();
                }
            }
        }
    }

    fn instruct(&mut self, member: &Member, text: &str) {
        if !text.trim().is_empty() {
            self.instructions.push(format!("{}: {text}", member.alias));
        }
    }
}

/// Members of a result, with a comma in front.
impl fmt::Display for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ",\"capabilities\":{}", Value::Object(self.capabilities.clone()))?;
        if !self.instructions.is_empty() {
            write!(f, ",\"instructions\":{}", Value::from(self.instructions.join("\n\n")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_add_up_and_what_cannot_be_routed_is_left_out() {
        let mut merged = Merged { capabilities: Map::new(), instructions: Vec::new() };
        for own in [
            json!({"tools": {}, "tasks": {"list": {}}, "experimental": {"x": {}}}),
            json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": {}}),
            json!({"resources": {"listChanged": false}, "extensions": {"io.modelcontextprotocol/ui": {"a": 1}, "io.modelcontextprotocol/tasks": {}}}),
        ] {
            merged.add(own.as_object().unwrap());
        }
        let expected = json!({
            "tools": {"listChanged": true},
            "resources": {"subscribe": true},
            "logging": {},
            "extensions": {"io.modelcontextprotocol/ui": {"a": 1}},
        });
        assert_eq!(Value::Object(merged.capabilities), expected);
    }
}
