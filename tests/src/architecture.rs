//! The rules of `docs/architecture.md` that a machine can check, over `cargo metadata` and the source tree.

mod sources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use sources::{SourceFile, rust_files};

/// From this floor up a package may not depend on another one of its own floor.
const SERVICES: u8 = 2;
/// Generated code: tonic brings tokio to floor 0, and the workspace lints do not apply.
const PROTO_PACKAGES: [&str; 4] =
    ["portico-proto-auth", "portico-proto-broker", "portico-proto-events", "portico-proto-registry"];
/// Vocabularies of wire types: the two names that may end in `types`.
const VOCABULARIES: [&str; 2] = ["portico-mcp-types", "portico-oauth-types"];
/// Names that say nothing about the job.
const EMPTY_NAMES: [&str; 9] =
    ["common", "core", "helper", "helpers", "misc", "shared", "types", "util", "utils"];
/// What floor 0 may not depend on: it does no I/O.
const IO_CRATES: [&str; 9] =
    ["axum", "hyper", "hyper-util", "opentelemetry", "reqwest", "sqlx", "tokio", "tonic", "tower"];
/// The floor that a folder of `crates/` stands for.
const FLOORS: [(&str, u8); 5] =
    [("vocabulary", 0), ("proto", 0), ("platform", 1), ("services", SERVICES), ("bin", 3)];
const MAX_LINES: usize = 400;
const MAX_MAKEFILE_LINES: usize = 60;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    #[serde(default)]
    metadata: Option<PackageMetadata>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct PackageMetadata {
    floor: Option<u8>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

impl Package {
    fn floor(&self) -> Option<u8> {
        self.metadata.as_ref()?.floor
    }

    fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap()
    }

    /// What the package is built from; development dependencies are free.
    fn dependencies(&self) -> impl Iterator<Item = &str> {
        self.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev")).map(|d| d.name.as_str())
    }
}

fn workspace() -> Metadata {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Fails with one line per broken rule.
fn assert_none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// The package's folder inside `crates/`, for example `("platform", "db")`.
fn place<'a>(package: &'a Package, root: &Path) -> Option<(&'a str, &'a str)> {
    let mut parts =
        package.dir().strip_prefix(root.join("crates")).ok()?.iter().map(|part| part.to_str().unwrap());
    Some((parts.next()?, parts.next()?))
}

fn floor_violations(packages: &[Package]) -> Vec<String> {
    let floors: BTreeMap<&str, u8> =
        packages.iter().filter_map(|p| Some((p.name.as_str(), p.floor()?))).collect();
    let mut broken = Vec::new();
    for package in packages {
        let Some(mine) = package.floor() else {
            broken.push(format!("{} declares no [package.metadata] floor", package.name));
            continue;
        };
        for dependency in package.dependencies() {
            let Some(&theirs) = floors.get(dependency) else { continue };
            if theirs > mine || (theirs == mine && mine >= SERVICES) {
                broken.push(format!("{} (floor {mine}) -> {dependency} (floor {theirs})", package.name));
            }
        }
    }
    broken
}

#[test]
fn packages_depend_downwards_and_services_never_on_one_another() {
    assert_none(
        "dependencies point downwards, sideways only below floor 2",
        &floor_violations(&workspace().packages),
    );
}

#[test]
fn an_upward_and_a_sideways_dependency_are_found() {
    let package = |name: &str, floor: u8, dependency: &str| Package {
        name: name.to_owned(),
        manifest_path: PathBuf::new(),
        metadata: Some(PackageMetadata { floor: Some(floor) }),
        dependencies: vec![Dependency { name: dependency.to_owned(), kind: None }],
    };
    let packages = [package("low", 0, "service"), package("service", 2, "other"), package("other", 2, "low")];
    assert_eq!(
        floor_violations(&packages),
        ["low (floor 0) -> service (floor 2)", "service (floor 2) -> other (floor 2)"]
    );
}

#[test]
fn the_declared_floor_is_the_one_of_the_folder() {
    let workspace = workspace();
    let mut broken = Vec::new();
    for package in &workspace.packages {
        let Some((folder, _)) = place(package, &workspace.workspace_root) else { continue };
        let expected = FLOORS.iter().find(|(name, _)| *name == folder).map(|(_, floor)| *floor);
        if expected.is_none() || package.floor() != expected {
            broken.push(format!(
                "{}: floor {:?}, but crates/{folder} is {expected:?}",
                package.name,
                package.floor()
            ));
        }
    }
    assert_none("crates/<folder> decides the floor", &broken);
}

