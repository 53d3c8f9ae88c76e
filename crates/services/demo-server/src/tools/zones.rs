//! `time_now` and `time_convert`, over the IANA time zones.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ToolResult, read_only};

pub(super) const NOW: &str = "time_now";
pub(super) const CONVERT: &str = "time_convert";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NowArguments {
    zone: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConvertArguments {
    time: String,
    from: String,
    to: String,
}

fn time_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "zone": { "type": "string", "description": "IANA time zone" },
            "time": { "type": "string", "format": "date-time", "description": "RFC 3339, with the zone's offset" },
            "abbreviation": { "type": "string", "description": "Such as CET" },
        },
        "required": ["zone", "time", "abbreviation"],
    })
}

pub(super) fn now_definition() -> Value {
    json!({
        "name": NOW,
        "title": "Current time",
        "description": "The current time in a time zone (UTC if none is given).",
        "inputSchema": {
            "type": "object",
            "properties": { "zone": { "type": "string", "description": "IANA time zone, such as Asia/Tokyo" } },
            "additionalProperties": false,
        },
        "outputSchema": time_schema(),
        // Not idempotent in its answer, but calling it again does no harm.
        "annotations": read_only(),
    })
}

pub(super) fn convert_definition() -> Value {
    json!({
        "name": CONVERT,
        "title": "Convert time",
        "description": "Converts a local time from one time zone to another.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "time": { "type": "string", "description": "Local time in `from`, such as 2026-11-20T15:00" },
                "from": { "type": "string", "description": "IANA time zone of the given time" },
                "to": { "type": "string", "description": "IANA time zone to convert to" },
            },
            "required": ["time", "from", "to"],
            "additionalProperties": false,
        },
        "outputSchema": {
            "type": "object",
            "properties": {
                "from": time_schema(),
                "to": time_schema(),
                "ambiguous": { "type": "boolean", "description": "The clocks show this time twice; the first one was taken" },
            },
            "required": ["from", "to", "ambiguous"],
        },
        "annotations": read_only(),
    })
}

/// The zone of that name, or a sentence that says how names look.
pub(crate) fn zone(name: &str) -> Result<Tz, String> {
    Tz::from_str_insensitive(name).map_err(|_| {
        format!("{name:?} is no IANA time zone; they look like Europe/Zurich or America/New_York")
    })
}

fn shown(time: &DateTime<Tz>) -> Value {
    json!({ "zone": time.timezone().name(), "time": time.to_rfc3339(), "abbreviation": time.format("%Z").to_string() })
}

pub(super) fn now(now: DateTime<Utc>, arguments: &NowArguments) -> Result<ToolResult, String> {
    let zone = zone(arguments.zone.as_deref().unwrap_or("UTC"))?;
    let time = now.with_timezone(&zone);
    Ok(ToolResult::ok(format!("It is {} in {zone}.", time.format("%A %-d %B %Y, %H:%M:%S %Z")), shown(&time)))
}

pub(super) fn convert(arguments: &ConvertArguments) -> Result<ToolResult, String> {
    let (from, to) = (zone(&arguments.from)?, zone(&arguments.to)?);
    let local = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&arguments.time, format).ok())
        .ok_or_else(|| format!("{:?} is no local time; write it like 2026-11-20T15:00", arguments.time))?;
    let (time, ambiguous) = match from.from_local_datetime(&local) {
        MappedLocalTime::Single(time) => (time, false),
        MappedLocalTime::Ambiguous(first, _) => (first, true),
        MappedLocalTime::None => return Err(format!("{local} does not exist in {from}: the clocks skip it")),
    };
    let there = time.with_timezone(&to);
    let text = format!(
        "{} in {from} is {} in {to}.",
        time.format("%Y-%m-%d %H:%M %Z"),
        there.format("%Y-%m-%d %H:%M %Z")
    );
    Ok(ToolResult::ok(text, json!({ "from": shown(&time), "to": shown(&there), "ambiguous": ambiguous })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(time: &str, from: &str, to: &str) -> Result<Value, String> {
        let arguments = ConvertArguments { time: time.to_owned(), from: from.to_owned(), to: to.to_owned() };
        convert(&arguments).map(|result| result.structured.unwrap())
    }

    #[test]
    fn an_afternoon_in_zurich_is_a_morning_in_new_york() {
        let result = converted("2026-11-20T15:00", "Europe/Zurich", "america/new_york").unwrap();
        assert_eq!(result["to"]["time"], "2026-11-20T09:00:00-05:00");
        assert_eq!(result["from"]["abbreviation"], "CET");
    }

    #[test]
    fn times_that_clocks_skip_or_repeat_are_told_apart() {
        assert!(converted("2026-03-29 02:30", "Europe/Zurich", "UTC").unwrap_err().contains("skip"));
        let repeated = converted("2026-10-25T02:30:00", "Europe/Zurich", "UTC").unwrap();
        assert_eq!(
            (&repeated["ambiguous"], &repeated["to"]["time"]),
            (&json!(true), &json!("2026-10-25T00:30:00+00:00"))
        );
    }

    #[test]
    fn mistakes_are_explained() {
        assert!(converted("2026-11-20T15:00", "Zurich", "UTC").unwrap_err().contains("Europe/Zurich"));
        assert!(converted("three o'clock", "UTC", "UTC").unwrap_err().contains("2026-11-20T15:00"));
    }
}
