//! The compiled policy set and its evaluation.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId,
    PolicySet, PolicySetError, Request, RestrictedExpression, Schema, SlotId, Validator,
};
use portico_authn::Role;
use portico_ids::{PrincipalId, RoleId};

use crate::{
    Action, Resource,
    role::{self, BrokenRole},
};

const SCHEMA: &str = include_str!("portico.cedarschema");
const BUILTIN: &str = include_str!("builtin.cedar");

/// Every policy that holds now, compiled.
#[derive(Debug)]
pub(crate) struct Engine {
    names: Names,
    policies: PolicySet,
    /// Role id to the entity that its policies are linked to.
    roles: HashMap<String, EntityUid>,
    broken: Vec<BrokenRole>,
}

/// The entity types and actions of the schema, parsed once.
#[derive(Debug)]
struct Names {
    user: EntityTypeName,
    service_account: EntityTypeName,
    role: EntityTypeName,
    endpoint: EntityTypeName,
    server: EntityTypeName,
    secret: EntityTypeName,
    deployment: EntityTypeName,
    action: EntityTypeName,
}

/// Returns the schema that ships with this crate.
#[expect(clippy::expect_used, reason = "the text is part of the program and a test parses it")]
pub(crate) fn embedded_schema() -> Schema {
    let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA).expect("the embedded schema parses");
    schema
}

/// Returns the built-in policies, each under the id of its `@id` annotation.
#[expect(clippy::expect_used, reason = "the text is part of the program and a test parses it")]
fn embedded_policies() -> PolicySet {
    let parsed: PolicySet = BUILTIN.parse().expect("the built-in policies parse");
    let named = parsed.policies().map(|policy| {
        let id = policy.annotation("id").expect("every built-in policy has an id");
        policy.new_id(PolicyId::new(id))
    });
    PolicySet::from_policies(named).expect("the ids of built-in policies differ")
}

impl Names {
    #[expect(
        clippy::expect_used,
        reason = "the names are constants and every test of this crate parses them"
    )]
    fn new() -> Self {
        let name = |kind: &str| format!("Portico::{kind}").parse().expect("an entity type name parses");
        Self {
            user: name("User"),
            service_account: name("ServiceAccount"),
            role: name("Role"),
            endpoint: name("Endpoint"),
            server: name("Server"),
            secret: name("Secret"),
            deployment: name("Deployment"),
            action: name("Action"),
        }
    }
}

fn uid(kind: &EntityTypeName, id: impl AsRef<str>) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

