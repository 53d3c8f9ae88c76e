use super::*;

#[test]
fn policies_that_grant_to_the_holders_are_accepted() {
    let text = r#"
        // Reads everything, and uses what is public or named so.
        permit (principal in ?principal, action == Portico::Action::"server.read", resource);
        permit (principal is Portico::User in ?principal, action == Portico::Action::"use", resource is Portico::Endpoint)
        when { resource.name like "team-*" };
    "#;
    assert_eq!(validate_policies(text), Ok(()));
    assert_eq!(validate_policies(""), Ok(()));
}

fn problem(text: &str) -> String {
    validate_policies(text).unwrap_err().join("\n")
}

#[test]
fn a_policy_that_would_grant_to_others_is_refused() {
    for text in [
        "permit (principal, action, resource);",
        r#"permit (principal == Portico::User::"x", action, resource);"#,
        r#"permit (principal in Portico::Role::"administrator", action, resource);"#,
        "permit (principal, action, resource == ?resource);",
        "permit (principal == ?principal, action, resource);",
        "permit (principal in ?principal, action, resource); permit (principal, action, resource);",
    ] {
        assert!(validate_policies(text).is_err(), "{text}");
    }
    assert!(problem("permit (principal, action, resource);").contains("write `principal in ?principal`"));
}

#[test]
fn a_role_cannot_forbid() {
    assert!(problem("forbid (principal in ?principal, action, resource);").contains("a role can only grant"));
}

#[test]
fn a_policy_that_does_not_fit_the_schema_is_refused() {
    for text in [
        r#"permit (principal in ?principal, action == Portico::Action::"server.destroy", resource);"#,
        "permit (principal in ?principal, action, resource) when { resource.colour == \"red\" };",
        "permit (principal in ?principal, action, resource is Portico::Tenant);",
        "permit (principal in ?principal, action, resource",
    ] {
        assert!(!problem(text).is_empty(), "{text}");
    }
}

/// Cedar 4.14: the parser overflows a 2 MiB stack at 64 brackets, the validator passes what is deeper than its stack.
#[test]
fn a_text_that_is_too_long_or_too_deep_is_refused_before_it_is_parsed() {
    let within = |condition: &str| {
        validate_policies(&format!(
            "permit (principal in ?principal, action, resource) when {{ {condition} }};"
        ))
    };
    assert!(problem(&" ".repeat(70_000)).contains("use several roles"));
    let brackets = |depth| format!("{}true{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(within(&brackets(31)), Ok(()));
    assert!(within(&brackets(20_000)).unwrap_err()[0].contains("nested deeper"));
    assert!(within(&format!("{}true{}", "if true then ".repeat(2000), " else true".repeat(2000))).is_err());
    for count in [8, 100, 120, 250, 300, 2000] {
        for wrong in [
            format!("resource.nope == 1{}", " && true".repeat(count)),
            format!("resource.nope{} == 1", " + 1".repeat(count)),
            format!("resource{} == 1", ".nope".repeat(count)),
        ] {
            assert!(within(&wrong).is_err(), "{count}");
        }
    }
}

#[test]
fn permissions_are_checked_by_name() {
    let permissions =
        |list: &[&str]| validate_permissions(&list.iter().map(|&p| p.to_owned()).collect::<Vec<_>>());
    assert_eq!(permissions(&["use", "server.*", "*"]), Ok(()));
    let problems = permissions(&["use", "fly", "\", resource);"]).unwrap_err();
    assert_eq!(problems.len(), 2);
    assert!(problems[0].starts_with("permission `fly` is unknown"));
}
