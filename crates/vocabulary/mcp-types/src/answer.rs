use bytes::Bytes;

use crate::envelope::Id;
use crate::splice::quote;

/// The `error` member of an answer.
#[derive(Debug, Clone)]
pub struct ErrorBody<'a> {
    /// Code of JSON-RPC or MCP.
    pub code: i32,
    /// What is wrong and what to do.
    pub message: &'a str,
    /// Stable code, for programs.
    pub reason: &'a str,
    /// Ties the answer to logs and audit.
    pub correlation_id: &'a str,
    /// More members of `data`: a name, and JSON text.
    pub data: &'a [(&'a str, String)],
}

/// Writes an error answer; without an id, `id` is `null` (JSON-RPC 2.0 §5).
#[must_use]
pub fn error_answer(id: Id<'_>, error: &ErrorBody<'_>) -> Bytes {
    let mut data =
        format!("\"reason\":{},\"correlation_id\":{}", quote(error.reason), quote(error.correlation_id));
    for (name, json) in error.data {
        data.push(',');
        data.push_str(&quote(name));
        data.push(':');
        data.push_str(json);
    }
    Bytes::from(format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{},\"error\":{{\"code\":{},\"message\":{},\"data\":{{{data}}}}}}}",
        id.as_json(),
        error.code,
        quote(error.message)
    ))
}

/// Writes an answer around a `result` that is JSON text.
#[must_use]
pub fn result_answer(id: Id<'_>, result: &str) -> Bytes {
    Bytes::from(format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{result}}}", id.as_json()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Envelope;

    #[test]
    fn an_error_carries_reason_and_correlation() {
        let body = br#"{"jsonrpc":"2.0","id":"a\"b","method":"x"}"#;
        let envelope = Envelope::parse(body).unwrap();
        let error = ErrorBody {
            code: -32022,
            message: "say \"2026-07-28\"",
            reason: "unsupported_version",
            correlation_id: "c",
            data: &[("supported", "[\"2026-07-28\"]".to_owned())],
        };
        assert_eq!(
            error_answer(envelope.id, &error),
            &br#"{"jsonrpc":"2.0","id":"a\"b","error":{"code":-32022,"message":"say \"2026-07-28\"","data":{"reason":"unsupported_version","correlation_id":"c","supported":["2026-07-28"]}}}"#[..]
        );
        assert_eq!(result_answer(Id::Absent, "{}"), &br#"{"jsonrpc":"2.0","id":null,"result":{}}"#[..]);
    }
}
