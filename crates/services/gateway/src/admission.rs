//! The first gate: where a request came to, from which page, how large and how slow it is.

mod body;
mod cors;
mod origin;

pub(crate) use body::{declared_too_large, read_body};
pub(crate) use cors::{expose, preflight};
pub(crate) use origin::OriginGuard;

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};

use crate::refusal::{Reason, Refusal};

/// Refuses a POST whose body is not said to be JSON (2025-11-25, Sending Messages), or is said to be compressed.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut declared = headers.get_all(CONTENT_TYPE).iter().filter_map(|value| value.to_str().ok());
    let essence = declared.next().unwrap_or("").split(';').next().unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case("application/json") || declared.next().is_some() {
        let message = "the body must be sent as Content-Type: application/json";
        return Err(Refusal::new(Reason::UnsupportedMediaType, message));
    }
    // RFC 9110 §8.4: what reads the body as it came, and what unpacks it first, would see two messages.
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        let message = "a compressed body is not read; send it without Content-Encoding";
        return Err(Refusal::new(Reason::UnsupportedMediaType, message));
    }
    Ok(())
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
        .map(|range| range.split_once(';').unwrap_or((range, "")))
        .filter(|(_, parameters)| !has_no_weight(parameters))
        .map(|(range, _)| range.trim())
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

/// Whether a media range is listed as one that is not acceptable (RFC 9110 §12.4.2).
fn has_no_weight(parameters: &str) -> bool {
    parameters.split(';').filter_map(|parameter| parameter.split_once('=')).any(|(name, weight)| {
        name.trim().eq_ignore_ascii_case("q") && weight.trim().trim_matches(['0', '.']).is_empty()
    })
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
        let mut twice = headers(CONTENT_TYPE, "application/json");
        twice.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(require_json(&twice).is_err());
    }

    #[test]
    fn a_compressed_body_is_refused_by_its_coding() {
        for (coding, taken) in [("identity", true), ("gzip", false), ("br, gzip", false)] {
            let mut sent = headers(CONTENT_TYPE, "application/json");
            sent.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
            assert_eq!(require_json(&sent).is_ok(), taken, "{coding}");
        }
    }

    #[test]
    fn accept_must_cover_both_answers() {
        let both = ["application/json", "text/event-stream"];
        for value in
            ["application/json, text/event-stream", "*/*", "application/*;q=1, text/event-stream;q=0.05"]
        {
            assert!(require_accept(&headers(ACCEPT, value), &both).is_ok(), "{value}");
        }
        assert!(require_accept(&HeaderMap::new(), &both).is_ok());
        for value in [
            "application/json",
            "text/event-stream",
            "text/html",
            "*/*;q=0",
            "application/json, text/event-stream; q=0.0",
        ] {
            assert!(require_accept(&headers(ACCEPT, value), &both).is_err(), "{value}");
        }
    }
}
