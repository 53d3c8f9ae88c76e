use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longest id of a request, as JSON text, that event ids carry.
const MAX_REQUEST: usize = 96;
/// Longest event id that is looked at.
const MAX_TEXT: usize = 256;

/// Names one event on its replica: which stream of the session, and the how-manieth event on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventId {
    pub(crate) stream: u32,
    pub(crate) number: u32,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream, self.number)
    }
}

/// What follows the numbers in every event id of a stream: the replica that owns it, and the request that it answers.
///
/// Any replica can so hand a resuming agent on to the owner, or, when the owner is dead, tell it which call was lost.
#[derive(Debug, Clone)]
pub(crate) struct Origin(Arc<str>);

impl Origin {
    pub(super) fn new(replica: &str, request: Option<&str>) -> Self {
        match request.filter(|request| request.len() <= MAX_REQUEST) {
            Some(request) => Self(format!("~{replica}~{}", URL_SAFE_NO_PAD.encode(request)).into()),
            None => Self(format!("~{replica}").into()),
        }
    }

    /// The text that an agent gets and may bring back.
    pub(crate) fn text(&self, id: EventId) -> bytes::Bytes {
        format!("{id}{}", self.0).into()
    }
}

/// A `Last-Event-ID`: untrusted, like everything that an agent sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastEvent {
    pub(crate) id: EventId,
    /// The replica that owns the stream; `None` means the one that is asked.
    pub(crate) owner: Option<String>,
    /// JSON text of the id of the request that the stream answers.
    pub(crate) request: Option<String>,
}

impl FromStr for LastEvent {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() > MAX_TEXT {
            return Err(());
        }
        let mut parts = text.split('~');
        let (stream, number) = parts.next().and_then(|id| id.split_once('-')).ok_or(())?;
        let id = EventId { stream: stream.parse().map_err(drop)?, number: number.parse().map_err(drop)? };
        let owner = match parts.next() {
            Some(owner) if is_replica(owner) => Some(owner.to_owned()),
            Some(_) => return Err(()),
            None => None,
        };
        let request = match parts.next() {
            Some(request) => Some(request_of(request).ok_or(())?),
            None => None,
        };
        match parts.next() {
            Some(_) => Err(()),
            None => Ok(Self { id, owner, request }),
        }
    }
}

/// Ids of requests are strings or integers (JSON-RPC 2.0 §4); nothing else is put into an answer.
fn request_of(text: &str) -> Option<String> {
    let json = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let value: serde_json::Value = serde_json::from_str(&json).ok()?;
    (value.is_string() || value.is_number()).then_some(json)
}

/// Whether a text can be the id of a replica.
fn is_replica(text: &str) -> bool {
    (8..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_ids_round_trip_with_their_owner_and_request() {
        let id = EventId { stream: 3, number: 12 };
        let text = |origin: &Origin| String::from_utf8(origin.text(id).to_vec()).unwrap();
        let read = |text: &str| text.parse::<LastEvent>().unwrap();
        assert_eq!(read("3-12"), LastEvent { id, owner: None, request: None });
        let standing = read(&text(&Origin::new("replica-1", None)));
        assert_eq!(standing, LastEvent { id, owner: Some("replica-1".into()), request: None });
        for request in ["5", r#""a~b-c""#] {
            let call = read(&text(&Origin::new("replica-1", Some(request))));
            assert_eq!(call.request.as_deref(), Some(request));
        }
        let long = format!("\"{}\"", "x".repeat(MAX_REQUEST));
        assert_eq!(read(&text(&Origin::new("replica-1", Some(&long)))).request, None);
    }

    #[test]
    fn nonsense_is_no_event_id() {
        let forged = format!("1-2~replica-1~{}", URL_SAFE_NO_PAD.encode(r#"{"a":1}"#));
        let long = format!("1-2~{}", "r".repeat(300));
        for text in ["", "3", "3-", "-", "3-x", "99999999999-1", "1-2~", "1-2~a/b/c/d/e", "1-2~replica-1~%"]
            .into_iter()
            .chain(["1-2~replica-1~NQ~more", forged.as_str(), long.as_str()])
        {
            assert!(text.parse::<LastEvent>().is_err(), "{text}");
        }
    }
}
