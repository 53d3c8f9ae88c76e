//! TLS from certificate files that may be renewed while the process runs.

mod files;
mod identity;
mod reload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use portico_process::Tasks;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::files::Material;
pub use self::files::{Certificate, TlsFiles};
use self::identity::ServiceVerifier;
use self::reload::Reloadable;
use crate::peer::{InvalidPeerIdentity, PeerIdentity};
use crate::refused_peers::{PeerRefusals, RefusedPeer};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read the TLS file {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {expected} in PEM form", path.display())]
    Content {
        /// Which one.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// Mutual TLS needs a CA.
    #[error("mutual TLS needs the CA that signs the services' certificates: set ca to its PEM file")]
    NoCa,
    /// Certificate, key and CA do not make a configuration.
    #[error("the certificate, the key and the CA do not fit together")]
    Rustls(#[from] rustls::Error),
    /// The CA cannot verify anybody.
    #[error("the CA file has no usable certificate")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The provider is named at every use, so no process-wide default decides.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The serving side of TLS; certificates are reloaded without a restart.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<Reloadable<ServerConfig>>,
    mutual: bool,
    refusals: Option<PeerRefusals>,
}

impl ServerTls {
    /// Serves anybody over TLS 1.2 or 1.3.
    pub fn public(files: TlsFiles) -> Result<Self, TlsError> {
        let config = Arc::new(Reloadable::new(files, public_server)?);
        Ok(Self { config, mutual: false, refusals: None })
    }

    /// Serves only peers that prove to be a service of this deployment, over TLS 1.3.
    pub fn mutual(files: TlsFiles) -> Result<Self, TlsError> {
        let config = Arc::new(Reloadable::new(files, mutual_server)?);
        Ok(Self { config, mutual: true, refusals: None })
    }

    /// Reports who was refused for its certificate.
    #[must_use]
    pub fn reporting(self, refusals: PeerRefusals) -> Self {
        Self { refusals: Some(refusals), ..self }
    }

    /// Reads the files again if they changed. On an error the old certificates stay in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.config.reload()
    }

    /// Reads the files again whenever they change, until shutdown.
    pub fn watch(&self, tasks: &Tasks) {
        self.config.watch("tls.server.reload", tasks);
    }

    pub(crate) fn is_mutual(&self) -> bool {
        self.mutual
    }

    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Option<PeerIdentity>), AcceptError> {
        let stream = TlsAcceptor::from(self.config.current()).accept(stream).await?;
        if !self.mutual {
            return Ok((stream, None));
        }
        let certificates = stream.get_ref().1.peer_certificates();
        let leaf = certificates.and_then(<[_]>::first).ok_or(InvalidPeerIdentity::NotACertificate)?;
        let identity = PeerIdentity::from_certificate(leaf)?;
        Ok((stream, Some(identity)))
    }

    /// Tells of a refused connection. Only what a certificate says, or its lack, is worth a record: a balancer that
    /// looks whether the port is open is none.
    pub(crate) fn report(&self, error: &AcceptError, address: SocketAddr) {
        let Some(refusals) = &self.refusals else { return };
        match error.reason() {
            Some(reason) => refusals.report(RefusedPeer {
                service: None,
                address: Some(address.ip()),
                method: String::new(),
                reason,
                untold: 0,
            }),
            None => refusals.count("handshake_failed"),
        }
    }
}

/// Why a TLS connection was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    #[error(transparent)]
    Handshake(#[from] std::io::Error),
    #[error(transparent)]
    Identity(#[from] InvalidPeerIdentity),
}

impl AcceptError {
    /// Returns what was wrong with the peer's certificate, if that was the reason.
    fn reason(&self) -> Option<&'static str> {
        let error = match self {
            Self::Identity(_) => return Some("identity_invalid"),
            Self::Handshake(error) => error.get_ref()?.downcast_ref::<rustls::Error>()?,
        };
        match error {
            rustls::Error::NoCertificatesPresented => Some("certificate_missing"),
            rustls::Error::InvalidCertificate(problem) => Some(match problem {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "certificate_not_yet_valid"
                }
                // Another CA of the same name shows by its signature only.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => "certificate_untrusted",
                _ => "certificate_invalid",
            }),
            _ => None,
        }
    }
}

/// The calling side of mutual TLS, for one service at the other end.
#[derive(Debug, Clone)]
pub struct ClientTls {
    config: Arc<Reloadable<ClientConfig>>,
}

impl ClientTls {
    /// Calls `expected` and nobody else: the other end must hold its certificate, signed by the CA of `files`.
    pub fn mutual(files: TlsFiles, expected: PeerIdentity) -> Result<Self, TlsError> {
        let config = Reloadable::new(files, move |material| mutual_client(material, &expected))?;
        Ok(Self { config: Arc::new(config) })
    }

    /// Reads the files again if they changed. On an error the old certificates stay in use.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.config.reload()
    }

    /// Reads the files again whenever they change, until shutdown.
    pub fn watch(&self, tasks: &Tasks) {
        self.config.watch("tls.client.reload", tasks);
    }

    pub(crate) fn current(&self) -> Arc<ClientConfig> {
        self.config.current()
    }
}

fn public_server(material: Material) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(material.chain, material.key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn mutual_server(material: Material) -> Result<ServerConfig, TlsError> {
    let roots = Arc::new(roots(&material)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(material.chain, material.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session shows no certificate: one that has expired or was replaced would stay good (RFC 8446 §2.2).
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn mutual_client(material: Material, expected: &PeerIdentity) -> Result<ClientConfig, TlsError> {
    let verifier = ServiceVerifier::new(roots(&material)?, expected.clone(), provider());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(material.chain, material.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // The server shows its certificate at every connection as well.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn roots(material: &Material) -> Result<RootCertStore, TlsError> {
    if material.ca.is_empty() {
        return Err(TlsError::NoCa);
    }
    let mut roots = RootCertStore::empty();
    for certificate in &material.ca {
        roots.add(certificate.clone())?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
