//! Decisions that follow the trust feed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::{ArcSwap, Guard};
use portico_authn::{Principal, Role, TrustHandle};

use crate::{Action, BrokenRole, Decision, Resource, decisions::Decisions, engine::Engine};

/// Decides what a principal may do; clones share policies and memory.
///
/// Scopes are checked elsewhere: a scope bounds what a token can be used for, a role what its subject may do.
#[derive(Debug, Clone)]
pub struct Authorizer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    trust: TrustHandle,
    current: ArcSwap<Current>,
    compiling: Mutex<()>,
}

/// The decisions of one state of the roles.
#[derive(Debug)]
struct Current {
    roles: Arc<BTreeMap<String, Role>>,
    decisions: Decisions,
}

impl Current {
    fn compile(roles: Arc<BTreeMap<String, Role>>) -> Self {
        let decisions = Decisions::new(Engine::compile(roles.values()));
        Self { roles, decisions }
    }
}

impl Authorizer {
    /// Makes an authorizer over the roles of `trust`, whose changes it follows.
    #[must_use]
    pub fn new(trust: TrustHandle) -> Self {
        let current = Current::compile(Arc::clone(trust.load().roles()));
        Self(Arc::new(Inner { trust, current: ArcSwap::from_pointee(current), compiling: Mutex::new(()) }))
    }

    /// Decides by the roles that the trust feed shows now. A repeated question is answered from memory.
    pub fn decide(&self, principal: &Principal, action: Action, resource: &Resource) -> Decision {
        self.current().decisions.decide(&principal.id, &principal.roles, action, resource)
    }

    /// Returns the roles that grant nothing because of a mistake in them.
    #[must_use]
    pub fn broken_roles(&self) -> Vec<BrokenRole> {
        self.current().decisions.engine().broken().to_vec()
    }

    /// Returns the decisions of the newest roles, compiled first if they have changed.
    fn current(&self) -> Guard<Arc<Current>> {
        let state = self.0.trust.load();
        let current = self.0.current.load();
        if Arc::ptr_eq(&current.roles, state.roles()) {
            return current;
        }
        // A few milliseconds, once for each change of a role; whoever comes meanwhile waits for the newest policies.
        let _compiling = self.0.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = Arc::clone(self.0.trust.load().roles());
        let current = self.0.current.load();
        if !Arc::ptr_eq(&current.roles, &newest) {
            self.0.current.store(Arc::new(Current::compile(newest)));
            return self.0.current.load();
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use portico_authn::testing::TestIssuer;
    use portico_clock::MockClock;
    use portico_ids::EndpointName;
    use portico_oauth_types::ScopeSet;

    use super::*;
    use crate::{NO_PERMISSION, Visibility};

    const ROLE: &str = "018f0000-0000-7000-8000-000000000001";

    fn role(policies: &str, permissions: &[&str]) -> Role {
        let permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
        Role { id: ROLE.to_owned(), name: "analyst".to_owned(), policies: policies.to_owned(), permissions }
    }

    fn tools() -> Resource {
        let name = EndpointName::parse("tools").unwrap();
        Resource::Endpoint { name, visibility: Visibility::Private, owner: None }
    }

    fn setting() -> (TestIssuer, Principal) {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let issuer = TestIssuer::new(Arc::new(MockClock::at(now)));
        let principal = Principal {
            id: issuer.user(),
            client_id: "agent".to_owned(),
            scopes: ScopeSet::default(),
            roles: vec![ROLE.to_owned()],
            token_id: "token".to_owned(),
            key_id: String::new(),
            grant_id: None,
            issued_at: now,
            expires_at: now + TimeDelta::minutes(10),
        };
        (issuer, principal)
    }

    #[test]
    fn a_change_of_a_role_acts_at_once() {
        let (issuer, principal) = setting();
        let authorizer = Authorizer::new(issuer.trust());
        let decide = || authorizer.decide(&principal, Action::Use, &tools());
        assert_eq!(decide(), Decision { allowed: false, reason: NO_PERMISSION.to_owned() });
        issuer.put_role(role("", &["use"]));
        assert_eq!(decide(), Decision { allowed: true, reason: format!("role.{ROLE}.0") });
        issuer.put_role(role("", &["audit.read"]));
        assert!(!decide().allowed);
    }

    #[test]
    fn a_role_that_breaks_denies_and_is_reported() {
        let (issuer, principal) = setting();
        let authorizer = Authorizer::new(issuer.trust());
        issuer.put_role(role("", &["use"]));
        assert!(authorizer.decide(&principal, Action::Use, &tools()).allowed);
        issuer.put_role(role("permit (principal, action, resource);", &["use"]));
        assert!(!authorizer.decide(&principal, Action::Use, &tools()).allowed);
        let broken = authorizer.broken_roles();
        assert_eq!((broken.len(), broken[0].name.as_str()), (1, "analyst"));
    }

    #[test]
    fn other_changes_of_trust_keep_what_is_remembered() {
        let (issuer, principal) = setting();
        issuer.put_role(role("", &["use"]));
        let authorizer = Authorizer::new(issuer.trust());
        let before = Arc::as_ptr(&authorizer.0.current.load());
        issuer.revoke_token("another-token");
        assert!(authorizer.decide(&principal, Action::Use, &tools()).allowed);
        assert_eq!(Arc::as_ptr(&authorizer.0.current.load()), before);
    }
}
