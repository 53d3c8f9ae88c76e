//! `countdown`: takes its time and says how far it is.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Progress, ToolResult};

pub(super) const NAME: &str = "countdown";
const MAX_STEPS: u32 = 60;
const INTERVAL_MS: std::ops::RangeInclusive<u64> = 10..=1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    #[serde(default = "default_from")]
    from: u32,
    #[serde(default = "default_interval")]
    interval_ms: u64,
}

fn default_from() -> u32 {
    5
}

fn default_interval() -> u64 {
    200
}

pub(super) fn definition() -> Value {
    json!({
        "name": NAME,
        "title": "Countdown",
        "description": "Counts down to zero and reports progress at every step, if the call carries a progress token.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "from": { "type": "integer", "minimum": 1, "maximum": MAX_STEPS, "default": default_from() },
                "interval_ms": {
                    "type": "integer", "minimum": INTERVAL_MS.start(), "maximum": INTERVAL_MS.end(),
                    "default": default_interval(), "description": "Time between two steps",
                },
            },
            "additionalProperties": false,
        },
        "outputSchema": {
            "type": "object",
            "properties": { "steps": { "type": "integer" } },
            "required": ["steps"],
        },
        "annotations": super::read_only(),
    })
}

pub(super) async fn run(arguments: &Arguments, progress: &Progress) -> Result<ToolResult, String> {
    let Arguments { from, interval_ms } = *arguments;
    if !(1..=MAX_STEPS).contains(&from) {
        return Err(format!("from must be between 1 and {MAX_STEPS}"));
    }
    if !INTERVAL_MS.contains(&interval_ms) {
        return Err(format!("interval_ms must be between {} and {}", INTERVAL_MS.start(), INTERVAL_MS.end()));
    }
    for step in 1..=from {
        tokio::time::sleep(Duration::from_millis(interval_ms)).await;
        progress.report(step, from, &format!("{} to go", from - step));
    }
    Ok(ToolResult::ok(format!("Counted down from {from} to 0."), json!({ "steps": from })))
}
