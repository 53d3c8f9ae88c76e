use std::{collections::BTreeMap, fs, path::PathBuf};

use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::*;
use crate::Secret;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Settings {
    public_origin: String,
    gateway: Gateway,
    store: Store,
    limits: BTreeMap<String, Limit>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Gateway {
    listen_port: u16,
    ratio: f64,
    compress: bool,
    grace_seconds: Option<u32>,
    allowed_hosts: Vec<String>,
    ports: Vec<u16>,
    format: Format,
    password: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Human,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Store {
    Sqlite { path: PathBuf },
    Postgres { url: Secret },
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Limit {
    per_minute: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_origin: "http://127.0.0.1:8080".to_owned(),
            gateway: Gateway { listen_port: 8080, ..Gateway::default() },
            store: Store::Sqlite { path: "portico.db".into() },
            limits: BTreeMap::new(),
        }
    }
}

fn env<const N: usize>(variables: [(&str, &str); N]) -> Sources {
    let env = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Sources { env, ..Sources::default() }
}

fn file(text: &str) -> (tempfile::TempDir, Sources) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("portico.toml");
    fs::write(&path, text).unwrap();
    (directory, Sources { file: Some(path), ..Sources::default() })
}

fn refused(sources: &Sources) -> String {
    load::<Settings>(sources).unwrap_err().to_string()
}

#[test]
fn defaults_stand_when_nothing_is_set() {
    assert_eq!(load::<Settings>(&Sources::default()).unwrap(), Settings::default());
}

#[test]
fn each_layer_overrides_the_one_below_key_by_key() {
    let (_directory, mut sources) = file("[gateway]\nlisten_port = 1\nratio = 0.5\ncompress = true\n");
    sources.env = env([("PORTICO_GATEWAY__LISTEN_PORT", "2"), ("PORTICO_GATEWAY__RATIO", "0.25")]).env;
    sources.overrides = vec![("gateway.listen_port".to_owned(), "3".to_owned())];
    let gateway = load::<Settings>(&sources).unwrap().gateway;
    assert_eq!((gateway.listen_port, gateway.compress), (3, true));
    assert!((gateway.ratio - 0.25).abs() < f64::EPSILON);
}

#[test]
fn the_environment_carries_every_type() {
    let sources = env([
        ("PORTICO_PUBLIC_ORIGIN", "12345"),
        ("PORTICO_GATEWAY__COMPRESS", "true"),
        ("PORTICO_GATEWAY__GRACE_SECONDS", "9"),
        ("PORTICO_GATEWAY__ALLOWED_HOSTS", "a.example, b.example"),
        ("PORTICO_GATEWAY__PORTS", "[1, 2]"),
        ("PORTICO_GATEWAY__FORMAT", "json"),
        ("PORTICO_GATEWAY__PASSWORD", "8675309"),
        ("PORTICO_LIMITS__AGENTS__PER_MINUTE", "60"),
    ]);
    let settings = load::<Settings>(&sources).unwrap();
    assert_eq!(settings.public_origin, "12345");
    assert!(settings.gateway.compress);
    assert_eq!(settings.gateway.grace_seconds, Some(9));
    assert_eq!(settings.gateway.allowed_hosts, ["a.example", "b.example"]);
    assert_eq!(settings.gateway.ports, [1, 2]);
    assert_eq!(settings.gateway.format, Format::Json);
    assert_eq!(settings.gateway.password.unwrap().load().unwrap().expose_secret(), "8675309");
    assert_eq!(settings.limits["agents"].per_minute, 60);
    let numbers = load::<Settings>(&env([("PORTICO_GATEWAY__PORTS", "1,2,3")])).unwrap();
    assert_eq!(numbers.gateway.ports, [1, 2, 3]);
}

#[test]
fn a_secret_may_come_from_a_file_named_in_the_environment() {
    for variable in [
        ("PORTICO_GATEWAY__PASSWORD__FILE", "/run/secrets/password"),
        ("PORTICO_GATEWAY__PASSWORD", "{\"file\": \"/run/secrets/password\"}"),
    ] {
        let settings = load::<Settings>(&env([variable])).unwrap();
        assert_eq!(settings.gateway.password, Some(Secret::file("/run/secrets/password")));
    }
    let looks_like_json = load::<Settings>(&env([("PORTICO_GATEWAY__PASSWORD", "{\"a\":1}")])).unwrap();
    assert_eq!(looks_like_json.gateway.password.unwrap().load().unwrap().expose_secret(), "{\"a\":1}");
}

#[test]
fn another_variant_starts_without_the_fields_of_the_default_one() {
    let (_directory, mut sources) =
        file("[store]\nurl = { file = \"/run/secrets/url\" }\nkind = \"postgres\"\n");
    let settings = load::<Settings>(&sources).unwrap();
    assert_eq!(settings.store, Store::Postgres { url: Secret::file("/run/secrets/url") });
    sources.env = env([("PORTICO_STORE__URL", "postgres://localhost/portico")]).env;
    let Store::Postgres { url } = load::<Settings>(&sources).unwrap().store else { panic!("not postgres") };
    assert_eq!(url.load().unwrap().expose_secret(), "postgres://localhost/portico");
}

