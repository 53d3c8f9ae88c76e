use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use axum::routing::get;
use axum::{Extension, Router};
use http_body_util::BodyExt as _;
use portico_process::Tasks;
use portico_transport::{BoundListener, ClientTls, HttpLimits, ServerTls, TlsFiles, dial_mutual};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tower::ServiceExt as _;

use super::*;

const QUIET: Output = Output::new(true);

fn init(dir: &Path, renew: bool) -> Result<()> {
    make_authority(&InitArguments { dir: dir.to_owned(), days: 365, renew, if_missing: false }, QUIET)
}

fn init_if_missing(dir: &Path) -> Result<()> {
    let arguments = InitArguments { dir: dir.to_owned(), days: 365, renew: false, if_missing: true };
    make_authority(&arguments, QUIET)
}

fn issue(dir: &Path, service: &str) -> Result<()> {
    issue_with(dir, service, LEAF_DAYS)
}

fn issue_with(dir: &Path, service: &str, days: u32) -> Result<()> {
    let arguments = IssueArguments {
        service: service.to_owned(),
        dir: dir.to_owned(),
        dns: vec!["localhost".to_owned(), format!("{service}.portico.svc")],
        ip: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        days,
        seconds: None,
        out: None,
    };
    issue_certificate(arguments, QUIET)
}

fn files(dir: &Path, service: &str) -> TlsFiles {
    let CertificateFiles { cert, key } = CertificateFiles::new(dir, service);
    TlsFiles { cert, key, ca: Some(dir.join("ca.pem")) }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Serves the caller's name over mutual TLS, as `server`.
struct Peer {
    address: String,
    tls: ServerTls,
    tasks: Tasks,
}

impl Peer {
    fn start(server: TlsFiles) -> Self {
        let tls = ServerTls::mutual(server).unwrap();
        let tasks = Tasks::new();
        let listener = BoundListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().to_string();
        let app =
            Router::new().route("/", get(|Extension(peer): Extension<PeerIdentity>| async { peer.service }));
        listener.serve(app, HttpLimits::default(), Some(tls.clone()), &tasks);
        Self { address, tls, tasks }
    }

    /// Calls it with `client`'s certificate and answers who it saw.
    async fn sees(&self, client: TlsFiles, expected: &str) -> Result<String> {
        let tls = ClientTls::mutual(client, PeerIdentity::new(expected))?;
        let request = http::Request::get("http://peer/").body(tonic::body::Body::empty())?;
        let answer = dial_mutual(&self.address, tls)?.oneshot(request).await?;
        // A link answers a failed connection with a status, as a service would.
        anyhow::ensure!(!answer.headers().contains_key("grpc-status"), "{:?}", answer.headers());
        Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec())?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

#[tokio::test]
async fn s3_26_issued_certificates_give_services_their_identity() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), false).unwrap();
    issue(dir.path(), "registry").unwrap();
    issue(dir.path(), "gateway").unwrap();
    let registry = Peer::start(files(dir.path(), "registry"));
    assert_eq!(registry.sees(files(dir.path(), "gateway"), "registry").await.unwrap(), "gateway");
    // The certificate is another service's: whoever called for the auth-server must not get the registry.
    assert!(registry.sees(files(dir.path(), "gateway"), "auth-server").await.is_err());
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [&ours, &theirs] {
        init(dir.path(), false).unwrap();
        issue(dir.path(), "registry").unwrap();
        issue(dir.path(), "gateway").unwrap();
    }
    let registry = Peer::start(files(ours.path(), "registry"));
    let stranger = TlsFiles { ca: Some(ours.path().join("ca.pem")), ..files(theirs.path(), "gateway") };
    assert!(registry.sees(stranger, "registry").await.is_err());
}

#[tokio::test]
async fn renewed_certificates_and_a_renewed_ca_are_taken_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), false).unwrap();
    issue(dir.path(), "registry").unwrap();
    issue(dir.path(), "gateway").unwrap();
    let registry = Peer::start(files(dir.path(), "registry"));
    let before = std::fs::read(dir.path().join("registry-key.pem")).unwrap();
    issue(dir.path(), "registry").unwrap();
    assert_ne!(before, std::fs::read(dir.path().join("registry-key.pem")).unwrap());
    assert!(registry.tls.reload().unwrap());
    init(dir.path(), true).unwrap();
    assert!(registry.tls.reload().unwrap());
    assert_eq!(registry.sees(files(dir.path(), "gateway"), "registry").await.unwrap(), "gateway");
}

