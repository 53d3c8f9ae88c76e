//! Stands in for the secret of `portico_settings` until that exists.
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct Secret(String);
impl Secret {
    pub fn load(&self) -> Result<SecretString, std::io::Error> {
        Ok(self.0.clone().into())
    }
}
