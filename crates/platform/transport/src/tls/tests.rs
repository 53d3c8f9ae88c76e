use crate::testing::{Running, called_as, correlate, echo_peer, start, who_calls};
use crate::{HttpLimits, PeerIdentity, TestCa, dial_mutual, grpc_app, one_port, reason_of};

use super::*;

fn registry(tls: &ServerTls) -> Running {
    start(grpc_app(who_calls(), correlate), HttpLimits::default(), Some(tls.clone()))
}

fn client(files: TlsFiles, expected: &str) -> ClientTls {
    ClientTls::mutual(files, PeerIdentity::new(expected)).unwrap()
}

#[tokio::test]
async fn s3_26_mutual_tls_gives_the_callee_the_callers_identity() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let tls = ServerTls::mutual(ca.issue(directory.path(), "registry")).unwrap();
    let server = registry(&tls);
    let tls = client(ca.issue(directory.path(), "gateway"), "registry");
    let link = dial_mutual(&server.address.to_string(), tls).unwrap();
    assert!(called_as(link.clone(), "gateway").await.unwrap());
    assert!(!called_as(link, "worker").await.unwrap());
}

#[tokio::test]
async fn s0_28_a_caller_of_another_ca_is_refused() {
    let (directory, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ca = TestCa::new();
    let files = ca.issue(directory.path(), "registry");
    let server = registry(&ServerTls::mutual(files.clone()).unwrap());
    // It trusts our CA, but its own certificate is from elsewhere.
    let stranger = TlsFiles { ca: files.ca, ..TestCa::new().issue(foreign.path(), "gateway") };
    let link = dial_mutual(&server.address.to_string(), client(stranger, "registry")).unwrap();
    assert!(called_as(link, "gateway").await.is_err());
}

#[tokio::test]
async fn s0_28_a_certificate_without_one_portico_spiffe_id_is_refused() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let server = registry(&ServerTls::mutual(ca.issue(directory.path(), "registry")).unwrap());
    let two = ["spiffe://portico/gateway", "spiffe://portico/worker"];
    for (name, uris) in [("none", &[][..]), ("foreign", &["spiffe://other/gateway"]), ("two", &two)] {
        let tls = client(ca.issue_with(directory.path(), name, uris), "registry");
        let link = dial_mutual(&server.address.to_string(), tls).unwrap();
        assert!(called_as(link, "gateway").await.is_err(), "{name}");
    }
}

/// Connects to a mutual-TLS port as anybody might, and sends what is usual.
async fn knock(address: std::net::SocketAddr, config: ClientConfig) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    // TLS 1.3: the client learns of the refusal only when it reads.
    if let Ok(mut stream) = connector.connect(name, stream).await {
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert!(stream.read_to_end(&mut Vec::new()).await.is_err(), "the stranger was served");
    }
}

#[tokio::test]
async fn s0_28_s3_60_every_handshake_that_is_refused_for_its_certificate_is_told() {
    let (directory, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ca = TestCa::new();
    let files = ca.issue(directory.path(), "registry");
    let metrics = portico_telemetry::Metrics::new();
    let (refusals, mut refused) = PeerRefusals::new(&metrics, "portico_test_refused_peers");
    let server = registry(&ServerTls::mutual(files.clone()).unwrap().reporting(refusals));

    let roots = roots(&files.read().unwrap()).unwrap();
    let nobody = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    knock(server.address, nobody).await;
    assert_eq!(refused.next().await.unwrap().reason, "certificate_missing");

    let stranger = TlsFiles { ca: files.ca, ..TestCa::new().issue(foreign.path(), "gateway") };
    let expired = ca.issue_expired(directory.path(), "expired");
    let elsewhere = ca.issue_with(directory.path(), "elsewhere", &["spiffe://other/gateway"]);
    for (files, reason) in [
        (stranger, "certificate_untrusted"),
        (expired, "certificate_expired"),
        (elsewhere, "identity_invalid"),
    ] {
        let link = dial_mutual(&server.address.to_string(), client(files, "registry")).unwrap();
        assert!(called_as(link, "gateway").await.is_err(), "{reason}");
        let told = refused.next().await.unwrap();
        assert_eq!((told.reason, told.method.as_str()), (reason, ""));
        assert!(told.address.unwrap().is_loopback());
    }

    // Who only looks whether the port is open is counted and no more.
    drop(TcpStream::connect(server.address).await.unwrap());
    while !metrics.render().contains("{reason=\"handshake_failed\"} 1") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn s0_28_every_connection_between_services_shows_its_certificate_anew() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let server = registry(&ServerTls::mutual(ca.issue(directory.path(), "registry")).unwrap());
    let material = ca.issue(directory.path(), "gateway").read().unwrap();
    // A client that would resume if it could, unlike ours.
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots(&material).unwrap())
        .with_client_auth_cert(material.chain, material.key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for _ in 0..3 {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let stream = TcpStream::connect(server.address).await.unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        // A ticket would come with the first bytes: the preface and empty settings ask for some (RFC 9113 §3.4).
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn s0_30_a_link_goes_on_with_the_next_replica() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let tls = ServerTls::mutual(ca.issue(directory.path(), "registry")).unwrap();
    let (one, two) = (registry(&tls), registry(&tls));
    let addresses = format!("127.0.0.1:32767, {},{}", one.address, two.address);
    let link = dial_mutual(&addresses, client(ca.issue(directory.path(), "gateway"), "registry")).unwrap();
    assert!(called_as(link.clone(), "gateway").await.unwrap());
    drop(one);
    // A call that meets the death itself may fail; the ones after it do not.
    let _ = called_as(link.clone(), "gateway").await;
    assert!(called_as(link, "gateway").await.unwrap());
}

#[test]
fn a_certificate_tells_whose_it_is_and_for_how_long() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let certificate = ca.issue(directory.path(), "gateway").certificate().unwrap();
    assert_eq!(certificate.identity, Ok(PeerIdentity::new("gateway")));
    let expired = ca.issue_expired(directory.path(), "gateway").certificate().unwrap();
    assert_eq!(expired.not_after, 978_307_200);
}

#[tokio::test]
async fn s0_28_a_callee_that_is_another_service_is_refused() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let server = registry(&ServerTls::mutual(ca.issue(directory.path(), "worker")).unwrap());
    let tls = client(ca.issue(directory.path(), "gateway"), "registry");
    let link = dial_mutual(&server.address.to_string(), tls).unwrap();
    assert!(called_as(link, "gateway").await.is_err());
}

