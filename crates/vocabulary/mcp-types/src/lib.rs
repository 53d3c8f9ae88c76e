//! MCP and JSON-RPC wire types, borrowed and strict.
//!
//! One parser decides for policy and for forwarding: what is read is read from the bytes that travel on, and what
//! two parsers could read differently (duplicate keys, arrays for objects, deep nesting) is refused.

mod answer;
mod depth;
mod envelope;
mod header;
mod meta;
pub mod method;
mod object;
mod params;
mod revision;
mod splice;
pub mod sse;

pub use answer::{ErrorBody, error_answer, result_answer};
pub use depth::{MAX_DEPTH, within_depth};
pub use envelope::{Body, Envelope, Id, Kind};
pub use header::{
    ACCEL_BUFFERING, InvalidHeaderValue, LAST_EVENT_ID, MCP_METHOD, MCP_NAME, MCP_PARAM_PREFIX,
    PROTOCOL_VERSION, SESSION_ID, decode_value, encode_value,
};
pub use meta::{
    CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, META_PROTOCOL_VERSION, Meta, PROGRESS_TOKEN, SERVER_INFO,
    SUBSCRIPTION_ID, WARNINGS,
};
pub use object::{Object, ParseError, text_of};
pub use params::CallParams;
pub use revision::{Revision, UnknownRevision};
pub use splice::Splice;

/// Error codes of JSON-RPC 2.0 §5.1 and of the MCP revisions.
pub mod code {
    /// The body is not JSON.
    pub const PARSE_ERROR: i32 = -32700;
    /// The body is JSON but no JSON-RPC message.
    pub const INVALID_REQUEST: i32 = -32600;
    /// The method does not exist.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The params do not fit the method.
    pub const INVALID_PARAMS: i32 = -32602;
    /// Something failed behind the request.
    pub const INTERNAL_ERROR: i32 = -32603;
    /// Implementation-defined: the caller may not, or must wait.
    pub const SERVER_ERROR: i32 = -32000;
    /// There is no such resource (up to 2025-11-25, Resources, Error Handling; later it is [`INVALID_PARAMS`]).
    pub const RESOURCE_NOT_FOUND: i32 = -32002;
    /// Headers and body disagree (2026-07-28, Streamable HTTP, Server Validation).
    pub const HEADER_MISMATCH: i32 = -32020;
    /// The client did not declare a capability that the request needs (2026-07-28).
    pub const MISSING_CAPABILITY: i32 = -32021;
    /// The protocol version is not served (2026-07-28, Versioning).
    pub const UNSUPPORTED_VERSION: i32 = -32022;
}
