//! Which scopes mean something where (AS-14, AS-22).

use portico_oauth_types::{Scope, ScopeSet};

use super::resource::Target;

/// Scopes that ask for something at login instead of allowing an action.
const OIDC: [Scope; 4] = [Scope::Openid, Scope::Profile, Scope::Email, Scope::OfflineAccess];

/// Nothing that was asked for can be granted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("none of the requested scopes applies to this resource: ask for {applicable}")]
pub(crate) struct NoScope {
    applicable: ScopeSet,
}

/// Returns the scopes that mean something for a target.
pub(crate) fn applicable(target: &Target) -> ScopeSet {
    let actions: &[Scope] = match target {
        Target::Root | Target::Endpoint(_) => &[Scope::Mcp],
        Target::Api => &[Scope::RegistryRead, Scope::RegistryWrite, Scope::Admin],
    };
    actions.iter().chain(&OIDC).copied().collect()
}

/// Returns what a request without `scope` gets (RFC 6749 §3.3).
pub(crate) fn default_for(target: &Target) -> ScopeSet {
    match target {
        Target::Root | Target::Endpoint(_) => Scope::Mcp.into(),
        Target::Api => [Scope::RegistryRead, Scope::RegistryWrite].into_iter().collect(),
    }
}

/// Decides what a request gets: what it names and applies here, or the default.
/// Scopes of OpenID Connect alone get the default beside them: a token that allows nothing helps nobody.
pub(crate) fn grantable(requested: Option<ScopeSet>, target: &Target) -> Result<ScopeSet, NoScope> {
    let Some(requested) = requested else { return Ok(default_for(target)) };
    let applicable = applicable(target);
    let granted: ScopeSet = requested.iter().filter(|scope| applicable.contains(*scope)).collect();
    let actions = OIDC.iter().fold(granted, |set, scope| set.without(*scope));
    if !actions.is_empty() {
        return Ok(granted);
    }
    let asked_for_other_actions = !OIDC.iter().fold(requested, |set, scope| set.without(*scope)).is_empty();
    if asked_for_other_actions {
        return Err(NoScope { applicable });
    }
    Ok(granted.union(default_for(target)))
}

/// Returns what an authorization gives for a target: the scopes that were asked for now, else those that were
/// granted and, by the hierarchy, those that they imply, as far as they apply there.
pub(crate) fn carried_over(granted: ScopeSet, requested: Option<ScopeSet>, target: &Target) -> ScopeSet {
    let applicable = applicable(target);
    let wanted = requested.unwrap_or_else(|| granted.union(default_for(target)));
    wanted.iter().filter(|scope| applicable.contains(*scope) && granted.covers(scope)).collect()
}

/// Says in a person's words what a scope allows.
pub(crate) const fn in_words(scope: Scope) -> &'static str {
    match scope {
        Scope::Mcp => "Use tools, prompts and resources on your behalf",
        Scope::RegistryRead => "See registered servers and endpoints",
        Scope::RegistryWrite => "Register, change and remove servers and endpoints",
        Scope::Admin => "Administer Portico: people, roles, grants and keys",
        Scope::Openid => "Know who you are",
        Scope::Profile => "See your name and user name",
        Scope::Email => "See your e-mail address",
        Scope::OfflineAccess => "Stay connected while you are away",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(requested: &str, target: &Target) -> Result<String, NoScope> {
        grantable(Some(requested.parse().unwrap()), target).map(|scopes| scopes.to_string())
    }

    #[test]
    fn as_14_without_scope_the_default_is_granted() {
        assert_eq!(grantable(None, &Target::Root).unwrap().to_string(), "mcp");
        assert_eq!(grantable(None, &Target::Api).unwrap().to_string(), "registry:read registry:write");
        assert_eq!(granted("openid", &Target::Root).unwrap(), "mcp openid");
    }

    #[test]
    fn s1_10_scopes_of_the_other_plane_are_never_granted() {
        assert_eq!(granted("mcp admin registry:write", &Target::Root).unwrap(), "mcp");
        assert_eq!(granted("mcp admin", &Target::Api).unwrap(), "admin");
        assert!(granted("admin", &Target::Root).is_err());
        assert!(granted("mcp", &Target::Api).is_err());
    }

    #[test]
    fn as_22_another_target_never_gets_more_than_was_granted() {
        let set = |text: &str| text.parse::<ScopeSet>().unwrap();
        let over = |granted: &str, requested: Option<&str>, target: &Target| {
            carried_over(set(granted), requested.map(set), target).to_string()
        };
        assert_eq!(over("admin openid", None, &Target::Root), "mcp openid");
        assert_eq!(over("admin", Some("mcp"), &Target::Root), "mcp");
        assert_eq!(over("registry:write", None, &Target::Root), "");
        assert_eq!(over("mcp", None, &Target::Root), "mcp");
        assert_eq!(over("registry:read", None, &Target::Api), "registry:read");
    }
}
