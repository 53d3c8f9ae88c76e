//! Which era a request belongs to, and which session: the rules in one pure function.

use portico_mcp_types::{CallParams, Envelope, Kind, META_PROTOCOL_VERSION, Revision, method};

use crate::refusal::{Reason, Refusal};

/// What a POST with one message is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Class<'a> {
    /// A request of the stateless era; it stands for itself.
    Stateless,
    /// `initialize`: opens a session.
    Initialize,
    /// A message of the session with this id.
    Session(&'a str),
}

/// Classifies a POST. The body decides; headers only fill in what it leaves open (RS-33).
pub(crate) fn classify<'a>(
    envelope: &Envelope<'_>,
    params: &CallParams<'_>,
    version: Option<&str>,
    session: Option<&'a str>,
) -> Result<Class<'a>, Refusal> {
    if params.meta.get(META_PROTOCOL_VERSION).is_some() {
        return Ok(Class::Stateless);
    }
    if version.is_some_and(Revision::names_stateless_era) {
        return Err(Refusal::new(
            Reason::InvalidParams,
            format!(
                "a request of revision 2026-07-28 or later needs _meta[\"{META_PROTOCOL_VERSION}\"]; add it, or send \
                 the MCP-Protocol-Version of your session"
            ),
        ));
    }
    if envelope.kind == Kind::Request && envelope.method() == method::INITIALIZE {
        return Ok(Class::Initialize);
    }
    match session {
        Some(id) => Ok(Class::Session(id)),
        None => Err(session_required()),
    }
}

pub(crate) fn session_required() -> Refusal {
    Refusal::new(
        Reason::SessionRequired,
        "this request names no session: send initialize first and then Mcp-Session-Id, or use revision 2026-07-28",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class<'a>(body: &str, version: Option<&str>, session: Option<&'a str>) -> Result<Class<'a>, Reason> {
        let envelope = Envelope::parse(body.as_bytes()).unwrap();
        let params = CallParams::parse(envelope.params).unwrap();
        classify(&envelope, &params, version, session).map_err(|refusal| refusal.reason)
    }

    const PLAIN: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    const STATELESS: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;

    #[test]
    fn the_body_decides_before_any_header() {
        assert_eq!(class(STATELESS, None, Some("s")), Ok(Class::Stateless));
        assert_eq!(class(STATELESS, Some("2025-06-18"), None), Ok(Class::Stateless));
    }

    #[test]
    fn a_stateless_header_without_the_body_is_refused() {
        assert_eq!(class(PLAIN, Some("2026-07-28"), Some("s")), Err(Reason::InvalidParams));
        assert_eq!(class(INITIALIZE, Some("2027-01-01"), None), Err(Reason::InvalidParams));
    }

    #[test]
    fn initialize_opens_and_a_session_id_continues() {
        assert_eq!(class(INITIALIZE, None, None), Ok(Class::Initialize));
        assert_eq!(class(PLAIN, Some("2025-06-18"), Some("s")), Ok(Class::Session("s")));
        assert_eq!(class(PLAIN, None, None), Err(Reason::SessionRequired));
    }
}
