use std::sync::Arc;

use portico_mcp_types::{CallParams, Object, ParseError, text_of};

use super::asker::{Asker, Gathered};
use super::listed::{Listed, What};
use super::merge::{exposed, is_chosen};
use super::names;
use super::scope::Scope;
use super::template;
use crate::catalogue::Member;
use crate::refusal::{Reason, Refusal};

/// Where a call goes, and what the member calls what is called.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) member: &'a Member,
    pub(super) name: String,
}

/// Finds the owner of a tool or prompt.
pub(super) async fn by_name<'a>(
    asker: &Asker,
    scope: &'a Scope,
    what: What,
    name: &str,
) -> Result<Target<'a>, Refusal> {
    let direct = direct(scope, name);
    if !scope.prefixed() || names::may_be_shortened(name) || direct.len() > 1 {
        for member in scope.members() {
            let Ok(server) = asker.server(member) else { continue };
            let known = asker.engine.virtual_servers.lists.known(asker, server, what);
            if let Some(target) = known.and_then(|listed| named(scope, member, what, &listed, name)) {
                return Ok(target);
            }
        }
    }
    // A prefix, or a lone member, tells the owner without any list.
    if let [(member, own)] = direct[..]
        && !names::may_be_shortened(name)
    {
        return if is_chosen(member, what, own) {
            Ok(target(member, own))
        } else {
            Err(unknown(asker, what, name, None))
        };
    }
    if scope.prefixed() && direct.is_empty() && !names::may_be_shortened(name) {
        return Err(unknown(asker, what, name, None));
    }
    let gathered = asker.look_up(scope, what).await;
    let found = gathered.members.iter().find_map(|(member, listed)| named(scope, member, what, listed, name));
    match (found, &direct[..]) {
        (Some(found), _) => Ok(found),
        (None, [(member, own)]) if is_chosen(member, what, own) => Ok(target(member, own)),
        (None, _) => Err(unknown(asker, what, name, Some(&gathered))),
    }
}

/// Members whose prefix the name has; under plain names, the member that is alone.
fn direct<'a, 'n>(scope: &'a Scope, name: &'n str) -> Vec<(&'a Member, &'n str)> {
    if scope.prefixed() {
        return scope.members().iter().filter_map(|m| names::own(m, name).map(|own| (m, own))).collect();
    }
    match scope.members() {
        [member] => vec![(member, name)],
        _ => Vec::new(),
    }
}

fn target<'a>(member: &'a Member, own: &str) -> Target<'a> {
    Target { member, name: own.to_owned() }
}

fn named<'a>(
    scope: &Scope,
    member: &'a Member,
    what: What,
    listed: &Listed,
    name: &str,
) -> Option<Target<'a>> {
    let item = listed.items.iter().find(|item| {
        if scope.prefixed() { exposed(member, scope, what, &item.key) == name } else { item.key == name }
    })?;
    is_chosen(member, what, &item.key).then(|| target(member, &item.key))
}

/// Finds the owner of a resource: who lists it, then whose template has the longest literal prefix of it, then who
/// last showed it to this principal.
pub(super) async fn by_uri<'a>(asker: &Asker, scope: &'a Scope, uri: &str) -> Result<&'a Member, Refusal> {
    if let [member] = scope.members()
        && (member.resources.is_none() || is_chosen(member, What::Resources, uri))
    {
        return Ok(member);
    }
    if let Some(member) = listing(&known(asker, scope, What::Resources), uri) {
        return Ok(member);
    }
    let templates = known_or_asked(asker, scope, What::Templates).await;
    if let Some(member) = listing(&known_or_asked(asker, scope, What::Resources).await, uri)
        .or_else(|| by_template(&templates, uri))
        .or_else(|| emitted(asker, scope, uri))
    {
        return Ok(member);
    }
    let gathered = asker.look_up(scope, What::Resources).await;
    if let Some(member) = listing(&gathered.members, uri) {
        return Ok(member);
    }
    let templates = asker.look_up(scope, What::Templates).await;
    if let Some(member) = by_template(&templates.members, uri) {
        return Ok(member);
    }
    // It may have been shown by a call that ran on another replica. Each of them gets a letter, so asking counts as a call.
    let replicas = &asker.engine.replicas;
    if !replicas.peers().is_empty()
        && asker.engine.access.count(&asker.agent.subject).is_ok()
        && let Some(server) = replicas.who_showed(&asker.agent, uri).await
    {
        asker.engine.virtual_servers.emitted.note(&asker.agent, uri, server);
    }
    emitted(asker, scope, uri).ok_or_else(|| unknown_resource(asker, uri, &gathered))
}