impl Engine {
    /// Compiles the built-in policies and those of `roles`. A broken role is left out and reported.
    pub(crate) fn compile<'a>(roles: impl IntoIterator<Item = &'a Role>) -> Self {
        let validator = Validator::new(embedded_schema());
        let mut engine = Self {
            names: Names::new(),
            policies: embedded_policies(),
            roles: HashMap::new(),
            broken: Vec::new(),
        };
        for role in roles {
            if let Err(problems) = engine.add(role, &validator) {
                tracing::error!(role.id, role.name, ?problems, "role is broken and grants nothing");
                engine.broken.push(BrokenRole { id: role.id.clone(), name: role.name.clone(), problems });
            }
        }
        engine
    }

    /// Returns the roles that grant nothing because of a mistake in them.
    pub(crate) fn broken(&self) -> &[BrokenRole] {
        &self.broken
    }

    fn add(&mut self, role: &Role, validator: &Validator) -> Result<(), Vec<String>> {
        // Only an id of the proper form is taken: a text such as "administrator" would name a built-in role.
        if role.id.parse::<RoleId>().is_err() {
            return Err(vec![format!("role id `{}` is not a UUID", role.id)]);
        }
        if role::is_builtin(role) {
            self.roles.insert(role.id.clone(), uid(&self.names.role, &role.name));
            return Ok(());
        }
        let entity = uid(&self.names.role, &role.id);
        let templates = role::compile(role, validator)?;
        for (number, template) in templates.iter().enumerate() {
            let link = PolicyId::new(format!("role.{}.{number}", role.id));
            let id = PolicyId::new(format!("template.{}.{number}", role.id));
            let values = HashMap::from([(SlotId::principal(), entity.clone())]);
            let problem = |error: PolicySetError| vec![error.to_string()];
            self.policies.add_template(template.new_id(id.clone())).map_err(problem)?;
            self.policies.link(id, link, values).map_err(problem)?;
        }
        // Only now does anybody hold the role: what a failure above leaves behind grants to no one.
        self.roles.insert(role.id.clone(), entity);
        Ok(())
    }

    /// Evaluates every policy: the id of one that permits, or nothing if none does.
    pub(crate) fn permits(
        &self,
        principal: &PrincipalId,
        roles: &[String],
        action: Action,
        resource: &Resource,
    ) -> Option<String> {
        let (request, entities) = self.question(principal, roles, action, resource)?;
        let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        for error in response.diagnostics().errors() {
            // The policy counts as not written, and none forbids: an error can only deny.
            tracing::warn!(%error, action = action.as_str(), "policy could not be evaluated");
        }
        match response.decision() {
            Decision::Allow => response.diagnostics().reason().min().map(ToString::to_string),
            Decision::Deny => None,
        }
    }

    /// Puts the decision into Cedar's terms; nothing for a principal that holds no permission by nature.
    fn question(
        &self,
        principal: &PrincipalId,
        roles: &[String],
        action: Action,
        resource: &Resource,
    ) -> Option<(Request, Entities)> {
        let subject = match principal {
            PrincipalId::User(id) => uid(&self.names.user, id.to_string()),
            PrincipalId::ServiceAccount(id) => uid(&self.names.service_account, id.to_string()),
            // Portico's services are known by their certificates and never come with roles.
            PrincipalId::Service(_) => return None,
        };
        let parents = self.effective(roles, resource);
        let id = HashMap::from([("id".to_owned(), RestrictedExpression::new_string(principal.to_string()))]);
        let subject_entity = Entity::new(subject.clone(), id, parents).ok()?;
        let object_entity = self.object(resource)?;
        let object = object_entity.uid();
        let action = uid(&self.names.action, action.as_str());
        let request = Request::new(subject, action, object, Context::empty(), None).ok()?;
        let entities = Entities::from_entities([subject_entity, object_entity], None).ok()?;
        Some((request, entities))
    }

    /// Returns the roles that count for this resource: those held everywhere, and those held on this endpoint.
    fn effective(&self, roles: &[String], resource: &Resource) -> HashSet<EntityUid> {
        let here = |endpoint: &str| match resource {
            Resource::Endpoint { name, .. } => name.as_str() == endpoint,
            _ => false,
        };
        let held = roles.iter().filter_map(|entry| match entry.split_once('@') {
            None => self.roles.get(entry),
            Some((role, endpoint)) => self.roles.get(role).filter(|_| here(endpoint)),
        });
        held.cloned().collect()
    }

    fn object(&self, resource: &Resource) -> Option<Entity> {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let mut attributes: HashMap<String, RestrictedExpression> = HashMap::new();
        if let Some(owner) = resource.owner() {
            attributes.insert("owner".to_owned(), text(&owner.to_string()));
        }
        let uid = match resource {
            Resource::Endpoint { name, visibility, .. } => {
                attributes.insert("name".to_owned(), text(name.as_str()));
                attributes.insert("visibility".to_owned(), text(visibility.as_str()));
                uid(&self.names.endpoint, name.as_str())
            }
            Resource::Server { id, visibility, .. } => {
                attributes.insert("id".to_owned(), text(&id.to_string()));
                attributes.insert("visibility".to_owned(), text(visibility.as_str()));
                uid(&self.names.server, id.to_string())
            }
            Resource::Secret { reference, .. } => {
                attributes.insert("reference".to_owned(), text(reference));
                uid(&self.names.secret, reference)
            }
            Resource::Deployment => uid(&self.names.deployment, "portico"),
        };
        Entity::new(uid, attributes, HashSet::new()).ok()
    }
}

#[cfg(test)]
mod tests;
