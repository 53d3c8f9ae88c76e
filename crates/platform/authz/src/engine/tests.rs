use cedar_policy::ValidationMode;
use portico_ids::{EndpointName, ServerId, UserId};
use proptest::prelude::*;

use super::*;
use crate::Visibility;

fn role(number: u8, name: &str, policies: &str, permissions: &[&str]) -> Role {
    let permissions = permissions.iter().map(|&permission| permission.to_owned()).collect();
    Role { id: role_id(number), name: name.to_owned(), policies: policies.to_owned(), permissions }
}

fn role_id(number: u8) -> String {
    format!("018f0000-0000-7000-8000-0000000000{number:02x}")
}

fn user(number: u128) -> PrincipalId {
    PrincipalId::User(UserId::from(uuid(number)))
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(0x018f_0000_0000_7000_8000_0000_0000_0000 + number)
}

fn endpoint(name: &str, visibility: Visibility, owner: Option<PrincipalId>) -> Resource {
    Resource::Endpoint { name: EndpointName::parse(name).unwrap(), visibility, owner }
}

fn server(number: u128, owner: Option<PrincipalId>) -> Resource {
    Resource::Server { id: ServerId::from(uuid(number)), owner, visibility: Visibility::Private }
}

fn builtins() -> Vec<Role> {
    let names = crate::BUILTIN_ROLES.iter().enumerate();
    names.map(|(number, builtin)| role(u8::try_from(number).unwrap(), builtin.name, "", &[])).collect()
}

const ADMINISTRATOR: u8 = 0;
const PUBLISHER: u8 = 1;
const AGENT: u8 = 2;
const AUDITOR: u8 = 3;

#[test]
fn the_builtin_policies_fit_the_schema() {
    let result = Validator::new(embedded_schema()).validate(&embedded_policies(), ValidationMode::Strict);
    assert!(result.validation_passed_without_warnings(), "{result}");
}

#[test]
fn the_schema_and_the_code_know_the_same_actions() {
    let schema = embedded_schema();
    let mut in_schema: Vec<String> =
        schema.actions().map(|action| action.id().unescaped().to_owned()).collect();
    in_schema.sort();
    let mut in_code: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    in_code.sort_unstable();
    assert_eq!(in_schema, in_code);
}

#[test]
fn an_administrator_may_do_everything() {
    let engine = Engine::compile(&builtins());
    let roles = [role_id(ADMINISTRATOR)];
    for &action in Action::ALL {
        for resource in
            [endpoint("tools", Visibility::Private, None), server(1, Some(user(2))), Resource::Deployment]
        {
            let reason = engine.permits(&user(1), &roles, action, &resource);
            assert_eq!(reason.as_deref(), Some("builtin.administrator"));
        }
    }
}

#[test]
fn without_a_role_nothing_is_allowed_but_what_is_public_or_owned() {
    let engine = Engine::compile(&builtins());
    for &action in Action::ALL {
        let private = endpoint("tools", Visibility::Private, Some(user(2)));
        for resource in [private, server(1, Some(user(2))), Resource::Deployment] {
            assert_eq!(engine.permits(&user(1), &[], action, &resource), None, "{action}");
        }
    }
    let public = endpoint("tools", Visibility::Public, Some(user(2)));
    assert_eq!(engine.permits(&user(1), &[], Action::Use, &public).as_deref(), Some("builtin.public"));
    assert_eq!(engine.permits(&user(1), &[], Action::EndpointUpdate, &public), None);
    let own = server(1, Some(user(1)));
    assert_eq!(engine.permits(&user(1), &[], Action::InstanceDelete, &own).as_deref(), Some("builtin.owner"));
}

#[test]
fn a_publisher_creates_and_manages_its_own_only() {
    let engine = Engine::compile(&builtins());
    let permits =
        |action, resource: &Resource| engine.permits(&user(1), &[role_id(PUBLISHER)], action, resource);
    assert!(permits(Action::ServerCreate, &Resource::Deployment).is_some());
    assert!(permits(Action::SecretWrite, &Resource::Deployment).is_some());
    assert!(permits(Action::UserCreate, &Resource::Deployment).is_none());
    assert!(permits(Action::ServerUpdate, &server(1, Some(user(1)))).is_some());
    assert!(permits(Action::ServerUpdate, &server(1, Some(user(2)))).is_none());
    let secret = |owner| Resource::Secret { reference: "github-token".to_owned(), owner: Some(owner) };
    assert!(permits(Action::SecretWrite, &secret(user(1))).is_some());
    assert!(permits(Action::SecretWrite, &secret(user(2))).is_none());
}

