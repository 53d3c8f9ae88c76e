use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::meta::Meta;
use crate::object::{Object, ParseError, text_of};

/// The members of `params` that decide about a message, or are replaced in it, in any revision.
const MEMBERS: [&str; 13] = [
    "_meta",
    "arguments",
    "capabilities",
    "cursor",
    "inputResponses",
    "level",
    "name",
    "notifications",
    "protocolVersion",
    "ref",
    "requestState",
    "taskId",
    "uri",
];

/// What a gateway reads of `params`; the rest stays raw.
#[derive(Debug, Clone, Default)]
pub struct CallParams<'a> {
    /// `params` as it was written.
    pub raw: Option<&'a RawValue>,
    /// `_meta`, read one level deep.
    pub meta: Meta<'a>,
    object: Object<'a>,
}

impl<'a> CallParams<'a> {
    /// Reads the params of a message; absent params are empty ones.
    pub fn parse(params: Option<&'a RawValue>) -> Result<Self, ParseError> {
        let Some(raw) = params else { return Ok(Self::default()) };
        let object = Object::parse(raw.get(), "params")?;
        object.refuse_lookalikes(&MEMBERS)?;
        let meta = match object.get("_meta") {
            Some(meta) => Meta::parse(meta)?,
            None => Meta::default(),
        };
        Ok(Self { raw: Some(raw), meta, object })
    }

    /// The raw member `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.object.get(key)
    }

    /// The string member `key`; an error if it is there and no string.
    pub fn text(&self, key: &'static str) -> Result<Option<Cow<'a, str>>, ParseError> {
        match self.object.get(key) {
            Some(raw) => text_of(raw).map(Some).ok_or(ParseError::Param(key, "a string")),
            None => Ok(None),
        }
    }

    /// The string member `key`; an error if it is missing.
    pub fn required(&self, key: &'static str) -> Result<Cow<'a, str>, ParseError> {
        self.text(key)?.ok_or(ParseError::Param(key, "a string"))
    }

    /// Tool or prompt name.
    pub fn name(&self) -> Result<Cow<'a, str>, ParseError> {
        self.required("name")
    }

    /// Resource URI.
    pub fn uri(&self) -> Result<Cow<'a, str>, ParseError> {
        self.required("uri")
    }

    /// Cursor of a list; an empty string is a valid one.
    pub fn cursor(&self) -> Result<Option<Cow<'a, str>>, ParseError> {
        self.text("cursor")
    }

    /// What the server minted for the retry of this request (2026-07-28, MRTR).
    pub fn request_state(&self) -> Result<Option<Cow<'a, str>>, ParseError> {
        self.text("requestState")
    }

    /// `arguments` as they were written.
    #[must_use]
    pub fn arguments(&self) -> Option<&'a RawValue> {
        self.object.get("arguments")
    }

    /// `_meta.progressToken` as it was written.
    #[must_use]
    pub fn progress_token(&self) -> Option<&'a RawValue> {
        self.meta.get(crate::meta::PROGRESS_TOKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Envelope;

    fn params(body: &str) -> Result<CallParams<'_>, ParseError> {
        CallParams::parse(Envelope::parse(body.as_bytes())?.params)
    }

    #[test]
    fn the_members_of_a_call_are_read() {
        let read = params(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":1},"_meta":{"progressToken":7,"k":"v"}}}"#,
        )
        .unwrap();
        assert_eq!(read.name().unwrap(), "echo");
        assert_eq!(read.arguments().unwrap().get(), r#"{"a":1}"#);
        assert_eq!(read.progress_token().unwrap().get(), "7");
        assert_eq!(read.meta.text("k").unwrap(), "v");
        assert!(read.cursor().unwrap().is_none());
        assert_eq!(read.uri().unwrap_err().code(), crate::code::INVALID_PARAMS);
    }

    #[test]
    fn s3_02_positional_params_duplicates_and_lookalikes_below_are_refused() {
        for inner in [
            r#"["delete_all"]"#,
            r#"{"name":"a","nam\u0065":"b"}"#,
            r#"{"name":"a","Name":"b"}"#,
            r#"{"RequestState":"never sealed"}"#,
            r#"{"_meta":{"k":1,"k":2}}"#,
            r#"{"_meta":[]}"#,
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{inner}}}"#);
            assert!(params(&body).is_err(), "{inner}");
        }
    }
}
