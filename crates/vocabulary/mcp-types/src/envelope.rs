use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::depth::within_depth;
use crate::object::{Object, ParseError, text_of};

/// The `id` of a message: absent and `null` are different things (JSON-RPC 2.0 §4).
#[derive(Debug, Clone, Copy, Default)]
pub enum Id<'a> {
    /// There is no `id` member.
    #[default]
    Absent,
    /// The value, byte for byte.
    Present(&'a RawValue),
}

impl<'a> Id<'a> {
    /// The id as it was written; `null` if there is none.
    #[must_use]
    pub fn as_json(self) -> &'a str {
        match self {
            Self::Absent => "null",
            Self::Present(raw) => raw.get(),
        }
    }

    /// Whether this is a string or a number, which MCP requires of a request's id.
    #[must_use]
    pub fn names_a_request(self) -> bool {
        match self {
            Self::Absent => false,
            Self::Present(raw) => matches!(raw.get().as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')),
        }
    }
}

impl PartialEq for Id<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => true,
            (Self::Present(a), Self::Present(b)) => a.get() == b.get(),
            _ => false,
        }
    }
}

/// The members of a message (JSON-RPC 2.0 §4 and §5).
const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// What kind of message an envelope is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Has a method and an id.
    Request,
    /// Has a method and no id.
    Notification,
    /// Has an id and exactly one of result and error.
    Response,
}

/// One JSON-RPC message, borrowed from the body; only its top level has been read.
#[derive(Debug, Clone)]
pub struct Envelope<'a> {
    /// The id as it was written.
    pub id: Id<'a>,
    /// The method, unescaped.
    pub method: Option<Cow<'a, str>>,
    /// `params` as it was written.
    pub params: Option<&'a RawValue>,
    /// `result` as it was written.
    pub result: Option<&'a RawValue>,
    /// `error` as it was written.
    pub error: Option<&'a RawValue>,
    /// What the members make of the message.
    pub kind: Kind,
}

impl<'a> Envelope<'a> {
    /// Reads one message; a batch is refused.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        if !within_depth(body) {
            return Err(ParseError::TooDeep);
        }
        Self::read(std::str::from_utf8(body).map_err(|_| ParseError::NotUtf8)?)
    }

    /// Reads one message whose depth was checked already.
    pub fn read(json: &'a str) -> Result<Self, ParseError> {
        let object = Object::parse(json, "a JSON-RPC message")?;
        object.refuse_lookalikes(&MEMBERS)?;
        let id = object.get("id").map_or(Id::Absent, Id::Present);
        if object.get("jsonrpc").and_then(text_of).as_deref() != Some("2.0") {
            return Err(ParseError::Invalid("jsonrpc must be \"2.0\""));
        }
        let method = match object.get("method") {
            Some(raw) => Some(text_of(raw).ok_or(ParseError::Invalid("method must be a string"))?),
            None => None,
        };
        let (params, result, error) = (object.get("params"), object.get("result"), object.get("error"));
        let kind = match (&method, id) {
            (Some(_), _) if result.is_some() || error.is_some() => {
                return Err(ParseError::Invalid("a message with a method has neither result nor error"));
            }
            (Some(_), Id::Absent) => Kind::Notification,
            (Some(_), id) if id.names_a_request() => Kind::Request,
            (Some(_), _) => return Err(ParseError::Invalid("the id of a request is a string or a number")),
            (None, Id::Present(_)) if result.is_some() != error.is_some() => Kind::Response,
            (None, _) => {
                return Err(ParseError::Invalid(
                    "a message has a method, or an id with a result or an error",
                ));
            }
        };
        Ok(Self { id, method, params, result, error, kind })
    }

    /// The method; empty for a response.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("")
    }
}

/// The body of one POST.
#[derive(Debug)]
pub enum Body<'a> {
    /// One message.
    One(Envelope<'a>),
    /// A JSON array of messages, each as it was written; only revision 2025-03-26 has them.
    Batch(Vec<&'a RawValue>),
}

impl<'a> Body<'a> {
    /// Reads a message or splits a batch; the elements of a batch are not read yet.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        if !within_depth(body) {
            return Err(ParseError::TooDeep);
        }
        let json = std::str::from_utf8(body).map_err(|_| ParseError::NotUtf8)?;
        if json.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('[') {
            let messages = serde_json::from_str::<Vec<&RawValue>>(json)
                .map_err(|e| ParseError::Syntax(e.to_string()))?;
            if messages.is_empty() {
                return Err(ParseError::Invalid("a batch has at least one message"));
            }
            return Ok(Self::Batch(messages));
        }
        Envelope::read(json).map(Self::One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code;

    fn refused(body: &str) -> ParseError {
        Envelope::parse(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_request_keeps_its_bytes() {
        let body = r#"{ "params" : {"n":12345678901234567890123,"m":1.10}, "id":1.0, "method":"tools\/call","jsonrpc":"2.0","extra":[1] }"#;
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        assert_eq!(envelope.kind, Kind::Request);
        assert_eq!(envelope.id.as_json(), "1.0");
        assert_eq!(envelope.method(), "tools/call");
        assert_eq!(envelope.params.unwrap().get(), r#"{"n":12345678901234567890123,"m":1.10}"#);
    }

    #[test]
    fn absent_and_null_ids_differ() {
        let notification = Envelope::parse(br#"{"jsonrpc":"2.0","method":"x"}"#).unwrap();
        assert_eq!((notification.kind, notification.id), (Kind::Notification, Id::Absent));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#).code(), code::INVALID_REQUEST);
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#).code(), code::INVALID_REQUEST);
    }

    #[test]
    fn a_response_has_one_of_result_and_error() {
        assert_eq!(Envelope::parse(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#).unwrap().kind, Kind::Response);
        for body in [
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","result":{}}"#,
        ] {
            assert_eq!(refused(body).code(), code::INVALID_REQUEST, "{body}");
        }
    }

    #[test]
    fn s3_02_bodies_that_two_parsers_read_differently_are_refused() {
        for (body, reason) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","m\u0065thod":"b"}"#, "duplicate_key"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","z":1,"z":2}"#, "duplicate_key"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"}"#, "duplicate_key"),
            (r#"["2.0",1,"tools/call",{}]"#, "invalid_message"),
            (r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#, "invalid_message"),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, "invalid_message"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"a"} {}"#, "malformed_json"),
            ("", "malformed_json"),
        ] {
            assert_eq!(refused(body).reason(), reason, "{body}");
        }
        assert_eq!(Envelope::parse(b"{\"jsonrpc\":\"2.0\",\"\xff\":1}").unwrap_err(), ParseError::NotUtf8);
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{}{}}}"#,
            "[".repeat(64),
            "]".repeat(64)
        );
        assert_eq!(refused(&deep), ParseError::TooDeep);
    }

    #[test]
    fn a_batch_is_split_and_not_read() {
        let Body::Batch(messages) = Body::parse(br#" [{"a":1}, 2 ]"#).unwrap() else { panic!("a batch") };
        assert_eq!(messages.iter().map(|m| m.get()).collect::<Vec<_>>(), [r#"{"a":1}"#, "2"]);
        assert!(Body::parse(b"[]").is_err());
        assert!(matches!(Body::parse(br#"{"jsonrpc":"2.0","id":"a","method":"x"}"#), Ok(Body::One(_))));
    }
}
