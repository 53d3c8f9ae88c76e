//! The PEM files that TLS is made of.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TlsError;

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

impl TlsFiles {
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
