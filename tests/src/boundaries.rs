//! What the gateway must not grow: a database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Packages that a package is built from, the workspace's own and others, without development dependencies.
fn built_from(root: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let dependencies: BTreeMap<String, Vec<String>> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let built = dependencies.filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), built.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect();
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            open.extend(dependencies.get(&name).into_iter().flatten().cloned());
        }
    }
    found
}

#[test]
fn s3_32_the_gateway_holds_no_database_connection() {
    let built_from = built_from("portico-gateway");
    assert!(built_from.contains("portico-outbound"), "{built_from:?}");
    for database in ["sqlx", "portico-db"] {
        assert!(!built_from.contains(database), "the gateway is built from {database}");
    }
}
