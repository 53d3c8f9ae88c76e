//! How a program proves who it is, and whom it calls.

use portico_clock::Clock;
use portico_process::Tasks;
use portico_transport::{
    ClientTls, Link, PeerIdentity, PeerRefusals, ServerTls, ServiceAddress, TlsError, TlsFiles,
};

use crate::problems::Problems;

/// The certificate of a program, checked, and the CA by which it knows the others.
#[derive(Debug, Clone)]
pub struct Identity {
    files: TlsFiles,
}

/// A service that a program calls.
#[derive(Debug, Clone)]
pub struct Peer {
    service: &'static str,
    address: ServiceAddress,
}

impl Identity {
    /// Reads the section `tls` and notes what is wrong with it: files, key, CA, whom the certificate names, its age.
    pub fn check(
        problems: &mut Problems,
        files: Option<TlsFiles>,
        service: &'static str,
        clock: &dyn Clock,
    ) -> Option<Self> {
        let own = PeerIdentity::new(service);
        let what = format!(
            "give cert, key and ca of this service's identity {} (`portico certs issue` makes them)",
            own.spiffe_id()
        );
        let files = problems.need("tls", files, &what)?;
        // Certificate, key and CA have to fit, whether this program serves or only calls.
        problems.accept("tls", ServerTls::mutual(files.clone()))?;
        let certificate = problems.accept("tls.cert", files.certificate())?;
        match certificate.identity {
            Ok(identity) if identity == own => {}
            Ok(other) => {
                let (found, wanted) = (other.spiffe_id(), own.spiffe_id());
                problems.add("tls.cert", format_args!("is for {found}, this program is {wanted}"));
                return None;
            }
            Err(error) => {
                problems.add("tls.cert", error);
                return None;
            }
        }
        if certificate.not_after <= clock.now().timestamp() {
            problems.add("tls.cert", "has expired: issue a new one, or correct the clock of this machine");
            return None;
        }
        Some(Self { files })
    }

    /// Makes the serving side, which follows its files and reports whom it refuses.
    pub fn server(&self, refusals: PeerRefusals, tasks: &Tasks) -> Result<ServerTls, TlsError> {
        let tls = ServerTls::mutual(self.files.clone())?.reporting(refusals);
        tls.watch(tasks);
        Ok(tls)
    }

    /// Makes a link to a peer, which follows its files as well. Needs a tokio runtime.
    pub fn link(&self, peer: &Peer, tasks: &Tasks) -> Result<Link, TlsError> {
        let tls = ClientTls::mutual(self.files.clone(), PeerIdentity::new(peer.service))?;
        tls.watch(tasks);
        Ok(peer.address.dial(tls))
    }
}

impl Peer {
    /// Reads where a peer is, or notes that nobody says so.
    pub fn check(
        problems: &mut Problems,
        key: &str,
        address: Option<&str>,
        service: &'static str,
    ) -> Option<Self> {
        let what = format!("give host:port of the internal listener of the {service}, e.g. {service}:9443");
        let address = problems.need(key, address, &what)?;
        let address = problems.accept(key, ServiceAddress::parse(address))?;
        Some(Self { service, address })
    }

    /// Returns the hosts and ports where it is.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, u16)> {
        self.address.hosts()
    }
}

#[cfg(test)]
mod tests {
    use portico_clock::SystemClock;

    use super::*;
    use crate::testing::TestDeployment;

    fn told(files: Option<TlsFiles>) -> String {
        let mut problems = Problems::new();
        let identity = Identity::check(&mut problems, files, "gateway", &SystemClock);
        assert_eq!(identity.is_some(), problems.list().is_empty());
        problems.to_string()
    }

    #[test]
    fn s0_28_a_program_starts_with_its_own_valid_certificate_and_no_other() {
        let deployment = TestDeployment::new();
        assert_eq!(told(Some(deployment.tls("gateway"))), "");
        assert!(told(None).starts_with("setting `tls`: is not set: give cert, key and ca"));
        let worker = told(Some(deployment.tls("worker")));
        assert_eq!(
            worker,
            "setting `tls.cert`: is for spiffe://portico/worker, this program is spiffe://portico/gateway"
        );
        let directory = deployment.path("");
        let nobody = told(Some(deployment.ca.issue_with(&directory, "nobody", &[])));
        assert!(nobody.contains("has no URI SAN"), "{nobody}");
        let old = told(Some(deployment.ca.issue_expired(&directory, "gateway")));
        assert!(old.contains("has expired"), "{old}");
    }

    #[test]
    fn s0_28_files_that_do_not_fit_together_are_told() {
        let deployment = TestDeployment::new();
        let files = deployment.tls("gateway");
        let no_ca = told(Some(TlsFiles { ca: None, ..files.clone() }));
        assert!(no_ca.contains("set ca to its PEM file"), "{no_ca}");
        let missing = told(Some(TlsFiles { key: deployment.path("nowhere.pem"), ..files.clone() }));
        assert!(missing.contains("nowhere.pem"), "{missing}");
        let other_key = deployment.tls("worker").key;
        let mixed = told(Some(TlsFiles { key: other_key, ..files }));
        assert!(mixed.contains("do not fit together"), "{mixed}");
    }

    #[test]
    fn a_peer_needs_an_address() {
        let mut problems = Problems::new();
        assert!(Peer::check(&mut problems, "peers.registry", Some("registry"), "registry").is_none());
        assert!(Peer::check(&mut problems, "peers.registry", None, "registry").is_none());
        let told = problems.to_string();
        assert!(told.contains("write host:port"), "{told}");
        assert!(told.contains("e.g. registry:9443"), "{told}");
    }
}
