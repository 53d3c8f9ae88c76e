use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use portico_mcp_types::{
    Envelope, MCP_METHOD, META_PROTOCOL_VERSION, Object, PROTOCOL_VERSION, ParseError, Revision,
    decode_value, method, text_of,
};

use super::StatelessLeg;
use super::checks::mismatch;
use super::tool_headers::{Mirrored, Page, Tools};
use crate::refusal::Refusal;
use crate::upstream::{Candidates, Outgoing};

/// Most pages of a list that is fetched for its annotations.
const MAX_PAGES: usize = 50;

impl StatelessLeg<'_> {
    /// Compares `Mcp-Param-*` with the arguments; a tool that was never listed is listed first.
    pub(super) async fn check_mirrored(&self, candidates: &mut Candidates) -> Result<(), Refusal> {
        if self.inbound.envelope.method() != method::TOOLS_CALL {
            return Ok(());
        }
        let tools = if let Some(tools) = self.engine.tool_headers.known(self.server) {
            tools
        } else {
            let within = Duration::from_millis(self.engine.upstream.settings.list_timeout_ms);
            // A server whose list does not come is judged by its answer to the call.
            let Ok(Ok((tools, whole))) = tokio::time::timeout(within, self.list(candidates)).await else {
                return Ok(());
            };
            if whole { self.engine.tool_headers.set(self.server, tools) } else { Arc::new(tools) }
        };
        let name = self.inbound.params.name()?;
        let Some(mirrored) = tools.get(name.as_ref()) else { return Ok(()) };
        compare(mirrored, self.inbound.params.arguments(), &self.inbound.head.headers)
    }

    /// The annotated tools, and whether the list was read to its end.
    async fn list(&self, candidates: &mut Candidates) -> Result<(Tools, bool), Refusal> {
        let mut tools = Tools::new();
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let body = list_request(cursor.as_deref());
            let mut outgoing = Outgoing::post(body.clone()).traced(&self.call.correlation, &self.call.trace);
            let version = HeaderValue::from_static(Revision::NEWEST.as_str());
            outgoing.headers.insert(PROTOCOL_VERSION, version);
            outgoing.headers.insert(MCP_METHOD, HeaderValue::from_static(method::TOOLS_LIST));
            let answer = self.engine.upstream.exchange_with_any(candidates, outgoing, self.call).await?;
            let id = Envelope::parse(&body)?.id;
            let (message, _) = self.engine.upstream.response_to(id, answer).await?;
            let Some(page) = Page::read(&message) else { break };
            tools.extend(page.annotated);
            cursor = page.next;
            if cursor.is_none() {
                return Ok((tools, true));
            }
        }
        Ok((tools, false))
    }
}

/// Portico's own `tools/list`: it declares no capability, because it asks for nobody.
fn list_request(cursor: Option<&str>) -> Bytes {
    let cursor = cursor.map(|c| format!("\"cursor\":{},", serde_json::Value::from(c))).unwrap_or_default();
    Bytes::from(format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":\"portico-tools\",\"method\":\"tools/list\",\"params\":{{{cursor}\"_meta\":{{\
         \"{META_PROTOCOL_VERSION}\":\"{}\",\"{}\":{{\"name\":\"portico\",\"version\":\"{}\"}},\"{}\":{{}}}}}}}}",
        Revision::NEWEST,
        portico_mcp_types::CLIENT_INFO,
        env!("CARGO_PKG_VERSION"),
        portico_mcp_types::CLIENT_CAPABILITIES,
    ))
}