/// Finds whom to ask for completions, and what the prompt is called there (2025-11-25, Completion).
pub(super) async fn by_reference<'a>(
    asker: &Asker,
    scope: &'a Scope,
    params: &CallParams<'_>,
) -> Result<Target<'a>, Refusal> {
    let reference = params.get("ref").ok_or(ParseError::Param("ref", "an object"))?;
    let reference = Object::parse(reference.get(), "ref")?;
    reference.refuse_lookalikes(&["type", "name", "uri"])?;
    let text = |key: &'static str| {
        reference
            .get(key)
            .and_then(text_of)
            .ok_or(Refusal::from(ParseError::Param("ref", "a ref/prompt or ref/resource")))
    };
    if text("type")? == "ref/prompt" {
        return by_name(asker, scope, What::Prompts, &text("name")?).await;
    }
    let uri = text("uri")?;
    let templates = known_or_asked(asker, scope, What::Templates).await;
    let listed = templates.iter().find(|(member, listed)| holds(member, What::Templates, listed, &uri));
    let member = match listed {
        Some((member, _)) => member,
        None => by_uri(asker, scope, &uri).await?,
    };
    Ok(target(member, &uri))
}

type Known<'a> = Vec<(&'a Member, Arc<Listed>)>;

fn known<'a>(asker: &Asker, scope: &'a Scope, what: What) -> Known<'a> {
    let lists = &asker.engine.virtual_servers.lists;
    let of = |member| lists.known(asker, asker.server(member).ok()?, what).map(|listed| (member, listed));
    scope.members().iter().filter_map(of).collect()
}

/// Lists that are good enough to find an owner; asked for only if they were never seen.
async fn known_or_asked<'a>(asker: &Asker, scope: &'a Scope, what: What) -> Known<'a> {
    let known = known(asker, scope, what);
    if known.len() == scope.members().len() { known } else { asker.look_up(scope, what).await.members }
}

fn holds(member: &Member, what: What, listed: &Listed, key: &str) -> bool {
    is_chosen(member, what, key) && listed.items.iter().any(|item| item.key == key)
}

fn listing<'a>(known: &Known<'a>, uri: &str) -> Option<&'a Member> {
    known
        .iter()
        .find(|(member, listed)| holds(member, What::Resources, listed, uri))
        .map(|(member, _)| *member)
}

/// The member with the longest literal prefix; of equal ones the first.
fn by_template<'a>(known: &Known<'a>, uri: &str) -> Option<&'a Member> {
    let mut best: Option<(usize, &Member)> = None;
    for (member, listed) in known {
        for item in &listed.items {
            let Some(literal) = item.key.split('{').next() else { continue };
            if uri.starts_with(literal)
                && covers(member, &item.key, uri)
                && best.is_none_or(|(length, _)| literal.len() > length)
            {
                best = Some((literal.len(), member));
            }
        }
    }
    best.map(|(_, member)| member)
}

/// Whether the member may be asked for what it has under this template.
fn covers(member: &Member, template: &str, uri: &str) -> bool {
    member.resources.is_none()
        || (is_chosen(member, What::Templates, template) && template::expands_to(template, uri))
}

/// Who showed the URI last; where resources were chosen one by one, showing another is not choosing it.
fn emitted<'a>(asker: &Asker, scope: &'a Scope, uri: &str) -> Option<&'a Member> {
    let server = asker.engine.virtual_servers.emitted.last(&asker.agent, uri)?;
    scope.find(server).filter(|member| member.resources.is_none())
}