#[test]
fn an_auditor_reads_the_record_only() {
    let engine = Engine::compile(&builtins());
    for &action in Action::ALL {
        let allowed = engine.permits(&user(1), &[role_id(AUDITOR)], action, &Resource::Deployment).is_some();
        assert_eq!(allowed, action == Action::AuditRead, "{action}");
    }
}

#[test]
fn a_role_held_on_one_endpoint_counts_only_there() {
    let engine = Engine::compile(&builtins());
    let roles = [format!("{}@tools", role_id(AGENT))];
    let there = endpoint("tools", Visibility::Private, None);
    let elsewhere = endpoint("tools-two", Visibility::Private, None);
    assert_eq!(engine.permits(&user(1), &roles, Action::Use, &there).as_deref(), Some("builtin.agent"));
    assert_eq!(engine.permits(&user(1), &roles, Action::Use, &elsewhere), None);
    assert_eq!(engine.permits(&user(1), &roles, Action::Use, &server(1, None)), None);
    let administrator = [format!("{}@tools", role_id(ADMINISTRATOR))];
    assert_eq!(engine.permits(&user(1), &administrator, Action::UserCreate, &Resource::Deployment), None);
}

#[test]
fn a_custom_role_grants_by_permissions_and_by_policies() {
    let policies = "permit (principal in ?principal, action == Portico::Action::\"use\", resource is Portico::Endpoint) \
                    when { resource.name like \"team-*\" }; // only ours";
    let engine = Engine::compile(&[role(9, "analyst", policies, &["audit.read"])]);
    assert_eq!(engine.broken(), []);
    let permits = |action, resource: &Resource| engine.permits(&user(1), &[role_id(9)], action, resource);
    let ours = endpoint("team-data", Visibility::Private, None);
    assert_eq!(permits(Action::Use, &ours).as_deref(), Some(&*format!("role.{}.0", role_id(9))));
    assert_eq!(permits(Action::Use, &endpoint("other", Visibility::Private, None)), None);
    assert_eq!(
        permits(Action::AuditRead, &Resource::Deployment).as_deref(),
        Some(&*format!("role.{}.1", role_id(9)))
    );
    assert_eq!(engine.permits(&user(1), &[role_id(8)], Action::Use, &ours), None);
}

#[test]
fn a_broken_role_grants_nothing_and_is_reported() {
    let broken = [
        role(9, "half", "permit (principal in ?principal, action, resource); permit (", &["use"]),
        role(10, "wide", "permit (principal, action, resource);", &["use"]),
        role(11, "unknown", "", &["use", "fly"]),
        Role { id: "administrator".to_owned(), ..role(0, "sneaky", "", &[]) },
    ];
    let engine = Engine::compile(&[&broken[..], &builtins()].concat());
    let names: Vec<&str> = engine.broken().iter().map(|role| role.name.as_str()).collect();
    assert_eq!(names, ["half", "wide", "unknown", "sneaky"]);
    let held: Vec<String> = broken.iter().map(|role| role.id.clone()).collect();
    let private = endpoint("tools", Visibility::Private, None);
    assert_eq!(engine.permits(&user(1), &held, Action::Use, &private), None);
    let with_agent = [held, vec![role_id(AGENT)]].concat();
    assert!(engine.permits(&user(1), &with_agent, Action::Use, &private).is_some());
}

#[test]
fn a_service_is_no_principal_of_policies() {
    let engine = Engine::compile(&builtins());
    let gateway = PrincipalId::Service("gateway".to_owned());
    let roles = [role_id(ADMINISTRATOR)];
    assert_eq!(engine.permits(&gateway, &roles, Action::AuditRead, &Resource::Deployment), None);
}

