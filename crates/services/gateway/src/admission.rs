//! The first gate: where a request came to, from which page, how large and how slow it is.

mod body;
mod cors;
mod origin;

pub(crate) use body::{declared_too_large, read_body};
pub(crate) use cors::{expose, preflight};
pub(crate) use origin::OriginGuard;

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::refusal::{Reason, Refusal};

/// Refuses a POST whose body is not said to be JSON (2025-11-25, Sending Messages).
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = declared.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::new(Reason::UnsupportedMediaType, "the body must be sent as Content-Type: application/json"))
}

/// Refuses an `Accept` that leaves out one of `types`; no `Accept` accepts everything (RFC 9110 §12.5.1).
pub(crate) fn require_accept(headers: &HeaderMap, types: &[&str]) -> Result<(), Refusal> {
    let mut listed = headers.get_all(ACCEPT).iter().peekable();
    if listed.peek().is_none() {
        return Ok(());
    }
    let ranges: Vec<&str> = listed
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or("").trim())
        .collect();
    let accepts = |wanted: &str| {
        ranges.iter().any(|range| {
            range.eq_ignore_ascii_case(wanted)
                || *range == "*/*"
                || range.strip_suffix("/*").is_some_and(|kind| wanted.split('/').next() == Some(kind))
        })
    };
    if types.iter().all(|wanted| accepts(wanted)) {
        return Ok(());
    }
    Err(Refusal::new(Reason::NotAcceptable, format!("send Accept: {}", types.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_json_bodies_are_taken() {
        assert!(require_json(&headers(CONTENT_TYPE, "application/json; charset=utf-8")).is_ok());
        for value in ["text/plain", "application/jsonp", ""] {
            assert!(require_json(&headers(CONTENT_TYPE, value)).is_err(), "{value}");
        }
        assert!(require_json(&HeaderMap::new()).is_err());
    }

    #[test]
    fn accept_must_cover_both_answers() {
        let both = ["application/json", "text/event-stream"];
        for value in
            ["application/json, text/event-stream", "*/*", "application/*;q=1, text/event-stream;q=0.5"]
        {
            assert!(require_accept(&headers(ACCEPT, value), &both).is_ok(), "{value}");
        }
        assert!(require_accept(&HeaderMap::new(), &both).is_ok());
        for value in ["application/json", "text/event-stream", "text/html"] {
            assert!(require_accept(&headers(ACCEPT, value), &both).is_err(), "{value}");
        }
    }
}