#[test]
fn floor_0_does_no_io() {
    let mut broken = Vec::new();
    for package in workspace().packages.iter().filter(|p| p.floor() == Some(0)) {
        if PROTO_PACKAGES.contains(&package.name.as_str()) {
            continue;
        }
        broken.extend(
            package
                .dependencies()
                .filter(|d| IO_CRATES.contains(d))
                .map(|d| format!("{} -> {d}", package.name)),
        );
    }
    assert_none("floor 0 is vocabulary: no runtime, no I/O", &broken);
}

#[test]
fn a_program_without_a_database_is_built_without_a_driver() {
    let workspace = workspace();
    let find = |name: &str| workspace.packages.iter().find(|package| package.name == name);
    let mut broken = Vec::new();
    for program in ["gateway", "worker"] {
        let mut reached = vec![program];
        let mut next = 0;
        while let Some(package) = reached.get(next).copied() {
            next += 1;
            for dependency in find(package).iter().flat_map(|package| package.dependencies()) {
                if dependency == "sqlx" {
                    broken.push(format!("{program} -> {package} -> sqlx"));
                } else if !reached.contains(&dependency) {
                    reached.push(dependency);
                }
            }
        }
    }
    assert_none("what opens no database is built without a driver", &broken);
}

#[test]
fn packages_are_named_after_their_folder_and_their_job() {
    let workspace = workspace();
    let mut broken = Vec::new();
    for package in &workspace.packages {
        if let Some((folder, dir)) = place(package, &workspace.workspace_root) {
            let expected = if folder == "bin" { dir.to_owned() } else { format!("portico-{dir}") };
            if package.name != expected {
                broken.push(format!("{}: expected {expected}", package.name));
            }
        }
        let empty = package.name.split('-').any(|word| EMPTY_NAMES.contains(&word));
        if empty && !VOCABULARIES.contains(&package.name.as_str()) {
            broken.push(format!("{}: the name says nothing about the job", package.name));
        }
    }
    assert_none("packages are called portico-<dir>, binaries plainly <dir>", &broken);
}

#[test]
fn every_package_but_generated_code_takes_the_workspace_lints() {
    let mut broken = Vec::new();
    for package in &workspace().packages {
        let manifest: toml::Table = std::fs::read_to_string(&package.manifest_path).unwrap().parse().unwrap();
        let inherits = manifest.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool);
        if inherits != Some(true) && !PROTO_PACKAGES.contains(&package.name.as_str()) {
            broken.push(package.name.clone());
        }
    }
    assert_none("[lints] workspace = true is missing", &broken);
}

fn sources() -> Vec<SourceFile> {
    let mut files: Vec<_> =
        workspace().packages.iter().flat_map(|package| rust_files(package.dir())).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    assert!(files.len() > 20, "found {} source files only", files.len());
    files
}

#[test]
fn modules_are_named_for_their_job_and_never_mod_rs() {
    let mut broken = Vec::new();
    for file in sources() {
        if file.path.ends_with("mod.rs") {
            broken.push(format!("{}: name.rs beside name/ instead", file.path.display()));
        }
        broken.extend(
            file.module_names()
                .filter(|name| EMPTY_NAMES.contains(name))
                .map(|name| format!("{}: {name} says nothing about the job", file.path.display())),
        );
    }
    assert_none("module names", &broken);
}

#[test]
fn files_stay_short() {
    let broken: Vec<_> = sources()
        .iter()
        .filter(|file| !file.is_test())
        .map(|file| (file.lines_without_tests(), file))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, file)| format!("{}: {lines} lines", file.path.display()))
        .collect();
    assert_none("a file over 400 lines hides a missing concept (tests not counted)", &broken);
}

#[test]
fn the_makefile_stays_short_and_explains_every_target() {
    let makefile = std::fs::read_to_string(workspace().workspace_root.join("Makefile")).unwrap();
    assert!(makefile.lines().count() <= MAX_MAKEFILE_LINES, "{} lines", makefile.lines().count());
    let is_target = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(':');
    let silent: Vec<_> =
        makefile.lines().filter(is_target).filter(|l| !l.contains("## ")).map(str::to_owned).collect();
    assert_none("every target says what it does", &silent);
}
