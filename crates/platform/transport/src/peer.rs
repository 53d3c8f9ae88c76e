//! Who is at the other end of a connection.

use std::net::SocketAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::parse_x509_certificate;

const SPIFFE_PREFIX: &str = "spiffe://portico/";

/// The service of this deployment that sent a request.
///
/// A request extension. Only an in-process [`crate::Link`] and the mutual-TLS acceptor insert it; every other
/// listener removes it, so a request from outside never carries one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// The service's name, e.g. `gateway`.
    pub service: String,
}

impl PeerIdentity {
    /// Names a service of this deployment.
    pub fn new(service: impl Into<String>) -> Self {
        Self { service: service.into() }
    }

    /// Returns the SPIFFE id that the service's certificate carries.
    #[must_use]
    pub fn spiffe_id(&self) -> String {
        format!("{SPIFFE_PREFIX}{}", self.service)
    }

    /// Reads the identity from a verified certificate (SPIFFE X.509-SVID §2: exactly one URI SAN).
    pub(crate) fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, InvalidPeerIdentity> {
        let (_, parsed) =
            parse_x509_certificate(certificate).map_err(|_| InvalidPeerIdentity::NotACertificate)?;
        let mut uris = Vec::new();
        for extension in parsed.extensions() {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
                continue;
            };
            for name in &names.general_names {
                if let GeneralName::URI(uri) = name {
                    uris.push(*uri);
                }
            }
        }
        match uris.as_slice() {
            [] => Err(InvalidPeerIdentity::NoUri),
            [uri] => Self::parse(uri),
            _ => Err(InvalidPeerIdentity::SeveralUris),
        }
    }

    /// Parses `spiffe://portico/<service>`.
    pub fn parse(uri: &str) -> Result<Self, InvalidPeerIdentity> {
        let foreign = || InvalidPeerIdentity::Foreign(uri.escape_default().to_string());
        let service = uri.strip_prefix(SPIFFE_PREFIX).ok_or_else(foreign)?;
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if service.is_empty() || service.len() > 63 || !service.bytes().all(allowed) {
            return Err(foreign());
        }
        Ok(Self::new(service))
    }
}

/// Why a certificate names no service of this deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeerIdentity {
    /// The bytes are not an X.509 certificate.
    #[error("the peer's certificate cannot be read")]
    NotACertificate,
    /// There is no URI among the subject alternative names.
    #[error("the peer's certificate has no URI SAN: issue it with spiffe://portico/<service>")]
    NoUri,
    /// There is more than one URI, so the identity is ambiguous.
    #[error(
        "the peer's certificate has several URI SANs: issue it with exactly one, spiffe://portico/<service>"
    )]
    SeveralUris,
    /// The URI is not in this deployment's trust domain.
    #[error("the peer's certificate is for {0}, not for spiffe://portico/<service>")]
    Foreign(String),
}

/// Where a request came from: the socket's other end, or what a trusted proxy there says; a request extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_id_round_trips() {
        let gateway = PeerIdentity::new("gateway");
        assert_eq!(PeerIdentity::parse(&gateway.spiffe_id()), Ok(gateway));
    }

    #[test]
    fn s0_28_foreign_or_malformed_spiffe_ids_are_refused() {
        for uri in [
            "spiffe://other/gateway",
            "spiffe://portico/",
            "spiffe://portico/a/b",
            "spiffe://portico/Gateway",
            "spiffe://portico/gateway?x",
            "SPIFFE://portico/gateway",
            "https://portico/gateway",
        ] {
            assert!(PeerIdentity::parse(uri).is_err(), "{uri}");
        }
    }
}
