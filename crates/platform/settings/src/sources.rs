//! Where settings are read from.

use std::{collections::BTreeMap, fmt, path::PathBuf};

/// Prefix of every variable that is a setting.
pub const ENV_PREFIX: &str = "PORTICO_";

/// Variables with the prefix that are not settings; a trailing `*` stands for any ending.
///
/// - `PORTICO_READY_FILE`: where the command line finds a running `portico dev`.
/// - `PORTICO_TEST_*`: addresses of databases and servers for the test suites.
pub const NOT_SETTINGS: [&str; 2] = ["PORTICO_READY_FILE", "PORTICO_TEST_*"];

/// The layers above the defaults, lowest first.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// A TOML file; it must exist when it is named.
    pub file: Option<PathBuf>,
    /// The environment; variables without [`ENV_PREFIX`] are ignored.
    pub env: BTreeMap<String, String>,
    /// Keys with dots and their values, from the command line.
    pub overrides: Vec<(String, String)>,
}

impl Sources {
    /// Reads the environment of the process. For binaries only: everything else takes settings as a parameter.
    #[must_use]
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let env = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(ENV_PREFIX))?;
            // A value that is not UTF-8 gets replacement characters, which `load` refuses by name.
            Some((name, value.to_string_lossy().into_owned()))
        });
        Self { file, env: env.collect(), overrides: Vec::new() }
    }

    /// Returns the variables that are settings.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let settings = self.env.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX) && !is_excepted(name));
        settings.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Shows names only: values may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("env", &self.env.keys())
            .field("overrides", &self.overrides.iter().map(|(key, _)| key).collect::<Vec<_>>())
            .finish()
    }
}

fn is_excepted(name: &str) -> bool {
    NOT_SETTINGS.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    })
}
