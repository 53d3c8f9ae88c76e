//! The one prompt: finding an hour that suits two cities.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::json_rpc::RpcError;
use crate::tools::zones::zone;

pub(crate) const NAME: &str = "plan_meeting";
/// The arguments that are time zones, and can be completed.
pub(crate) const ZONE_ARGUMENTS: [&str; 2] = ["here", "there"];

#[derive(Deserialize)]
struct Params {
    name: String,
    #[serde(default)]
    arguments: BTreeMap<String, String>,
}

pub(crate) fn list() -> Value {
    json!({ "prompts": [{
        "name": NAME,
        "title": "Plan a meeting",
        "description": "Finds an hour within office hours of two time zones.",
        "arguments": [
            { "name": "here", "description": "Your IANA time zone, such as Europe/Zurich", "required": true },
            { "name": "there", "description": "The other IANA time zone", "required": true },
        ],
    }] })
}

pub(crate) fn get(params: &Value) -> Result<Value, RpcError> {
    let params = Params::deserialize(params).map_err(|e| RpcError::invalid_params(e.to_string()))?;
    if params.name != NAME {
        return Err(RpcError::invalid_params(format!("there is no prompt {}; there is {NAME}", params.name)));
    }
    let argument = |name: &str| {
        let text = params
            .arguments
            .get(name)
            .ok_or_else(|| RpcError::invalid_params(format!("{name} is missing")))?;
        zone(text).map_err(RpcError::invalid_params)
    };
    let (here, there) = (argument("here")?, argument("there")?);
    let text = format!(
        "Find an hour tomorrow that lies between 9:00 and 17:00 both in {here} and in {there}. Use time_now for today's \
         date and time_convert for each candidate, and answer with the hour in both zones."
    );
    Ok(json!({
        "description": format!("A meeting between {here} and {there}"),
        "messages": [{ "role": "user", "content": { "type": "text", "text": text } }],
    }))
}
