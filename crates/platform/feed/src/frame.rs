//! The frames of a watch stream, apart from any one proto package.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

/// One message of a watch stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame<I> {
    /// A batch begins.
    Begin {
        /// Whether everything known before is to be forgotten.
        snapshot: bool,
    },
    /// A part of the batch, at most 256 KiB.
    Put {
        /// New values of items.
        items: Vec<I>,
        /// Keys of items that no longer exist.
        removed: Vec<String>,
    },
    /// The batch is complete; its content is the server's state at this revision.
    End {
        /// The revision.
        revision: i64,
    },
    /// Everything up to this revision has been sent.
    Heartbeat {
        /// The revision.
        revision: i64,
        /// What the server's clock showed, if it says.
        sent_at: Option<DateTime<Utc>>,
    },
}

/// Translates between [`Frame`] and the messages of one watch stream; [`frame_codec!`](crate::frame_codec) writes it.
pub trait FrameCodec: Send + Sync + 'static {
    /// The message on the wire.
    type Message: Send + 'static;
    /// What is followed.
    type Item: prost::Message + Default + Clone + 'static;

    /// Reads a message; `None` if its frame is of a kind that this program does not know.
    fn decode(message: Self::Message) -> Option<Frame<Self::Item>>;
    /// Writes a message.
    fn encode(frame: Frame<Self::Item>) -> Self::Message;
    /// Names an item.
    fn key(item: &Self::Item) -> &str;
}

/// Writes a time as protobuf does.
#[must_use]
pub fn timestamp(moment: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: moment.timestamp(),
        // Below two billion even in a leap second.
        nanos: i32::try_from(moment.timestamp_subsec_nanos()).unwrap_or_default(),
    }
}

/// Reads a time that protobuf wrote; `None` if it is none.
#[must_use]
pub fn moment(timestamp: &Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(timestamp.seconds, u32::try_from(timestamp.nanos).ok()?)
}

/// Declares a [`FrameCodec`] for a watch stream whose messages have the usual shape.
///
/// ```
/// portico_feed::frame_codec! {
///     /// Frames of `WatchCatalogue`.
///     pub struct CatalogueFrames {
///         message: portico_proto_registry::WatchCatalogueResponse,
///         frame: portico_proto_registry::watch_catalogue_response::Frame,
///         begin: portico_proto_registry::CatalogueBegin,
///         put: portico_proto_registry::CataloguePut,
///         end: portico_proto_registry::CatalogueEnd,
///         heartbeat: portico_proto_registry::CatalogueHeartbeat,
///         item: portico_proto_registry::CatalogueItem,
///     }
/// }
/// ```
#[macro_export]
macro_rules! frame_codec {
    (
        $(#[$meta:meta])*
        $visibility:vis struct $name:ident {
            message: $message:ty,
            frame: $frame:ty,
            begin: $begin:ty,
            put: $put:ty,
            end: $end:ty,
            heartbeat: $heartbeat:ty,
            item: $item:ty $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        $visibility struct $name;

        impl $crate::FrameCodec for $name {
            type Message = $message;
            type Item = $item;

            fn decode(message: $message) -> Option<$crate::Frame<$item>> {
                type Wire = $frame;
                Some(match message.frame? {
                    Wire::Begin(begin) => $crate::Frame::Begin { snapshot: begin.snapshot },
                    Wire::Put(put) => $crate::Frame::Put { items: put.items, removed: put.removed },
                    Wire::End(end) => $crate::Frame::End { revision: end.revision },
                    Wire::Heartbeat(beat) => {
                        let sent_at = beat.sent_at.as_ref().and_then($crate::moment);
                        $crate::Frame::Heartbeat { revision: beat.revision, sent_at }
                    }
                })
            }

            fn encode(frame: $crate::Frame<$item>) -> $message {
                type Message = $message;
                type Wire = $frame;
                type Begin = $begin;
                type Put = $put;
                type End = $end;
                type Heartbeat = $heartbeat;
                let frame = match frame {
                    $crate::Frame::Begin { snapshot } => Wire::Begin(Begin { snapshot }),
                    $crate::Frame::Put { items, removed } => Wire::Put(Put { items, removed }),
                    $crate::Frame::End { revision } => Wire::End(End { revision }),
                    $crate::Frame::Heartbeat { revision, sent_at } => {
                        Wire::Heartbeat(Heartbeat { revision, sent_at: sent_at.map($crate::timestamp) })
                    }
                };
                Message { frame: Some(frame) }
            }

            fn key(item: &$item) -> &str {
                &item.key
            }
        }
    };
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Debug;

    use portico_proto_auth as auth;
    use portico_proto_registry as registry;

    use super::*;

    crate::frame_codec! {
        pub(crate) struct Trust {
            message: auth::WatchTrustResponse,
            frame: auth::watch_trust_response::Frame,
            begin: auth::TrustBegin,
            put: auth::TrustPut,
            end: auth::TrustEnd,
            heartbeat: auth::TrustHeartbeat,
            item: auth::TrustItem,
        }
    }

    crate::frame_codec! {
        pub(crate) struct Catalogue {
            message: registry::WatchCatalogueResponse,
            frame: registry::watch_catalogue_response::Frame,
            begin: registry::CatalogueBegin,
            put: registry::CataloguePut,
            end: registry::CatalogueEnd,
            heartbeat: registry::CatalogueHeartbeat,
            item: registry::CatalogueItem,
        }
    }

    /// An item that is told apart by its text.
    pub(crate) fn item(key: &str, text: &str) -> auth::TrustItem {
        let issuer = auth::TrustIssuer { issuer: text.to_owned() };
        auth::TrustItem { key: key.to_owned(), value: Some(auth::trust_item::Value::Issuer(issuer)) }
    }

    pub(crate) fn text(item: &auth::TrustItem) -> &str {
        match &item.value {
            Some(auth::trust_item::Value::Issuer(issuer)) => &issuer.issuer,
            _ => "",
        }
    }

    #[test]
    fn both_watch_streams_map_to_frames_and_back() {
        fn round_trip<C: FrameCodec>(item: C::Item)
        where
            C::Item: PartialEq + Debug,
        {
            for frame in [
                Frame::Begin { snapshot: true },
                Frame::Put { items: vec![item], removed: vec!["gone".to_owned()] },
                Frame::End { revision: 7 },
                Frame::Heartbeat { revision: 8, sent_at: DateTime::from_timestamp(1_800_000_000, 5) },
                Frame::Heartbeat { revision: 9, sent_at: None },
            ] {
                assert_eq!(C::decode(C::encode(frame.clone())), Some(frame));
            }
        }
        round_trip::<Trust>(item("issuer", "https://portico.example"));
        round_trip::<Catalogue>(registry::CatalogueItem { key: "server/1".to_owned(), value: None });
    }

    #[test]
    fn a_frame_of_an_unknown_kind_is_nothing() {
        assert_eq!(Trust::decode(auth::WatchTrustResponse { frame: None }), None);
    }
}
