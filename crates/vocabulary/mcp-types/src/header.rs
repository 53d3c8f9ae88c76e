use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;

/// The revision that a request is written in.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The session that a request belongs to (up to 2025-11-25).
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// The method again (2026-07-28).
pub const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// The tool, prompt or resource again (2026-07-28).
pub const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");
/// What headers made from `x-mcp-header` annotations start with (2026-07-28).
pub const MCP_PARAM_PREFIX: &str = "mcp-param-";
/// The last event that a client has seen of a stream.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells reverse proxies not to buffer a stream.
pub const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

/// A header value that is neither plain ASCII nor valid in its base64 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header value is neither plain ASCII nor valid =?base64?…?=")]
pub struct InvalidHeaderValue;

/// Writes a value for `Mcp-Name` or `Mcp-Param-*` (2026-07-28, Streamable HTTP, Value Encoding).
#[must_use]
pub fn encode_value(text: &str) -> Cow<'_, str> {
    let plain = text.bytes().all(|b| matches!(b, 0x20..=0x7e | b'\t'))
        && !text.starts_with([' ', '\t'])
        && !text.ends_with([' ', '\t'])
        && !is_sentinel(text);
    if plain { Cow::Borrowed(text) } else { Cow::Owned(format!("{PREFIX}{}{SUFFIX}", STANDARD.encode(text))) }
}

/// Reads such a value.
pub fn decode_value(value: &[u8]) -> Result<Cow<'_, str>, InvalidHeaderValue> {
    let text = std::str::from_utf8(value).map_err(|_| InvalidHeaderValue)?;
    if !text.bytes().all(|b| matches!(b, 0x20..=0x7e | b'\t')) {
        return Err(InvalidHeaderValue);
    }
    if !is_sentinel(text) {
        return Ok(Cow::Borrowed(text));
    }
    let encoded = &text[PREFIX.len()..text.len() - SUFFIX.len()];
    let bytes = STANDARD.decode(encoded).map_err(|_| InvalidHeaderValue)?;
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| InvalidHeaderValue)
}

fn is_sentinel(text: &str) -> bool {
    text.len() >= PREFIX.len() + SUFFIX.len() && text.starts_with(PREFIX) && text.ends_with(SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_hold() {
        for (text, header) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encode_value(text), header);
            assert_eq!(decode_value(header.as_bytes()).unwrap(), text);
        }
    }

    #[test]
    fn bad_values_are_refused() {
        for value in ["=?base64?!!?=", "=?base64?/w==?=", "caf\u{e9}", "a\u{1}b"] {
            assert_eq!(decode_value(value.as_bytes()), Err(InvalidHeaderValue), "{value}");
        }
        assert_eq!(decode_value(b"=?base64?=").unwrap(), "=?base64?=");
    }

    proptest::proptest! {
        #[test]
        fn any_text_round_trips(text in ".*") {
            let encoded = encode_value(&text).into_owned();
            proptest::prop_assert_eq!(decode_value(encoded.as_bytes()).unwrap(), text.as_str());
        }
    }
}
