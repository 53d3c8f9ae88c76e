use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use portico_mcp_types::{Revision, SESSION_ID};
use portico_telemetry::{CORRELATION_HEADER, CorrelationId, TraceContext};

/// What is sent to an instance.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    /// MCP and trace headers only.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Outgoing {
    /// A POST of one message.
    pub(crate) fn post(body: Bytes) -> Self {
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        Self { method: Method::POST, headers, body }
    }

    /// A GET of a stream.
    pub(crate) fn get() -> Self {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        Self { method: Method::GET, headers, body: Bytes::new() }
    }

    /// A DELETE of a session.
    pub(crate) fn delete() -> Self {
        Self { method: Method::DELETE, headers: HeaderMap::with_capacity(4), body: Bytes::new() }
    }

    /// Says which session of the server is meant, and its revision where that revision knows the header.
    pub(crate) fn in_session(mut self, id: Option<&HeaderValue>, revision: Revision) -> Self {
        if let Some(id) = id {
            self.headers.insert(SESSION_ID, id.clone());
        }
        if revision >= Revision::V2025_06_18 {
            let value = HeaderValue::from_static(revision.as_str());
            self.headers.insert(portico_mcp_types::PROTOCOL_VERSION, value);
        }
        self
    }

    /// Passes correlation and trace on.
    pub(crate) fn traced(mut self, correlation: &CorrelationId, trace: &TraceContext) -> Self {
        self.headers.insert(CORRELATION_HEADER, correlation.header_value());
        if !trace.is_empty() {
            trace.inject_headers(&mut self.headers);
        }
        self
    }
}
