//! Layered settings: defaults, file, environment, command line.
//!
//! ```text
//! defaults  <  TOML file  <  PORTICO_SECTION__KEY  <  command line `section.key`
//! ```
//!
//! The JSON schema of the settings type decides what a key may be: a key that it does not know is refused with the
//! place it came from and the nearest key that exists. Sections are structs with `#[serde(default)]`; an enum with
//! data carries an internal tag (`#[serde(tag = "kind")]`).
//!
//! In the environment, numbers and booleans are written plainly, lists with commas (`a,b`) or as JSON (`["a"]`),
//! tables as JSON. Keys of a map are lower case there, because variables are upper case.

mod error;
mod known;
mod layers;
mod load;
mod secret;
mod sources;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

pub use error::{Origin, SettingsError, UnknownKey};
pub use load::load;
pub use secret::{Secret, SecretError};
pub use sources::{ENV_PREFIX, NOT_SETTINGS, Sources};

/// Returns the JSON schema (2020-12) of a settings type: what a file may hold, with its documentation.
#[must_use]
pub fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}
