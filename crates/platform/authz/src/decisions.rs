//! Decisions of one compiled policy set, remembered.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use moka::sync::Cache;
use portico_ids::PrincipalId;

use crate::{Action, Resource, engine::Engine};

/// Reason of a denial when no policy permits.
pub const NO_PERMISSION: &str = "no_permission";

/// Most decisions that are remembered; an entry takes some 300 bytes.
const CAPACITY: u64 = 20_000;

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Id of the policy that permits, e.g. `builtin.owner` or `role.<role id>.0`; [`NO_PERMISSION`] if none does.
    pub reason: String,
}

/// A policy set with its cache: a new set starts with an empty one, so nothing stale is ever answered.
pub(crate) struct Decisions {
    engine: Engine,
    hasher: RandomState,
    cache: Cache<u64, Arc<Remembered>>,
}

/// A decision with the whole question, because a hash alone does not prove that the question is the same.
struct Remembered {
    principal: PrincipalId,
    roles: Vec<String>,
    action: Action,
    resource: Resource,
    decision: Decision,
}

impl Remembered {
    fn answers(
        &self,
        principal: &PrincipalId,
        roles: &[String],
        action: Action,
        resource: &Resource,
    ) -> bool {
        self.action == action
            && self.principal == *principal
            && self.resource == *resource
            && self.roles == roles
    }
}

impl Decisions {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, hasher: RandomState::new(), cache: Cache::new(CAPACITY) }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Decides from memory, or by evaluating the policies.
    pub(crate) fn decide(
        &self,
        principal: &PrincipalId,
        roles: &[String],
        action: Action,
        resource: &Resource,
    ) -> Decision {
        // Conditions of policies may look at the principal itself, so its roles alone are not enough of a key.
        let key = self.hasher.hash_one((principal, roles, action, resource));
        if let Some(found) = self.cache.get(&key)
            && found.answers(principal, roles, action, resource)
        {
            return found.decision.clone();
        }
        let permitted = self.engine.permits(principal, roles, action, resource);
        let decision = Decision {
            allowed: permitted.is_some(),
            reason: permitted.unwrap_or_else(|| NO_PERMISSION.to_owned()),
        };
        let remembered = Remembered {
            principal: principal.clone(),
            roles: roles.to_vec(),
            action,
            resource: resource.clone(),
            decision: decision.clone(),
        };
        self.cache.insert(key, Arc::new(remembered));
        decision
    }
}

impl fmt::Debug for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decisions").field("remembered", &self.cache.entry_count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use portico_ids::{EndpointName, UserId};

    use super::*;
    use crate::Visibility;

    #[test]
    fn a_remembered_decision_is_the_same_and_answers_no_other_question() {
        let decisions = Decisions::new(Engine::compile([]));
        let user = |number| PrincipalId::User(UserId::from(uuid::Uuid::from_u128(number)));
        let owned = |owner| Resource::Endpoint {
            name: EndpointName::parse("tools").unwrap(),
            visibility: Visibility::Private,
            owner: Some(owner),
        };
        for _ in 0..3 {
            let own = decisions.decide(&user(1), &[], Action::Use, &owned(user(1)));
            assert_eq!(own, Decision { allowed: true, reason: "builtin.owner".to_owned() });
            let foreign = decisions.decide(&user(2), &[], Action::Use, &owned(user(1)));
            assert_eq!(foreign, Decision { allowed: false, reason: NO_PERMISSION.to_owned() });
        }
        decisions.cache.run_pending_tasks();
        assert_eq!(decisions.cache.entry_count(), 2);
    }

    #[test]
    fn a_colliding_hash_does_not_lend_a_decision() {
        let user = |number| PrincipalId::User(UserId::from(uuid::Uuid::from_u128(number)));
        let remembered = Remembered {
            principal: user(1),
            roles: vec!["a".to_owned()],
            action: Action::Use,
            resource: Resource::Deployment,
            decision: Decision { allowed: true, reason: "builtin.administrator".to_owned() },
        };
        let roles = ["a".to_owned()];
        assert!(remembered.answers(&user(1), &roles, Action::Use, &Resource::Deployment));
        assert!(!remembered.answers(&user(2), &roles, Action::Use, &Resource::Deployment));
        assert!(!remembered.answers(&user(1), &[], Action::Use, &Resource::Deployment));
        assert!(!remembered.answers(&user(1), &roles, Action::List, &Resource::Deployment));
    }
}
