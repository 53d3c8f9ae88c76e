//! Between the services: whoever shows no certificate of this deployment, or calls what is not for it, is refused, and
//! the refusal is recorded. In one process there are no such connections, so these run on a platform only.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use acceptance::api::Api;
use acceptance::deployment::{Deployment, Platform, command};
use acceptance::{DEADLINE, eventually};
use portico_proto_auth as auth;
use portico_proto_registry as registry;
use portico_transport::{ClientTls, Link, PeerIdentity, ServiceAddress, TlsFiles, reason_of};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tonic::Code;

/// A link to the first replica of a service, with the certificate that lies there.
fn link(platform: &Platform, service: &str, certificate: (&Path, &str)) -> Link {
    let (folder, name) = certificate;
    let files = TlsFiles {
        cert: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}-key.pem")),
        ca: Some(platform.directory().join("certs/ca.pem")),
    };
    let address = format!("127.0.0.1:{}", platform.port(&format!("{service}-1.internal")));
    let tls = ClientTls::mutual(files, PeerIdentity::new(service)).expect("certificates");
    ServiceAddress::parse(&address).unwrap().dial(tls)
}

/// Principal, target and reason of the refused peers that a service has recorded.
async fn recorded(api: &Api, service: &str) -> Vec<(String, String, String)> {
    let action = "peer.refused".to_owned();
    if service == "registry" {
        let request = registry::ListAuditRequest { page_size: 100, action, ..Default::default() };
        let records = api.audit().list_audit(request).await.unwrap().into_inner().records;
        records.into_iter().map(|record| (record.principal, record.target, record.reason)).collect()
    } else {
        let request = auth::ListAuditRequest { page_size: 100, action, ..Default::default() };
        let records = api.auth_audit().list_audit(request).await.unwrap().into_inner().records;
        records.into_iter().map(|record| (record.principal, record.target, record.reason)).collect()
    }
}

async fn is_recorded(api: &Api, service: &str, record: (&str, &str, &str)) {
    let (principal, target, reason) = record;
    let wanted = (principal.to_owned(), target.to_owned(), reason.to_owned());
    let found = async || recorded(api, service).await.contains(&wanted).then_some(());
    eventually(DEADLINE, &format!("{service} records {wanted:?}"), found).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs separate services: tests/scripts/platform.sh runs it"]
async fn s0_28_s3_26_s3_60_a_peer_without_a_certificate_of_the_deployment_is_refused_and_recorded() {
    let deployment = Deployment::start().await;
    let platform = deployment.platform().expect("a platform: PORTICO_TEST_DEPLOYMENT=platform");
    let api = deployment.api().await;
    // Made by somebody else's authority, with all the right names.
    let foreign = tempfile::tempdir().unwrap();
    let folder = foreign.path().display().to_string();
    for arguments in [
        &["certs", "init", "--dir", &folder][..],
        &["certs", "issue", "--dir", &folder, "gateway", "--ip", "127.0.0.1"],
    ] {
        let made = command(arguments, "").await;
        assert_eq!(made.code, Some(0), "{}", made.output);
    }
    for service in ["registry", "auth-server"] {
        let stranger = link(platform, service, (foreign.path(), "gateway"));
        let status = call(stranger, service).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        is_recorded(&api, service, ("", "connection", "certificate_untrusted")).await;
        nameless(platform, service);
        is_recorded(&api, service, ("", "connection", "certificate_missing")).await;
        // The same call with the deployment's own certificate is answered.
        let genuine = link(platform, service, (&platform.directory().join("certs"), "gateway"));
        call(genuine, service).await.expect("the gateway may watch");
    }
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs separate services: tests/scripts/platform.sh runs it"]
async fn s0_28_s3_60_a_peer_at_a_method_that_is_not_for_it_is_refused_and_recorded() {
    let deployment = Deployment::start().await;
    let platform = deployment.platform().expect("a platform: PORTICO_TEST_DEPLOYMENT=platform");
    let api = deployment.api().await;
    let certs = platform.directory().join("certs");
    let worker = link(platform, "registry", (&certs, "worker"));
    let append = registry::AppendAuditRequest::default();
    let status = registry::audit_sink_service_client::AuditSinkServiceClient::new(worker)
        .append_audit(append)
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status).as_deref()),
        (Code::PermissionDenied, Some("peer_not_allowed"))
    );
    let path = "/portico.registry.v1.AuditSinkService/AppendAudit";
    is_recorded(&api, "registry", ("service:worker", path, "peer_not_allowed")).await;
    let status = call(link(platform, "auth-server", (&certs, "worker")), "auth-server").await.unwrap_err();
    assert_eq!(
        (status.code(), reason_of(&status).as_deref()),
        (Code::PermissionDenied, Some("peer_not_allowed"))
    );
    let path = "/portico.auth.v1.TrustService/WatchTrust";
    is_recorded(&api, "auth-server", ("service:worker", path, "peer_not_allowed")).await;
    deployment.stop().await;
}

/// Opens the feed of a service, which a gateway may.
async fn call(link: Link, service: &str) -> Result<(), tonic::Status> {
    if service == "registry" {
        let mut client = registry::catalogue_service_client::CatalogueServiceClient::new(link);
        client.watch_catalogue(registry::WatchCatalogueRequest::default()).await.map(drop)
    } else {
        let mut client = auth::trust_service_client::TrustServiceClient::new(link);
        client.watch_trust(auth::WatchTrustRequest::default()).await.map(drop)
    }
}

/// A TLS handshake without a client's certificate. In TLS 1.3 the refusal comes with the first bytes that are read.
fn nameless(platform: &Platform, service: &str) {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(platform.directory().join("certs/ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let address = ("127.0.0.1", platform.port(&format!("{service}-1.internal")));
    let socket = std::net::TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, socket);
    let outcome =
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").and_then(|()| stream.read(&mut [0; 64]));
    assert!(outcome.is_err(), "a client without a certificate was answered: {outcome:?}");
}
