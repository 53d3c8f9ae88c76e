//! The bookings as a resource that can be subscribed to, and a template over the time zones.

use chrono::Offset;
use chrono_tz::OffsetComponents;
use portico_mcp_types::{Revision, code};
use serde_json::{Value, json};

use crate::App;
use crate::json_rpc::RpcError;
use crate::tools::zones::zone;

/// The list of booked tables.
pub(crate) const BOOKINGS: &str = "demo://bookings";
/// What is known of a time zone.
pub(crate) const ZONE_TEMPLATE: &str = "demo://zones/{+zone}";
const ZONE_PREFIX: &str = "demo://zones/";

pub(crate) fn list() -> Value {
    json!({ "resources": [{
        "uri": BOOKINGS,
        "name": "bookings",
        "title": "Booked tables",
        "description": "The tables that were booked with book_table. Subscribe to learn of new ones.",
        "mimeType": "application/json",
    }] })
}

pub(crate) fn templates() -> Value {
    json!({ "resourceTemplates": [{
        "uriTemplate": ZONE_TEMPLATE,
        "name": "zone",
        "title": "Time zone",
        "description": "The current offset of an IANA time zone, such as demo://zones/Europe/Zurich.",
        "mimeType": "application/json",
    }] })
}

pub(crate) fn read(app: &App, revision: Revision, uri: &str) -> Result<Value, RpcError> {
    let content = if uri == BOOKINGS {
        json!({ "bookings": app.bookings.list() })
    } else if let Some(zone) = uri.strip_prefix(ZONE_PREFIX).and_then(|name| zone(name).ok()) {
        let now = app.clock.now().with_timezone(&zone);
        json!({
            "zone": zone.name(),
            "utc_offset_seconds": now.offset().fix().local_minus_utc(),
            "daylight_saving": !now.offset().dst_offset().is_zero(),
            "time": now.to_rfc3339(),
        })
    } else {
        return Err(not_found(revision, uri));
    };
    Ok(json!({ "contents": [{ "uri": uri, "mimeType": "application/json", "text": content.to_string() }] }))
}

/// Whether this resource ever changes; the others cannot be subscribed to.
pub(crate) fn changes(uri: &str) -> bool {
    uri == BOOKINGS
}

/// -32002 up to 2025-11-25, -32602 since (2026-07-28, Resources, Error Handling).
pub(crate) fn not_found(revision: Revision, uri: &str) -> RpcError {
    const RESOURCE_NOT_FOUND: i32 = -32002;
    let code = if revision.is_stateless() { code::INVALID_PARAMS } else { RESOURCE_NOT_FOUND };
    RpcError { code, message: format!("there is no resource {uri}"), data: Some(json!({ "uri": uri })) }
}