/// The rules in ten lines of Rust, against which Cedar's answers are compared.
fn reference(
    principal: &PrincipalId,
    roles: &[(u8, Option<&str>)],
    action: Action,
    resource: &Resource,
) -> bool {
    let (name, visibility) = match resource {
        Resource::Endpoint { name, visibility, .. } => (Some(name.as_str()), Some(*visibility)),
        Resource::Server { visibility, .. } => (None, Some(*visibility)),
        _ => (None, None),
    };
    let public = [Action::Use, Action::List, Action::EndpointRead, Action::ServerRead];
    let created = [Action::ServerCreate, Action::InstanceCreate, Action::EndpointCreate, Action::SecretWrite];
    let by_role =
        roles.iter().filter(|(_, only)| only.is_none_or(|only| name == Some(only))).any(|(role, _)| {
            match *role {
                ADMINISTRATOR => true,
                PUBLISHER => *resource == Resource::Deployment && created.contains(&action),
                AGENT => matches!(action, Action::Use | Action::List) && visibility.is_some(),
                AUDITOR => action == Action::AuditRead,
                PERMITTED => PERMISSIONS.contains(&action),
                _ => false,
            }
        });
    let is_public = visibility == Some(Visibility::Public) && public.contains(&action);
    by_role || is_public || resource.owner() == Some(principal)
}

const PERMITTED: u8 = 4;
const PERMISSIONS: [Action; 3] = [Action::Use, Action::EndpointUpdate, Action::AuditRead];
const CONDITIONAL: u8 = 5;

fn all_roles() -> Vec<Role> {
    let conditional = "permit (principal is Portico::User in ?principal, action, resource) \
                       when { resource has visibility && resource.visibility == \"private\" };";
    let mut roles = builtins();
    roles.push(role(PERMITTED, "permitted", "", &PERMISSIONS.map(Action::as_str)));
    roles.push(role(CONDITIONAL, "conditional", conditional, &[]));
    roles
}

fn any_held() -> impl Strategy<Value = (u8, Option<&'static str>)> {
    (0..=CONDITIONAL, prop_oneof![Just(None), Just(Some("alpha")), Just(Some("beta"))])
}

fn any_resource() -> impl Strategy<Value = Resource> {
    let visibility = prop_oneof![Just(Visibility::Private), Just(Visibility::Public)];
    let owner = prop_oneof![Just(None), Just(Some(user(1))), Just(Some(user(2)))];
    (0..4_u8, visibility, owner, prop_oneof![Just("alpha"), Just("beta")]).prop_map(
        |(kind, visibility, owner, name)| match kind {
            0 => endpoint(name, visibility, owner),
            1 => Resource::Server { id: ServerId::from(uuid(1)), owner, visibility },
            2 => Resource::Secret { reference: name.to_owned(), owner },
            _ => Resource::Deployment,
        },
    )
}

fn entries(held: &[(u8, Option<&str>)]) -> Vec<String> {
    let entry = |(role, only): &(u8, Option<&str>)| match only {
        Some(endpoint) => format!("{}@{endpoint}", role_id(*role)),
        None => role_id(*role),
    };
    held.iter().map(entry).collect()
}

fn runner() -> proptest::test_runner::TestRunner {
    let config = ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config)
}

#[test]
fn adding_a_role_never_takes_an_allow_away() {
    let engine = Engine::compile(&all_roles());
    let strategy =
        (proptest::collection::vec(any_held(), 0..4), any_held(), 0..Action::ALL.len(), any_resource());
    let mut runner = runner();
    let outcome = runner.run(&strategy, |(held, added, action, resource)| {
        let before = engine.permits(&user(1), &entries(&held), Action::ALL[action], &resource);
        let after =
            engine.permits(&user(1), &entries(&[held, vec![added]].concat()), Action::ALL[action], &resource);
        prop_assert!(before.is_none() || after.is_some());
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn every_decision_is_the_one_of_the_reference() {
    let engine = Engine::compile(&all_roles());
    let held = any_held().prop_filter("has no simple reference", |(role, _)| *role != CONDITIONAL);
    let strategy = (proptest::collection::vec(held, 0..4), 0..Action::ALL.len(), any_resource());
    let mut runner = runner();
    let outcome = runner.run(&strategy, |(held, action, resource)| {
        let action = Action::ALL[action];
        let decided = engine.permits(&user(1), &entries(&held), action, &resource).is_some();
        prop_assert_eq!(decided, reference(&user(1), &held, action, &resource));
        Ok(())
    });
    outcome.unwrap();
}