/// With the URI in `data`, where servers put it too (Resources, Error Handling).
fn unknown_resource(asker: &Asker, uri: &str, gathered: &Gathered<'_>) -> Refusal {
    let mut refusal = unknown(asker, What::Resources, uri, Some(gathered));
    if refusal.reason == Reason::UnknownName && !asker.is_stateless() {
        refusal.reason = Reason::UnknownResource;
    }
    refusal.with_data("uri", serde_json::Value::from(uri).to_string())
}

fn unknown(asker: &Asker, what: What, key: &str, gathered: Option<&Gathered<'_>>) -> Refusal {
    let missing = gathered.map_or(&[][..], |gathered| &gathered.refusals);
    // The owner may be one that this client cannot reach at all: if it is known to be, that is what it must know.
    let other_era = missing.iter().find(|(member, refusal)| {
        refusal.reason == Reason::EraNotBridged && is_known_of(asker, member, what, key)
    });
    if let Some((_, other_era)) = other_era {
        return other_era.clone();
    }
    let kind = match what {
        What::Prompts => "prompt",
        What::Resources | What::Templates => "resource",
        What::Tools | What::Capabilities => "tool",
    };
    let key: String = key.chars().take(128).collect();
    let hint = if missing.is_empty() {
        "list again to see what there is"
    } else {
        "some servers did not answer just now: try again later, or list again to see what there is"
    };
    Refusal::new(Reason::UnknownName, format!("this endpoint has no {kind} {key:?}; {hint}"))
}

/// Whether it was chosen of the member by this name, or listed by the member to clients of its own era.
fn is_known_of(asker: &Asker, member: &Member, what: What, key: &str) -> bool {
    let chosen = match what {
        What::Tools => &member.tools,
        What::Prompts => &member.prompts,
        What::Resources | What::Templates => &member.resources,
        What::Capabilities => &None,
    };
    match chosen {
        Some(names) => names.contains(key),
        None => asker.engine.virtual_servers.lists.is_listed(member.server, what, key),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::listed::Reading;
    use super::*;
    use crate::catalogue::testing::server_id;

    fn member(n: u8) -> Member {
        Member { server: server_id(n), alias: format!("m{n}"), tools: None, prompts: None, resources: None }
    }

    fn templates(all: &[&str]) -> Arc<Listed> {
        let items: Vec<String> =
            all.iter().map(|t| format!(r#"{{"uriTemplate":"{t}","name":"t"}}"#)).collect();
        let page =
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"resourceTemplates":[{}]}}}}"#, items.join(","));
        let mut reading = Reading::new(What::Templates);
        reading.add(&Bytes::from(page)).unwrap();
        Arc::new(reading.finish(false))
    }

    #[test]
    fn the_longest_literal_prefix_wins_and_of_equal_ones_the_first() {
        let (one, two) = (member(1), member(2));
        let known = vec![
            (&one, templates(&["file:///{path}", "x://a/{b}"])),
            (&two, templates(&["file:///docs/{path}", "x://a/{c}"])),
        ];
        let owner = |uri: &str| by_template(&known, uri).map(|member| member.alias.as_str());
        assert_eq!(owner("file:///docs/a"), Some("m2"));
        assert_eq!(owner("file:///other"), Some("m1"));
        assert_eq!(owner("x://a/1"), Some("m1"));
        assert_eq!(owner("http://a"), None);
    }

    #[test]
    fn rs_35_a_template_that_was_not_chosen_owns_nothing() {
        let one = Member { resources: Some(["file:///docs/{path}".to_owned()].into()), ..member(1) };
        let known = vec![(&one, templates(&["file:///docs/{path}", "secret:///{path}"]))];
        assert!(by_template(&known, "file:///docs/a").is_some());
        assert!(by_template(&known, "secret:///a").is_none());
        assert!(by_template(&known, "file:///docs/../a").is_none());
    }
}
