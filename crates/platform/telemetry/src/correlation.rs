//! The id that ties together everything that one request caused.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use portico_clock::Clock;
use portico_ids::{EventId, Rng};

/// Header in which a correlation id comes in and goes out.
pub const CORRELATION_HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// Names one request across services, logs and audit records.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CorrelationId(Arc<str>);

impl CorrelationId {
    /// Makes a new one: the text of a `UUIDv7`.
    pub fn generate(clock: &dyn Clock, rng: &dyn Rng) -> Self {
        Self(EventId::generate(clock, rng).to_string().into())
    }

    /// Takes over a caller's id if it is 8 to 64 letters, digits and hyphens.
    #[must_use]
    pub fn accept(text: &str) -> Option<Self> {
        let sound = (8..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        sound.then(|| Self(text.into()))
    }

    /// Takes the caller's id when it is sound, and makes one otherwise.
    pub fn from_headers(headers: &HeaderMap, clock: &dyn Clock, rng: &dyn Rng) -> Self {
        headers
            .get(CORRELATION_HEADER)
            .and_then(|value| value.to_str().ok())
            .and_then(Self::accept)
            .unwrap_or_else(|| Self::generate(clock, rng))
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the id as a header value.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "letters, digits and hyphens are always a header value"
    )]
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("a correlation id is ASCII")
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use portico_clock::SystemClock;
    use portico_ids::SeededRng;

    use super::*;

    #[test]
    fn a_sound_id_is_taken_over() {
        let mut headers = HeaderMap::new();
        headers.insert(CORRELATION_HEADER, HeaderValue::from_static("agent-run-0042"));
        let id = CorrelationId::from_headers(&headers, &SystemClock, &SeededRng::new(1));
        assert_eq!(id.as_str(), "agent-run-0042");
        assert_eq!(id.header_value(), "agent-run-0042");
    }

    #[test]
    fn a23_an_unsound_id_is_replaced() {
        for bad in ["short", "with space in it", "x\tinjected-line", "ünïcödé-id", &"a".repeat(65)] {
            assert_eq!(CorrelationId::accept(bad), None, "{bad:?}");
            let mut headers = HeaderMap::new();
            headers.insert(CORRELATION_HEADER, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            let id = CorrelationId::from_headers(&headers, &SystemClock, &SeededRng::new(1));
            assert_eq!(id.as_str().len(), 36);
        }
    }
}
