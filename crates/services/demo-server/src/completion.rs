//! `completion/complete`: IANA time zone names for the prompt's and the resource template's arguments.

use chrono_tz::TZ_VARIANTS;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::json_rpc::RpcError;
use crate::{prompts, resources};

/// The most values that one answer may hold (MCP, Completion).
const MAX_VALUES: usize = 100;

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "ref")]
    reference: Reference,
    argument: Argument,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Reference {
    #[serde(rename = "ref/prompt")]
    Prompt { name: String },
    #[serde(rename = "ref/resource")]
    Resource { uri: String },
}

#[derive(Deserialize)]
struct Argument {
    name: String,
    value: String,
}

pub(crate) fn complete(params: &Value) -> Result<Value, RpcError> {
    let params = Params::deserialize(params).map_err(|e| RpcError::invalid_params(e.to_string()))?;
    let known = match &params.reference {
        Reference::Prompt { name } if name == prompts::NAME => {
            prompts::ZONE_ARGUMENTS.contains(&&*params.argument.name)
        }
        Reference::Resource { uri } if uri == resources::ZONE_TEMPLATE => params.argument.name == "zone",
        Reference::Prompt { name } => {
            return Err(RpcError::invalid_params(format!("there is no prompt {name}")));
        }
        Reference::Resource { uri } => {
            return Err(RpcError::invalid_params(format!("there is no resource template {uri}")));
        }
    };
    let mut values = if known { zones(&params.argument.value) } else { Vec::new() };
    let total = values.len();
    values.truncate(MAX_VALUES);
    Ok(json!({ "completion": { "values": values, "total": total, "hasMore": total > MAX_VALUES } }))
}

/// Zones whose name contains the text in any case; those that start with it, or whose city does, come first.
fn zones(typed: &str) -> Vec<&'static str> {
    let typed = typed.to_lowercase().replace(' ', "_");
    let mut found: Vec<_> = TZ_VARIANTS
        .iter()
        .map(|zone| zone.name())
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let city = lower.rsplit('/').next().is_some_and(|city| city.starts_with(&typed));
            lower.contains(&typed).then_some((!(city || lower.starts_with(&typed)), name))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_city_is_found_by_its_first_letters() {
        assert_eq!(zones("new yo"), ["America/New_York"]);
        assert_eq!(zones("zuri")[0], "Europe/Zurich");
        assert!(zones("nowhere").is_empty());
    }

    #[test]
    fn an_answer_holds_a_hundred_values_and_says_that_there_are_more() {
        let params = json!({
            "ref": { "type": "ref/resource", "uri": resources::ZONE_TEMPLATE },
            "argument": { "name": "zone", "value": "" }
        });
        let completion = complete(&params).unwrap()["completion"].take();
        assert_eq!(completion["values"].as_array().unwrap().len(), MAX_VALUES);
        assert_eq!(completion["hasMore"], true);
    }
}
