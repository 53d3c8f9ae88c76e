//! What replicas write to one another: versioned, bounded in size, sealed to one reader.

use bytes::Bytes;
use prost::{Message, Oneof};

/// Letters of another version are left unread: during an upgrade replicas get along without.
const VERSION: u32 = 1;
/// Most bytes of a stream in one letter.
pub(super) const PIECE: usize = 32 * 1024;

/// One letter; it never holds a token.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Letter {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// The replica that wrote it.
    #[prost(string, tag = "2")]
    pub(super) from: String,
    #[prost(oneof = "Body", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
    body: Option<Body>,
}

/// What a letter is about.
#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Body {
    /// A replica has started.
    #[prost(message, tag = "3")]
    Hello(Hello),
    /// A session is over.
    #[prost(message, tag = "4")]
    Ended(Ended),
    /// The agent wants no answer to one of its requests any more.
    #[prost(message, tag = "5")]
    Cancel(Cancel),
    /// A server told that one of its lists changed.
    #[prost(message, tag = "6")]
    Changed(Changed),
    /// An agent has come back for a stream of the reader's.
    #[prost(message, tag = "7")]
    Resume(Resume),
    /// A piece of that stream.
    #[prost(message, tag = "8")]
    Piece(Piece),
    /// The agent is still there.
    #[prost(message, tag = "9")]
    Stay(Number),
    /// The agent has left.
    #[prost(message, tag = "10")]
    Stop(Number),
    /// A caller knows a task by this name from now on.
    #[prost(message, tag = "11")]
    Task(Task),
    /// Which server showed this to that caller?
    #[prost(message, tag = "12")]
    WhoShowed(WhoShowed),
    /// The answer.
    #[prost(message, tag = "13")]
    Showed(Showed),
    /// The session has ended at the writer too.
    #[prost(message, tag = "14")]
    IsEnded(Number),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Hello {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Ended {
    #[prost(string, tag = "1")]
    pub(super) session: String,
    /// Chosen by the writer, who waits for [`Body::IsEnded`]; 0 if it does not.
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Cancel {
    #[prost(string, tag = "1")]
    pub(super) session: String,
    /// JSON text of the request's id.
    #[prost(string, tag = "2")]
    pub(super) request: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Changed {
    #[prost(string, tag = "1")]
    pub(super) server: String,
    /// The notification's method.
    #[prost(string, tag = "2")]
    pub(super) method: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resume {
    /// Chosen by the writer, for the pieces.
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    #[prost(string, tag = "2")]
    pub(super) session: String,
    #[prost(uint32, tag = "3")]
    pub(super) stream: u32,
    /// The last event that the agent has.
    #[prost(uint32, tag = "4")]
    pub(super) after: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Number {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Task {
    /// Whose task of which server it is.
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) sealed: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WhoShowed {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    #[prost(string, tag = "2")]
    pub(super) subject: String,
    #[prost(string, tag = "3")]
    pub(super) endpoint: String,
    #[prost(string, tag = "4")]
    pub(super) uri: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Showed {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    /// Empty if the writer does not know.
    #[prost(string, tag = "2")]
    pub(super) server: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Piece {
    #[prost(uint64, tag = "1")]
    pub(super) number: u64,
    #[prost(enumeration = "State", tag = "2")]
    pub(super) state: i32,
    /// Events as they went out, cut anywhere.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) events: Bytes,
}

/// What is known of a stream that an agent came back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum State {
    /// Nothing: it was forgotten.
    Gone = 0,
    /// The answer is still to come.
    Open = 1,
    /// It was a GET stream, which goes on wherever its agent is.
    Standing = 2,
    /// This was the last piece.
    Ended = 3,
}

impl Letter {
    pub(super) fn new(from: &str, body: Body) -> Self {
        Self { version: VERSION, from: from.to_owned(), body: Some(body) }
    }

    /// `None` if another version of Portico wrote it.
    pub(super) fn read(bytes: &[u8]) -> Option<(String, Body)> {
        let letter = Self::decode(bytes).ok().filter(|letter| letter.version == VERSION)?;
        Some((letter.from, letter.body?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_round_trip_and_those_of_another_version_are_left_unread() {
        let body = Body::Cancel(Cancel { session: "s".into(), request: "\"1\"".into() });
        let mut letter = Letter::new("one", body.clone());
        assert_eq!(Letter::read(&letter.encode_to_vec()), Some(("one".to_owned(), body)));
        letter.version = VERSION + 1;
        assert_eq!(Letter::read(&letter.encode_to_vec()), None);
        assert_eq!(Letter::read(b"\xff\xff"), None);
    }
}
