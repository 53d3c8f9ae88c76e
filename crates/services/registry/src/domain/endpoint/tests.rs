use portico_ids::ServerId;
use uuid::Uuid;

use super::*;

fn id(n: u128) -> ServerId {
    ServerId::from(Uuid::from_u128(n))
}

fn draft(n: u128, alias: Option<&str>) -> MemberDraft {
    MemberDraft {
        server_id: id(n),
        alias: alias.map(str::to_owned),
        tools: Vec::new(),
        prompts: Vec::new(),
        resources: Vec::new(),
    }
}

fn names(list: &[(u128, &str)]) -> BTreeMap<ServerId, EndpointName> {
    list.iter().map(|(n, name)| (id(*n), EndpointName::parse(name).unwrap())).collect()
}

fn aliases(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| member.alias.as_str()).collect()
}

#[test]
fn a_member_without_an_alias_gets_its_servers_name_cut_and_unique() {
    let names =
        names(&[(1, "a-very-long-server-name"), (2, "a-very-long-server-nomenclature"), (3, "github")]);
    let members = join(vec![draft(1, None), draft(2, None), draft(3, None)], &[], &names).unwrap();
    assert_eq!(aliases(&members), ["a-very-long-server-n", "a-very-long-server-2", "github"]);
}

#[test]
fn a_derived_alias_gives_way_to_one_that_was_asked_for() {
    let members =
        join(vec![draft(1, None), draft(2, Some("one"))], &[], &names(&[(1, "one"), (2, "two")])).unwrap();
    assert_eq!(aliases(&members), ["one-2", "one"]);
}

#[test]
fn an_alias_is_fixed_at_joining() {
    let names = names(&[(1, "one"), (2, "two")]);
    let current = join(vec![draft(1, Some("first"))], &[], &names).unwrap();
    assert!(matches!(
        join(vec![draft(1, Some("other"))], &current, &names),
        Err(RegistryError::AliasFixed { .. })
    ));
    let members = join(vec![draft(2, None), draft(1, None)], &current, &names).unwrap();
    assert_eq!(aliases(&members), ["two", "first"]);
    assert!(matches!(
        join(vec![draft(1, None), draft(2, Some("first"))], &current, &names),
        Err(RegistryError::AliasTaken { .. })
    ));
}

#[test]
fn members_are_at_least_one_and_each_server_once() {
    assert!(check_members(Vec::new()).is_err());
    assert!(check_members(vec![draft(1, None), draft(1, None)]).is_err());
    assert!(matches!(join(vec![draft(9, None)], &[], &names(&[])), Err(RegistryError::UnknownMember { .. })));
}

#[test]
fn plain_names_collide_only_where_both_members_show_them() {
    let names = names(&[(1, "one"), (2, "two")]);
    let mut members = join(vec![draft(1, None), draft(2, None)], &[], &names).unwrap();
    let seen = vec![
        (id(1), CapabilityKind::Tool, "search".to_owned()),
        (id(2), CapabilityKind::Tool, "search".to_owned()),
        (id(1), CapabilityKind::Prompt, "search2".to_owned()),
        (id(2), CapabilityKind::Tool, "search2".to_owned()),
        (id(1), CapabilityKind::Resource, "file:///a".to_owned()),
        (id(2), CapabilityKind::Resource, "file:///a".to_owned()),
    ];
    assert_eq!(collisions(&members, &seen).into_iter().collect::<Vec<_>>(), ["search"]);
    members[1].tools = vec!["other".to_owned()];
    assert!(collisions(&members, &seen).is_empty());
}

#[test]
fn one_server_is_plain_and_several_are_prefixed_unless_the_owner_says_otherwise() {
    let input = |members, names| EndpointInput {
        name: "e".to_owned(),
        description: String::new(),
        visibility: None,
        names,
        members,
    };
    assert_eq!(EndpointDraft::parse(input(vec![draft(1, None)], None)).unwrap().names(), Names::Plain);
    assert_eq!(
        EndpointDraft::parse(input(vec![draft(1, None), draft(2, None)], None)).unwrap().names(),
        Names::Prefixed
    );
    assert_eq!(
        EndpointDraft::parse(input(vec![draft(1, None), draft(2, None)], Some(Names::Plain)))
            .unwrap()
            .names(),
        Names::Plain
    );
}
