use portico_mcp_types::{
    CLIENT_CAPABILITIES, Kind, MCP_METHOD, MCP_NAME, META_PROTOCOL_VERSION, PROTOCOL_VERSION, Revision,
    decode_value, method,
};

use crate::front::Inbound;
use crate::handles::names_a_task;
use crate::refusal::{Reason, Refusal};

/// Checks a message's shape, its version and that headers say what the body says (RS-33).
pub(super) fn check(inbound: &Inbound<'_>) -> Result<(), Refusal> {
    if inbound.envelope.kind == Kind::Response {
        return Err(Refusal::new(
            Reason::InvalidMessage,
            "revision 2026-07-28 has no responses of clients; send inputResponses with the request again",
        ));
    }
    check_version(inbound)?;
    check_method(inbound)?;
    if inbound.envelope.kind == Kind::Request {
        let capabilities = inbound.params.meta.get(CLIENT_CAPABILITIES);
        if !capabilities.is_some_and(|raw| raw.get().starts_with('{')) {
            return Err(Refusal::new(
                Reason::InvalidParams,
                format!("every request needs an object in _meta[\"{CLIENT_CAPABILITIES}\"]"),
            ));
        }
    }
    check_name(inbound)
}

fn check_version(inbound: &Inbound<'_>) -> Result<(), Refusal> {
    let Some(version) = inbound.params.meta.text(META_PROTOCOL_VERSION) else {
        return Err(Refusal::new(
            Reason::InvalidParams,
            format!("_meta[\"{META_PROTOCOL_VERSION}\"] must be a string such as 2026-07-28"),
        ));
    };
    compare(inbound.header(&PROTOCOL_VERSION), &version, "MCP-Protocol-Version")?;
    if Revision::parse(&version).is_ok_and(Revision::is_stateless) {
        return Ok(());
    }
    // Older revisions need a session and are no answer to a request without one.
    let supported: Vec<&str> = Revision::ALL
        .iter()
        .rev()
        .filter(|revision| revision.is_stateless())
        .map(|revision| revision.as_str())
        .collect();
    Err(Refusal::new(
        Reason::UnsupportedVersion,
        "this protocol version is not served; use one of error.data.supported",
    )
    .with_data("supported", serde_json::Value::from(supported).to_string())
    .with_data("requested", serde_json::Value::from(version.as_ref()).to_string()))
}

fn check_method(inbound: &Inbound<'_>) -> Result<(), Refusal> {
    let name = inbound.envelope.method();
    if inbound.envelope.kind == Kind::Request {
        compare(inbound.header(&MCP_METHOD), name, "Mcp-Method")?;
    }
    let removed = matches!(
        name,
        method::INITIALIZE
            | method::PING
            | method::SET_LEVEL
            | method::RESOURCES_SUBSCRIBE
            | method::RESOURCES_UNSUBSCRIBE
            | method::INITIALIZED
            | method::ROOTS_CHANGED
            | method::TASKS_RESULT
            | method::TASKS_LIST
    );
    if removed {
        return Err(Refusal::new(
            Reason::MethodNotFound,
            format!("{name} does not exist in revision 2026-07-28"),
        ));
    }
    Ok(())
}

fn check_name(inbound: &Inbound<'_>) -> Result<(), Refusal> {
    let name = match inbound.envelope.method() {
        method::TOOLS_CALL | method::PROMPTS_GET => inbound.params.name()?,
        method::RESOURCES_READ => inbound.params.uri()?,
        name if names_a_task(name) => inbound.params.required("taskId")?,
        _ => return Ok(()),
    };
    match inbound.header(&MCP_NAME).map(|value| decode_value(value.as_bytes())) {
        Some(Ok(header)) => compare(Some(&header), &name, "Mcp-Name"),
        Some(Err(_)) => Err(mismatch("Mcp-Name is neither plain ASCII nor valid =?base64?…?=")),
        None => compare(None, &name, "Mcp-Name"),
    }
}

/// Header values are case-sensitive (2026-07-28, Case Sensitivity).
fn compare(header: Option<&str>, body: &str, name: &'static str) -> Result<(), Refusal> {
    match header {
        Some(header) if header == body => Ok(()),
        Some(_) => Err(mismatch(format!("Header mismatch: {name} does not say what the body says"))),
        None => {
            Err(mismatch(format!("Header mismatch: {name} is missing; it must repeat the value of the body")))
        }
    }
}

pub(super) fn mismatch(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Reason::HeaderMismatch, message)
}
