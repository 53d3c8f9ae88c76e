//! Certificates for tests, of this crate and of those above.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

use crate::peer::PeerIdentity;
use crate::tls::TlsFiles;

/// A CA of its own that issues certificates for services into a directory.
#[derive(Debug)]
pub struct TestCa(CertifiedIssuer<'static, KeyPair>);

#[expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::new_without_default,
    clippy::must_use_candidate,
    reason = "for tests only, where a panic is the answer"
)]
impl TestCa {
    /// Makes a CA that nobody else knows.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Issues the certificate of a service.
    pub fn issue(&self, directory: &Path, service: &str) -> TlsFiles {
        self.issue_with(directory, service, &[&PeerIdentity::new(service).spiffe_id()])
    }

    /// Issues a certificate that was valid until long ago.
    pub fn issue_expired(&self, directory: &Path, service: &str) -> TlsFiles {
        let uri = PeerIdentity::new(service).spiffe_id();
        self.write(directory, service, &[&uri], |params| params.not_after = rcgen::date_time_ymd(2001, 1, 1))
    }

    /// Issues a certificate with these URIs.
    pub fn issue_with(&self, directory: &Path, name: &str, uris: &[&str]) -> TlsFiles {
        self.write(directory, name, uris, |_| {})
    }

    fn write(
        &self,
        directory: &Path,
        name: &str,
        uris: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let write = |kind: &str, text: String| {
            let path = directory.join(format!("{name}.{kind}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        TlsFiles {
            cert: write("cert", certificate.pem()),
            key: write("key", key.serialize_pem()),
            ca: Some(write("ca", self.0.pem())),
        }
    }
}