/// The table of "Server Behavior for Custom Headers" (2026-07-28).
fn compare(
    mirrored: &[Mirrored],
    arguments: Option<&serde_json::value::RawValue>,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    for parameter in mirrored {
        let value = match arguments {
            Some(arguments) => value_at(arguments.get(), &parameter.path)?,
            None => None,
        };
        let mut sent = headers.get_all(&parameter.header).iter();
        let header = match sent.next() {
            Some(header) => Some(
                decode_value(header.as_bytes())
                    .map_err(|_| mismatch(format!("{} cannot be read", parameter.header)))?,
            ),
            None => None,
        };
        let agree = sent.next().is_none()
            && match (&value, &header) {
                (None, None) => true,
                (Some(value), Some(header)) if parameter.integer => same_number(value, header),
                (Some(value), Some(header)) => value == header.as_ref(),
                _ => false,
            };
        if !agree {
            return Err(mismatch(format!(
                "Header mismatch: {} must repeat the argument {}",
                parameter.header,
                parameter.path.join(".")
            )));
        }
    }
    Ok(())
}

/// The value at a path as its header says it; `None` if it is absent or null, or there is no such path.
fn value_at(arguments: &str, path: &[String]) -> Result<Option<String>, ParseError> {
    let Some((key, rest)) = path.split_first() else { return Ok(None) };
    let object = match Object::parse(arguments, "arguments") {
        // What fails validation is for the server to tell.
        Err(ParseError::NotAnObject(_)) => return Ok(None),
        parsed => parsed?,
    };
    match object.get(key) {
        None => Ok(None),
        Some(raw) if raw.get() == "null" => Ok(None),
        Some(raw) if rest.is_empty() => {
            Ok(Some(text_of(raw).map_or_else(|| raw.get().to_owned(), std::borrow::Cow::into_owned)))
        }
        Some(raw) => value_at(raw.get(), rest),
    }
}

/// 42 and 42.0 are the same integer (2026-07-28, Server Validation).
fn same_number(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    // Beyond 2^53 different integers have the same f64, and only the same text is the same number.
    let exact = |text: &str| text.parse::<f64>().ok().filter(|number| number.abs() < 9_007_199_254_740_992.0);
    match (exact(a), exact(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    fn check(arguments: &str, header: Option<&'static str>, integer: bool) -> bool {
        let mirrored = [Mirrored {
            path: vec!["a".into(), "b".into()],
            header: "mcp-param-x".parse().unwrap(),
            integer,
        }];
        let arguments: Box<RawValue> = serde_json::from_str(arguments).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("mcp-param-x", HeaderValue::from_static(header));
        }
        compare(&mirrored, Some(&arguments), &headers).is_ok()
    }

    #[test]
    fn rs_33_mirrored_parameters_must_equal_the_body() {
        assert!(check(r#"{"a":{"b":"eu"}}"#, Some("eu"), false));
        assert!(check(r#"{"a":{"b":"\u00e9"}}"#, Some("=?base64?w6k=?="), false));
        assert!(check(r#"{"a":{"b":true}}"#, Some("true"), false));
        assert!(check(r#"{"a":{}}"#, None, false));
        assert!(check(r#"{"a":{"b":null}}"#, None, false));
        for without in [r#"{"a":null}"#, r#"{"a":"eu"}"#, "null", "[]"] {
            assert!(check(without, None, false), "{without}");
            assert!(!check(without, Some("eu"), false), "{without}");
        }
        assert!(!check(r#"{"a":{"b":"eu"}}"#, Some("us"), false));
        assert!(!check(r#"{"a":{"b":"eu"}}"#, None, false));
        assert!(!check(r#"{"a":{}}"#, Some("eu"), false));
        assert!(!check(r#"{"a":{"b":"eu","b":"us"}}"#, Some("eu"), false));
        assert!(!check(r#"{"a":{"b":"x"}}"#, Some("=?base64?!?="), false));
    }

    #[test]
    fn integers_compare_as_numbers() {
        assert!(check(r#"{"a":{"b":42}}"#, Some("42.0"), true));
        assert!(!check(r#"{"a":{"b":42}}"#, Some("43"), true));
        assert!(!check(r#"{"a":{"b":9007199254740993}}"#, Some("9007199254740992"), true));
    }
}
