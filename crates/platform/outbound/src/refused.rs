//! Why an address is not called.

/// The kind of refusal; stable, for error tables and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The text is not an absolute URL.
    UrlMalformed,
    /// The scheme is neither http nor https.
    SchemeNotAllowed,
    /// The URL carries a user name or a password.
    UserinfoNotAllowed,
    /// The host is a number in a form that programs read differently.
    HostAmbiguous,
    /// The port belongs to another protocol.
    PortNotAllowed,
    /// The name does not resolve.
    HostNotResolved,
    /// A private address that the policy does not list.
    AddressPrivate,
    /// An address that is never called.
    AddressDenied,
    /// An address of this deployment itself.
    AddressOwn,
}

impl RefusalReason {
    /// Returns the reason as it stands in errors on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UrlMalformed => "url_malformed",
            Self::SchemeNotAllowed => "scheme_not_allowed",
            Self::UserinfoNotAllowed => "userinfo_not_allowed",
            Self::HostAmbiguous => "host_ambiguous",
            Self::PortNotAllowed => "port_not_allowed",
            Self::HostNotResolved => "host_not_resolved",
            Self::AddressPrivate => "address_private",
            Self::AddressDenied => "address_denied",
            Self::AddressOwn => "address_own",
        }
    }
}

/// A refusal with a message that says what to do; it can be shown to whoever entered the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AddressRefused {
    /// The kind of refusal.
    pub reason: RefusalReason,
    /// What is wrong and what to do.
    pub message: String,
}

impl AddressRefused {
    pub(crate) fn new(reason: RefusalReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