#[tokio::test]
async fn renewed_certificates_are_used_without_a_restart() {
    let (directory, old, new) = (tempfile::tempdir().unwrap(), TestCa::new(), TestCa::new());
    let server_tls = ServerTls::mutual(old.issue(directory.path(), "registry")).unwrap();
    let server = registry(&server_tls);
    let client_tls = client(old.issue(directory.path(), "gateway"), "registry");
    let dial = || dial_mutual(&server.address.to_string(), client_tls.clone()).unwrap();
    assert!(called_as(dial(), "gateway").await.unwrap());
    assert!(!server_tls.reload().unwrap());

    new.issue(directory.path(), "registry");
    assert!(server_tls.reload().unwrap());
    assert!(called_as(dial(), "gateway").await.is_err());
    new.issue(directory.path(), "gateway");
    assert!(client_tls.reload().unwrap());
    assert!(called_as(dial(), "gateway").await.unwrap());
}

#[test]
fn broken_files_keep_the_old_certificates() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let files = ca.issue(directory.path(), "registry");
    let tls = ServerTls::mutual(files.clone()).unwrap();
    let before = tls.config.current();
    std::fs::write(&files.cert, "half a certifi").unwrap();
    let error = tls.reload().unwrap_err();
    assert!(error.to_string().ends_with("registry.cert.pem holds no certificate in PEM form"), "{error}");
    assert!(Arc::ptr_eq(&before, &tls.config.current()));
}

#[test]
fn s0_28_mutual_tls_without_a_ca_does_not_start() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let files = TlsFiles { ca: None, ..ca.issue(directory.path(), "registry") };
    assert!(matches!(ServerTls::mutual(files), Err(TlsError::NoCa)));
}

#[tokio::test]
async fn s0_28_public_tls_never_gives_an_identity() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let tls = ServerTls::public(ca.issue(directory.path(), "registry")).unwrap();
    let server = start(one_port(echo_peer(), who_calls(), correlate), HttpLimits::default(), Some(tls));
    let tls = client(ca.issue(directory.path(), "gateway"), "registry");
    let link = dial_mutual(&server.address.to_string(), tls).unwrap();
    assert!(!called_as(link, "gateway").await.unwrap());
}

#[tokio::test]
async fn a_service_that_is_down_is_unavailable() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let tls = client(ca.issue(directory.path(), "gateway"), "registry");
    let status = called_as(dial_mutual("127.0.0.1:32767", tls).unwrap(), "gateway").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(reason_of(&status).as_deref(), Some("service_unreachable"));
}

#[tokio::test]
async fn addresses_that_are_not_host_and_port_are_refused() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), TestCa::new());
    let tls = client(ca.issue(directory.path(), "gateway"), "registry");
    for address in [
        "registry",
        "http://registry:1",
        "registry:1/x",
        "a@registry:1",
        "",
        "registry:1?x",
        "a:1,,b:2",
        "a:1,b",
    ] {
        assert!(dial_mutual(address, tls.clone()).is_err(), "{address}");
    }
    assert!(dial_mutual("[::1]:8443", tls).is_ok());
}
