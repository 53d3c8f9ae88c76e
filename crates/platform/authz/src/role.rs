//! From the text of a role to policies that grant to whoever holds it.

use cedar_policy::{
    Effect, ParseErrors, PolicyId, PolicySet, SlotId, Template, TemplatePrincipalConstraint, ValidationMode,
    Validator,
};
use portico_authn::Role;

use crate::{
    Action,
    complexity::{too_complex, with_deep_stack},
    engine::embedded_schema,
};

/// A role that ships with Portico; its policies are part of this crate, and its name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltinRole {
    /// Name of the role.
    pub name: &'static str,
    /// What its holders may do.
    pub description: &'static str,
}

/// The roles that ship with Portico.
pub const BUILTIN_ROLES: [BuiltinRole; 4] = [
    BuiltinRole { name: "administrator", description: "May do everything." },
    BuiltinRole {
        name: "publisher",
        description: "Registers servers, publishes endpoints, and manages its own.",
    },
    BuiltinRole { name: "agent", description: "Uses every endpoint, or the one that the grant names." },
    BuiltinRole { name: "auditor", description: "Reads the record of who did what." },
];

/// Tells whether the policies of a role are those of this crate.
pub(crate) fn is_builtin(role: &Role) -> bool {
    BUILTIN_ROLES.iter().any(|builtin| builtin.name == role.name)
}

/// A role whose text cannot be used, so that it grants nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRole {
    /// Id of the role.
    pub id: String,
    /// Name of the role.
    pub name: String,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

/// Checks the policies of a role; the problems say what is wrong and what to write instead.
pub fn validate_policies(text: &str) -> Result<(), Vec<String>> {
    templates(text, &Validator::new(embedded_schema())).map(drop)
}

/// Checks the permissions of a role: actions, families such as `server.*`, or `*`.
pub fn validate_permissions(permissions: &[String]) -> Result<(), Vec<String>> {
    permission_policy(permissions).map(drop)
}

/// Compiles a role; a single mistake anywhere makes the whole role void.
pub(crate) fn compile(role: &Role, validator: &Validator) -> Result<Vec<Template>, Vec<String>> {
    let mut text = role.policies.clone();
    if let Some(policy) = permission_policy(&role.permissions)? {
        // A comment without its line feed must not swallow what follows.
        text.push('\n');
        text.push_str(&policy);
    }
    templates(&text, validator)
}

/// Writes the permissions of a role as one policy.
fn permission_policy(permissions: &[String]) -> Result<Option<String>, Vec<String>> {
    let mut problems = Vec::new();
    let mut actions = Vec::new();
    for permission in permissions {
        let found = Action::matching(permission);
        if found.is_empty() {
            problems.push(format!(
                "permission `{permission}` is unknown: use an action such as `use` or `server.create`, a family such \
                 as `server.*`, or `*`"
            ));
        }
        actions.extend(found.iter().map(|action| format!("Portico::Action::\"{action}\"")));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let actions = actions.join(", ");
    Ok((!actions.is_empty())
        .then(|| format!("permit (principal in ?principal, action in [{actions}], resource);")))
}

fn templates(text: &str, validator: &Validator) -> Result<Vec<Template>, Vec<String>> {
    if let Some(problem) = too_complex(text) {
        return Err(vec![problem]);
    }
    with_deep_stack(|| parse(text, validator))
        .unwrap_or_else(|| Err(vec!["no thread could be started".to_owned()]))
}

fn parse(text: &str, validator: &Validator) -> Result<Vec<Template>, Vec<String>> {
    let set: PolicySet = text
        .parse()
        .map_err(|errors: ParseErrors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let mut problems: Vec<String> = set
        .policies()
        .map(|policy| {
            format!("{}: write `principal in ?principal`, so that it grants to holders only", policy.id())
        })
        .collect();
    // The parser numbers policies in the order of the text; reasons keep that order.
    let mut templates: Vec<Template> = set.templates().cloned().collect();
    templates.sort_by_key(|template| ordinal(template.id()));
    problems.extend(templates.iter().filter_map(misuse));
    if problems.is_empty() {
        let result = validator.validate(&set, ValidationMode::Strict);
        problems.extend(result.validation_errors().map(ToString::to_string));
    }
    if problems.is_empty() { Ok(templates) } else { Err(problems) }
}

/// Says why a template could do more, or less, than grant to the holders of its role.
fn misuse(template: &Template) -> Option<String> {
    let id = template.id();
    if template.effect() != Effect::Permit {
        return Some(format!(
            "{id}: a role can only grant, write `permit` and leave out what it shall not do"
        ));
    }
    if template.slots().any(|slot| *slot != SlotId::principal()) {
        return Some(format!("{id}: `?resource` is not filled in, name the resource or use a condition"));
    }
    match template.principal_constraint() {
        TemplatePrincipalConstraint::In(None) | TemplatePrincipalConstraint::IsIn(_, None) => None,
        _ => Some(format!("{id}: write `principal in ?principal`, because ?principal is the role")),
    }
}

fn ordinal(id: &PolicyId) -> usize {
    let text: &str = id.as_ref();
    text.trim_start_matches(|character: char| !character.is_ascii_digit()).parse().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