#[test]
fn an_unknown_key_in_a_file_is_refused_with_line_and_nearest_key() {
    let (_directory, sources) = file("public_origin = \"http://x\"\n\n[gateway]\nlisten_prot = 1\n");
    let message = refused(&sources);
    let path = sources.file.unwrap();
    assert_eq!(
        message,
        format!(
            "unknown setting `gateway.listen_prot` in {} line 4; the nearest setting is `gateway.listen_port`",
            path.display()
        )
    );
}

#[test]
fn unknown_keys_of_every_source_are_reported_at_once() {
    let mut sources = env([("PORTICO_GATWAY__LISTEN_PORT", "1"), ("PORTICO_ZZZZZZZZ", "1")]);
    sources.overrides = vec![("limits.agents.per_minuet".to_owned(), "1".to_owned())];
    insta::assert_snapshot!(refused(&sources), @r"
    unknown setting `zzzzzzzz` in environment variable PORTICO_ZZZZZZZZ; remove it
    unknown setting `gatway.listen_port` in environment variable PORTICO_GATWAY__LISTEN_PORT; the nearest setting is `gateway.listen_port`
    unknown setting `limits.agents.per_minuet` in command line setting limits.agents.per_minuet; remove it
    ");
}

#[test]
fn an_unknown_key_inside_a_json_variable_is_refused() {
    let message = refused(&env([("PORTICO_LIMITS", "{\"agents\": {\"per_hour\": 1}}")]));
    assert!(
        message
            .starts_with("unknown setting `limits.agents.per_hour` in environment variable PORTICO_LIMITS")
    );
}

#[test]
fn variables_that_are_not_settings_are_left_alone() {
    let sources = env([
        ("PORTICO_READY_FILE", "/tmp/ready.json"),
        ("PORTICO_TEST_POSTGRES_URL", "postgres://localhost"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(load::<Settings>(&sources).unwrap(), Settings::default());
}

#[test]
fn a_value_that_does_not_fit_names_key_and_origin() {
    let message = refused(&env([("PORTICO_GATEWAY__LISTEN_PORT", "http")]));
    assert_eq!(
        message,
        "setting `gateway.listen_port` in environment variable PORTICO_GATEWAY__LISTEN_PORT is not valid: \
         expected u16"
    );
    let (_directory, sources) = file("[gateway]\nports = [1, 99999]\n");
    let message = refused(&sources);
    assert!(message.starts_with("setting `gateway.ports.1` in "), "{message}");
    assert!(message.contains("line 2 is not valid: expected u16"), "{message}");
}

#[test]
fn a_secret_in_the_wrong_place_is_not_shown() {
    for name in ["GATEWAY", "STORE", "LIMITS", "STORE__KIND", "GATEWAY__FORMAT", "GATEWAY__PORTS"] {
        for value in ["hunter2", "[\"hunter2\"]", "a, expected hunter2"] {
            let message = refused(&env([(&format!("PORTICO_{name}"), value)]));
            assert!(message.contains(name) && !message.contains("hunter2"), "{message}");
        }
    }
    let message = refused(&env([("PORTICO_GATEWAY", "hunter2")]));
    assert!(
        message.ends_with("expected a section: set the keys inside it, not the section itself"),
        "{message}"
    );
}

#[test]
fn a_broken_file_is_refused_by_line_without_showing_it() {
    let (_directory, sources) = file("public_origin = \"http://x\"\npassword = \"hunter2\n");
    let message = refused(&sources);
    assert!(message.contains("portico.toml line 2 is not valid TOML"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    let missing = Sources { file: Some("/nonexistent/portico.toml".into()), ..Sources::default() };
    assert!(refused(&missing).starts_with("settings file /nonexistent/portico.toml cannot be read"));
}

#[test]
fn a_variable_that_is_not_utf_8_is_refused() {
    let message = refused(&env([("PORTICO_PUBLIC_ORIGIN", "\u{fffd}")]));
    assert!(
        message.contains("PORTICO_PUBLIC_ORIGIN is not valid: the value is not valid UTF-8"),
        "{message}"
    );
}

#[test]
fn sources_do_not_show_values() {
    let mut sources = env([("PORTICO_GATEWAY__PASSWORD", "hunter2")]);
    sources.overrides = vec![("gateway.password".to_owned(), "hunter2".to_owned())];
    let shown = format!("{sources:?}");
    assert!(shown.contains("PORTICO_GATEWAY__PASSWORD") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_schema_documents_every_key() {
    let schema = schema::<Settings>();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["public_origin"]["default"], "http://127.0.0.1:8080");
    assert!(schema["$defs"]["Gateway"]["properties"]["listen_port"].is_object());
}
