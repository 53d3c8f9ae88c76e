//! Secrets in settings: inline for development, from a file in production.

use std::{borrow::Cow, fmt, fs::File, io, io::Read as _, path::PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::SerializeStruct as _};

use crate::SettingsError;

/// What an inline secret is written as; it is refused as a secret.
const REDACTED: &str = "<redacted>";
/// Longest secret file: a key or a certificate chain fits, a mistaken path to a disk image does not.
const MAX_BYTES: u64 = 64 * 1024;

/// A secret in a settings file: `"text"` or `{ file = "/path" }`.
#[derive(Clone)]
pub struct Secret(Source);

#[derive(Clone)]
enum Source {
    Inline(SecretString),
    File(PathBuf),
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be read.
    #[error("secret file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds nothing.
    #[error("secret file {} is empty: write the secret into it", .0.display())]
    Empty(PathBuf),
    /// The file is too long to be a secret.
    #[error("secret file {} is longer than {MAX_BYTES} bytes: is it the right file?", .0.display())]
    TooLong(PathBuf),
}

impl Secret {
    /// Makes an inline secret.
    #[must_use]
    pub fn inline(secret: SecretString) -> Self {
        Self(Source::Inline(secret))
    }

    /// Makes a secret that is read from `path` each time it is loaded, so that a rotation is seen.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// Returns the secret; one line feed at the end of a file is not part of it.
    pub fn load(&self) -> Result<SecretString, SettingsError> {
        match &self.0 {
            Source::Inline(secret) => Ok(secret.clone()),
            Source::File(path) => Ok(read(path)?),
        }
    }
}

fn read(path: &PathBuf) -> Result<SecretString, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.clone(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(SecretError::TooLong(path.clone()));
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(SecretError::Empty(path.clone()));
    }
    Ok(SecretString::from(text))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Inline(_) => f.write_str("Secret(<redacted>)"),
            Source::File(path) => write!(f, "Secret(file {})", path.display()),
        }
    }
}

/// Tells whether two settings name the same secret.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Inline(one), Source::Inline(two)) => one.expose_secret() == two.expose_secret(),
            (Source::File(one), Source::File(two)) => one == two,
            _ => false,
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Source::Inline(_) => serializer.serialize_str(REDACTED),
            Source::File(path) => {
                let mut table = serializer.serialize_struct("Secret", 1)?;
                table.serialize_field("file", path)?;
                table.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Untagged, so that no error message repeats the value.
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a text or { file = \"/path\" }")]
        enum Written {
            Inline(SecretString),
            File { file: PathBuf },
        }
        match Written::deserialize(deserializer)? {
            Written::Inline(secret) if secret.expose_secret().is_empty() => {
                Err(D::Error::custom("the secret is empty"))
            }
            Written::Inline(secret) if secret.expose_secret() == REDACTED => Err(D::Error::custom(
                "the secret was redacted when these settings were written: set it again",
            )),
            Written::Inline(secret) => Ok(Self::inline(secret)),
            Written::File { file } => Ok(Self::file(file)),
        }
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret: the text itself, or { file = \"/path\" } to read it from a file.",
            "anyOf": [
                { "type": "string" },
                {
                    "type": "object",
                    "properties": { "file": { "type": "string" } },
                    "required": ["file"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn loaded(secret: &Secret) -> String {
        secret.load().unwrap().expose_secret().to_owned()
    }

    #[test]
    fn a_secret_is_read_from_its_file_without_the_line_feed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let secret: Secret = serde_json::from_value(serde_json::json!({ "file": path })).unwrap();
        for (written, read) in
            [("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"), (" two\nlines\n\n", " two\nlines\n")]
        {
            fs::write(&path, written).unwrap();
            assert_eq!(loaded(&secret), read);
        }
        fs::write(&path, "\n").unwrap();
        assert!(matches!(secret.load(), Err(SettingsError::Secret(SecretError::Empty(_)))));
        fs::write(&path, "x".repeat(70_000)).unwrap();
        assert!(matches!(secret.load(), Err(SettingsError::Secret(SecretError::TooLong(_)))));
        fs::remove_file(&path).unwrap();
        assert!(secret.load().unwrap_err().to_string().contains("password cannot be read"));
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!(loaded(&secret), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(<redacted>)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"<redacted>\"");
    }

    #[test]
    fn an_unusable_secret_is_refused_without_repeating_it() {
        for bad in ["\"\"", "\"<redacted>\"", "8675309", "{\"path\":\"8675309\"}"] {
            let error = serde_json::from_str::<Secret>(bad).unwrap_err().to_string();
            assert!(!error.contains("8675309"), "{error}");
        }
    }
}
