//! What can be wrong with settings, in words that say where and what to do.

use std::{fmt, io, path::PathBuf};

use crate::SecretError;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The program's own default.
    Default,
    /// A line of the settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// An option of the command line.
    CommandLine(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the defaults"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::CommandLine(key) => write!(f, "command line setting {key}"),
        }
    }
}

/// A key that no setting has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The key, with dots.
    pub key: String,
    /// Where it was set.
    pub origin: Origin,
    /// The existing key that looks most like it.
    pub nearest: Option<String>,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown setting `{}` in {}", self.key, self.origin)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; the nearest setting is `{nearest}`"),
            None => f.write_str("; remove it"),
        }
    }
}

/// Why settings could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The settings file could not be read.
    #[error("settings file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The settings file is not TOML. The line itself is not shown: it may hold a secret.
    #[error("settings file {} line {line} is not valid TOML: {problem}", path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Keys that no setting has; all of them, so that one correction suffices.
    #[error("{}", list(.0))]
    UnknownKeys(Vec<UnknownKey>),
    /// A value does not fit its setting.
    #[error("setting `{key}` in {origin} is not valid: {problem}")]
    Invalid {
        /// The key, with dots.
        key: String,
        /// Where it was set.
        origin: Origin,
        /// What is wrong.
        problem: String,
    },
    /// The defaults of the program cannot be written down: a mistake in the program.
    #[error("the default settings cannot be written as JSON: {0}")]
    Defaults(#[source] serde_json::Error),
    /// A secret could not be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

fn list(keys: &[UnknownKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
