//! The settings of the programs that `portico` is not.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

/// A program with settings of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Program {
    Gateway,
    AuthServer,
    Registry,
    Worker,
    Migrator,
}

impl Program {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::AuthServer => "auth-server",
            Self::Registry => "registry",
            Self::Worker => "worker",
            Self::Migrator => "migrator",
        }
    }

    /// The published schema; each program tests that it is its own.
    pub(super) const fn schema(self) -> &'static str {
        match self {
            Self::Gateway => include_str!("../../../../../docs/settings/gateway.schema.json"),
            Self::AuthServer => include_str!("../../../../../docs/settings/auth-server.schema.json"),
            Self::Registry => include_str!("../../../../../docs/settings/registry.schema.json"),
            Self::Worker => include_str!("../../../../../docs/settings/worker.schema.json"),
            Self::Migrator => include_str!("../../../../../docs/settings/migrator.schema.json"),
        }
        .trim_ascii_end()
    }

    /// Has the program itself look at its settings: it alone knows which files and addresses they have to lead to.
    pub(super) fn check(self, config: Option<&Path>) -> Result<()> {
        let name = self.name();
        let mut command = Command::new(beside(name).unwrap_or_else(|| name.into()));
        command.args(["config", "check"]);
        if let Some(file) = config {
            command.arg("--config").arg(file);
        }
        let output = match command.output() {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "the program {name} is neither beside portico nor in PATH: run `{name} config check` where it is \
                 installed, its image does so with `/app config check`"
            ),
            output => output.with_context(|| format!("the program {name} cannot be run"))?,
        };
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("{}", String::from_utf8_lossy(&said).trim_end());
        }
        Ok(())
    }
}

/// The program that was installed with this one.
fn beside(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name(name);
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_schema_and_the_name_that_it_is_called_by() {
        for program in Program::value_variants() {
            let schema: serde_json::Value = serde_json::from_str(program.schema()).unwrap();
            assert!(schema["properties"].is_object(), "{}", program.name());
            assert_eq!(program.to_possible_value().unwrap().get_name(), program.name());
        }
    }
}
