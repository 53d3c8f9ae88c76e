//! The PEM files that TLS is made of.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use x509_parser::parse_x509_certificate;

use super::TlsError;
use crate::peer::{InvalidPeerIdentity, PeerIdentity};

/// Where certificate, private key and CA are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM file with the certificate and its intermediates, leaf first.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// PEM file with the CA that signs the certificates of this deployment's services; for mutual TLS only.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// What the files held when they were read.
pub(super) struct Material {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) ca: Vec<CertificateDer<'static>>,
    /// Tells whether the files changed, without keeping the key's text.
    pub(super) fingerprint: u64,
}

/// What a certificate says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The service that it is for.
    pub identity: Result<PeerIdentity, InvalidPeerIdentity>,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
}

impl TlsFiles {
    /// Reads what the certificate says, without deciding whether anybody would trust it.
    pub fn certificate(&self) -> Result<Certificate, TlsError> {
        let material = self.read()?;
        let broken = || TlsError::Content { path: self.cert.clone(), expected: "certificate" };
        let leaf = material.chain.first().ok_or_else(broken)?;
        let (_, parsed) = parse_x509_certificate(leaf).map_err(|_| broken())?;
        let not_after = parsed.validity().not_after.timestamp();
        Ok(Certificate { identity: PeerIdentity::from_certificate(leaf), not_after })
    }

    pub(super) fn read(&self) -> Result<Material, TlsError> {
        let mut hasher = DefaultHasher::new();
        let mut read = |path: &Path| {
            let text =
                std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
            text.hash(&mut hasher);
            Ok::<_, TlsError>(text)
        };
        let chain = certificates(&self.cert, &read(&self.cert)?)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| TlsError::Content { path: self.key.clone(), expected: "private key" })?;
        let ca = match &self.ca {
            Some(path) => certificates(path, &read(path)?)?,
            None => Vec::new(),
        };
        Ok(Material { chain, key, ca, fingerprint: hasher.finish() })
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let expected = || TlsError::Content { path: path.to_owned(), expected: "certificate" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(expected)
}