#[test]
fn keys_are_for_their_owner_and_a_ca_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), false).unwrap();
    issue(dir.path(), "worker").unwrap();
    let path = |name: &str| dir.path().join(name);
    assert_eq!((mode(&path("ca-key.pem")), mode(&path("worker-key.pem"))), (0o600, 0o600));
    assert_eq!((mode(&path("ca.pem")), mode(&path("worker.pem"))), (0o644, 0o644));
    let before = std::fs::read(path("ca-key.pem")).unwrap();
    let refused = init(dir.path(), false).unwrap_err().to_string();
    assert!(refused.contains("ca-key.pem is there already"), "{refused}");
    assert_eq!(before, std::fs::read(path("ca-key.pem")).unwrap());
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn a_leaf_says_what_it_is_for_and_ends_with_its_ca() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), false).unwrap();
    issue_with(dir.path(), "auth-server", 800).unwrap();
    let read = |name: &str| CertificateDer::from_pem_file(dir.path().join(name)).unwrap();
    let (ca, leaf) = (read("ca.pem"), read("auth-server.pem"));
    let (_, ca) = x509_parser::parse_x509_certificate(&ca).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert_eq!(leaf.issuer().as_raw(), ca.subject().as_raw());
    assert_eq!(leaf.validity().not_after.timestamp(), ca.validity().not_after.timestamp());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !leaf.is_ca());
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(names[0].contains("spiffe://portico/auth-server"), "{names:?}");
}

#[test]
fn renewing_without_names_keeps_those_that_were_there() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), false).unwrap();
    issue(dir.path(), "gateway").unwrap();
    let path = dir.path().join("gateway.pem");
    let before = authority::names_of(&path).unwrap();
    let again = IssueArguments {
        service: "gateway".to_owned(),
        dir: dir.path().to_owned(),
        dns: Vec::new(),
        ip: Vec::new(),
        days: LEAF_DAYS,
        seconds: None,
        out: None,
    };
    issue_certificate(again, QUIET).unwrap();
    assert_eq!(authority::names_of(&path).unwrap(), before);
    assert_eq!((before.0.len(), before.1.len()), (2, 2));
}

#[test]
fn names_that_no_service_has_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), false).unwrap();
    for name in ["", "ca", "Gateway", "../gateway", "a/b", "a b"] {
        let refused = issue(dir.path(), name).unwrap_err().to_string();
        assert!(refused.contains("cannot be a service's name"), "{name}: {refused}");
    }
}

#[test]
fn a_directory_without_a_ca_or_with_a_strange_one_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let refused = issue(dir.path(), "gateway").unwrap_err().to_string();
    assert!(refused.contains("`portico certs init --dir` makes a CA"), "{refused}");
    let other = tempfile::tempdir().unwrap();
    init(dir.path(), false).unwrap();
    init(other.path(), false).unwrap();
    std::fs::copy(other.path().join("ca-key.pem"), dir.path().join("ca-key.pem")).unwrap();
    let refused = issue(dir.path(), "gateway").unwrap_err().to_string();
    assert!(refused.contains("is not the key of"), "{refused}");
}

#[test]
fn a_job_that_runs_again_keeps_the_ca() {
    let dir = tempfile::tempdir().unwrap();
    init_if_missing(dir.path()).unwrap();
    let made = std::fs::read(dir.path().join("ca.pem")).unwrap();
    init_if_missing(dir.path()).unwrap();
    assert_eq!(std::fs::read(dir.path().join("ca.pem")).unwrap(), made);
}

#[test]
fn a_service_gets_the_cas_certificate_and_never_its_key() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    init(dir.path(), false).unwrap();
    let arguments = IssueArguments {
        service: "gateway".to_owned(),
        dir: dir.path().to_owned(),
        dns: Vec::new(),
        ip: Vec::new(),
        days: 1,
        seconds: None,
        out: Some(out.path().to_owned()),
    };
    issue_certificate(arguments, QUIET).unwrap();
    let ca = |dir: &Path| std::fs::read(dir.join("ca.pem")).unwrap();
    assert_eq!(ca(out.path()), ca(dir.path()));
    assert!(!out.path().join("ca-key.pem").exists());
}
