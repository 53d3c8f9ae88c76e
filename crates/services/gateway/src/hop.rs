//! Tells what Portico itself has sent: a server whose address leads back here would be called without end.

use arc_swap::ArcSwap;
use http::header::VIA;
use http::{HeaderMap, HeaderValue};
use portico_sealing::HandleSealer;

use crate::refusal::{Reason, Refusal};

/// What the mark is sealed as.
const SEAL: &str = "hop";
/// What the names of Portico's hops begin with (RFC 9110 §7.6.3, `pseudonym`).
const NAME: &str = "portico-";

/// The mark that every request to a server carries. Sealed, so that only the deployment that sent it knows it, and one
/// Portico behind another is no loop.
#[derive(Debug)]
pub(crate) struct Hop {
    handles: HandleSealer,
    via: ArcSwap<HeaderValue>,
}

impl Hop {
    pub(crate) fn new(handles: HandleSealer) -> Self {
        let via = ArcSwap::from_pointee(mark(&handles));
        Self { handles, via }
    }

    /// Seals the mark anew: a process may outlive the key that it was sealed with.
    pub(crate) fn renew(&self) {
        self.via.store(mark(&self.handles).into());
    }

    pub(crate) fn via(&self) -> HeaderValue {
        HeaderValue::clone(&self.via.load())
    }

    /// Refuses what this deployment has sent itself.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let is_own = headers
            .get_all(VIA)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|hop| hop.split_whitespace().nth(1)?.strip_prefix(NAME))
            .any(|sealed| self.handles.open(SEAL, b"", sealed).is_some());
        if !is_own {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::LoopDetected,
            "this request comes from Portico itself: the address of a server leads back here; its owner must correct it",
        ))
    }
}

fn mark(handles: &HandleSealer) -> HeaderValue {
    let via = format!("1.1 {NAME}{}", handles.seal(SEAL, b"", b""));
    // Never taken: sealed text is of letters, digits, `-` and `_`.
    HeaderValue::try_from(via).unwrap_or(HeaderValue::from_static("1.1 portico"))
}
