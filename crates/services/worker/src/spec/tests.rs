use serde_json::json;

use super::*;
use crate::tests::document::{INSTANCE, SERVER, to_struct};

fn parse(document: &serde_json::Value) -> Result<Spec, InvalidSpec> {
    let row = registry::InstanceSpec {
        instance_id: INSTANCE.to_owned(),
        server_id: SERVER.to_owned(),
        server_name: "weather".to_owned(),
        json_spec: Some(to_struct(document)),
        revision: 7,
    };
    Spec::of_row(row, &WorkerSettings::default())
}

#[test]
fn s4_36_a_health_check_is_a_path_or_an_object() {
    let spec = parse(&json!({"type": "url", "endpoint": "http://a.example/mcp", "health_check": "/health"}));
    let check = spec.unwrap().check;
    assert_eq!(check.url.unwrap(), "http://a.example/health");
    assert_eq!((check.interval, check.retries), (Duration::from_secs(30), 3));

    let given = json!({"path": "up?x=1", "interval": 15, "timeout": 2.5, "retries": 5});
    let spec = parse(&json!({"type": "url", "endpoint": "http://a.example/v1/mcp", "health_check": given}));
    let check = Check {
        url: Some("http://a.example/v1/up?x=1".parse().unwrap()),
        interval: Duration::from_secs(15),
        timeout: Duration::from_millis(2500),
        retries: 5,
    };
    assert_eq!(spec.unwrap().check, check);

    let spec = parse(&json!({"type": "url", "endpoint": "http://a.example/mcp"})).unwrap();
    assert_eq!(spec.check.url, None);
}

#[test]
fn a_credential_is_a_reference_and_nothing_else() {
    let with = |authentication: serde_json::Value| {
        parse(&json!({"type": "url", "endpoint": "http://a.example/mcp", "authentication": authentication}))
    };
    let spec = with(json!({"type": "bearer", "token": "secret_ref:team/key"})).unwrap();
    assert_eq!(spec.secret.as_deref(), Some("team/key"));
    assert_eq!(with(json!(null)).unwrap().secret, None);
    for wrong in [json!({"type": "bearer", "token": "bare"}), json!({"type": "basic"}), json!("x")] {
        assert_eq!(with(wrong), Err(InvalidSpec::Field("authentication")));
    }
}

#[test]
fn a_spec_that_cannot_be_acted_on_is_refused() {
    let base = json!({"type": "url", "endpoint": "http://a.example/mcp"});
    for (change, error) in [
        (json!({"type": "docker"}), InvalidSpec::Provider),
        (json!({"endpoint": "nowhere"}), InvalidSpec::Field("endpoint")),
        (json!({"timeout": "30"}), InvalidSpec::Field("timeout")),
        (json!({"timeout": 0}), InvalidSpec::Field("timeout")),
        (json!({"health_check": 3}), InvalidSpec::Field("health_check")),
        (json!({"health_check": "http://other.example/"}), InvalidSpec::Field("health_check")),
        (json!({"health_check": {"retries": 1.5}}), InvalidSpec::Field("retries")),
    ] {
        let mut document = base.clone();
        document.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(parse(&document), Err(error), "{change}");
    }
}
