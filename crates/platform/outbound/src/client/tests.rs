use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::RefusalReason;
use crate::resolve::Resolving;

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers one address while it is asked at registration, and another one from then on.
#[derive(Debug)]
struct Flips {
    first: SocketAddr,
    then: SocketAddr,
    asked: AtomicUsize,
}

impl Resolve for Flips {
    fn resolve(&self, _: &str, _: u16) -> Resolving {
        let first = self.asked.fetch_add(1, Ordering::Relaxed) == 0;
        let found = vec![if first { self.first } else { self.then }];
        Box::pin(async move { Ok(found) })
    }
}

/// Never answers, so that a connection never comes about.
#[derive(Debug)]
struct Silent;

impl Resolve for Silent {
    fn resolve(&self, _: &str, _: u16) -> Resolving {
        Box::pin(std::future::pending())
    }
}

/// A server on loopback that counts its connections.
struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, std::convert::Infallible> {
    let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
    let version = format!("{:?}", request.version());
    let response = match request.uri().path() {
        "/redirect" => Response::builder().status(302).header("location", "/elsewhere").body(String::new()),
        "/never" => std::future::pending().await,
        "/host" => Ok(Response::new(host.unwrap_or_default())),
        "/large" => Ok(Response::new("x".repeat(4096))),
        _ => Response::builder().header("content-encoding", "gzip").body(version),
    };
    Ok(response.unwrap())
}

async fn upstream(tls: Option<tokio_rustls::TlsAcceptor>) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let tls = tls.clone();
            open.spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let service = hyper::service::service_fn(answer);
                let _ = match tls {
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                        Err(_) => return,
                    },
                    None => server.serve_connection(TokioIo::new(stream), service).await,
                };
            });
        }
    });
    Upstream { address, connections, _tasks: tasks }
}

fn get(url: &str) -> Request<Body> {
    Request::get(url).body(Body::empty()).unwrap()
}

fn dev_client() -> OutboundClient {
    OutboundClient::new(OutboundPolicy::dev(), &OutboundLimits::default()).unwrap()
}

#[tokio::test]
async fn a8_a_name_that_changes_between_check_and_dial_reaches_nothing() {
    let inside = upstream(None).await;
    let flips = Flips {
        first: SocketAddr::new([1, 1, 1, 1].into(), inside.address.port()),
        then: inside.address,
        asked: AtomicUsize::new(0),
    };
    let parts = OutboundParts { resolver: Arc::new(flips), ..OutboundParts::default() };
    let client =
        OutboundClient::with_parts(OutboundPolicy::default(), &OutboundLimits::default(), parts).unwrap();
    let url =
        client.policy().parse_url(&format!("http://rebind.example:{}/", inside.address.port())).unwrap();
    client.check_url(&url).await.unwrap();

    let error = client.request(get(url.as_str()), PATIENCE).await.unwrap_err();
    let OutboundError::Refused(refused) = error else { panic!("{error:?}") };
    assert_eq!(refused.reason, RefusalReason::AddressPrivate);
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn a8_literals_are_vetted_at_the_dial_as_well() {
    let inside = upstream(None).await;
    let client = OutboundClient::new(OutboundPolicy::default(), &OutboundLimits::default()).unwrap();
    let port = inside.address.port();
    for (host, reason) in [
        ("127.0.0.1", RefusalReason::AddressPrivate),
        ("[::ffff:127.0.0.1]", RefusalReason::AddressPrivate),
        ("[64:ff9b::7f00:1]", RefusalReason::AddressPrivate),
        ("0177.0.0.1", RefusalReason::HostAmbiguous),
        ("2130706433", RefusalReason::HostAmbiguous),
        ("0x7f000001", RefusalReason::HostAmbiguous),
        ("0", RefusalReason::HostAmbiguous),
        ("0.0.0.0", RefusalReason::AddressDenied),
        ("169.254.169.254", RefusalReason::AddressDenied),
        ("[2002:7f00:1::]", RefusalReason::AddressDenied),
        ("user@127.0.0.1", RefusalReason::UserinfoNotAllowed),
    ] {
        let error = client.request(get(&format!("http://{host}:{port}/")), PATIENCE).await.unwrap_err();
        assert!(error.is_before_send());
        let OutboundError::Refused(refused) = error else { panic!("{host}: {error:?}") };
        assert_eq!(refused.reason, reason, "{host}");
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn a8_redirects_are_not_followed() {
    let server = upstream(None).await;
    let response = dev_client().request(get(&server.url("/redirect")), PATIENCE).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn connections_are_kept_and_bodies_come_as_they_were_sent() {
    let server = upstream(None).await;
    let client = dev_client();
    for _ in 0..3 {
        let response = client.clone().request(get(&server.url("/")), PATIENCE).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        assert_eq!(collect(response.into_body(), 100, PATIENCE).await.unwrap(), "HTTP/1.1");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let server = upstream(None).await;
    let waiting = dev_client().request(get(&server.url("/never")), Duration::from_millis(50)).await;
    assert!(matches!(waiting, Err(OutboundError::FirstByteTimeout)));
}

#[tokio::test]
async fn a_request_without_a_connection_in_time_is_given_up_unsent() {
    let parts = OutboundParts { resolver: Arc::new(Silent), ..OutboundParts::default() };
    let client =
        OutboundClient::with_parts(OutboundPolicy::dev(), &OutboundLimits::default(), parts).unwrap();
    let short = Duration::from_millis(30);
    // The one for the answer counts as well: it is over before anything was sent.
    for (connection, first_byte) in [(short, PATIENCE), (PATIENCE, short), (short, short)] {
        let request = get("http://nowhere.example/");
        let error = client.request_if_connected(request, connection, first_byte).await.unwrap_err();
        assert!(matches!(error, OutboundError::ConnectTimeout) && error.is_before_send(), "{error:?}");
    }
}

#[tokio::test]
async fn a_request_with_a_connection_has_its_whole_time() {
    let (server, client) = (upstream(None).await, dev_client());
    let (connection, first_byte) = (Duration::from_millis(200), Duration::from_millis(400));
    let begun = std::time::Instant::now();
    let waiting = client.request_if_connected(get(&server.url("/never")), connection, first_byte).await;
    assert!(matches!(waiting, Err(OutboundError::FirstByteTimeout)));
    assert!(begun.elapsed() >= first_byte);
    let answer = client.request_if_connected(get(&server.url("/")), connection, first_byte).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error() {
    let error = dev_client().request(get("http://127.0.0.1:32767/"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, OutboundError::Connect(_)) && error.is_before_send(), "{error:?}");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_in_tls_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let limits = OutboundLimits { connect_timeout_ms: 50, ..OutboundLimits::default() };
    let client = OutboundClient::new(OutboundPolicy::dev(), &limits).unwrap();
    let error = client.request(get(&url), PATIENCE).await.unwrap_err();
    assert!(matches!(error, OutboundError::ConnectTimeout), "{error:?}");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_refused() {
    let server = upstream(None).await;
    let response = dev_client().request(get(&server.url("/large")), PATIENCE).await.unwrap();
    let error = collect(response.into_body(), 1024, PATIENCE).await.unwrap_err();
    assert!(matches!(error, OutboundError::TooLarge { limit: 1024 }), "{error:?}");
}

#[tokio::test]
async fn https_speaks_http_2_when_the_server_does_and_refuses_unknown_authorities() {
    let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = issued.cert.der().clone();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], issued.signing_key.serialize_der().try_into().unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = upstream(Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)))).await;
    let url = format!("https://{}/", server.address);

    let parts = OutboundParts { extra_roots: vec![certificate], ..OutboundParts::default() };
    let trusting =
        OutboundClient::with_parts(OutboundPolicy::dev(), &OutboundLimits::default(), parts).unwrap();
    let response = trusting.request(get(&url), PATIENCE).await.unwrap();
    assert_eq!(collect(response.into_body(), 100, PATIENCE).await.unwrap(), "HTTP/2.0");

    let error = dev_client().request(get(&url), PATIENCE).await.unwrap_err();
    assert!(matches!(error, OutboundError::Connect(_)), "{error:?}");
}

#[tokio::test]
async fn a9_the_host_header_is_always_the_urls() {
    let server = upstream(None).await;
    let mut request = get(&server.url("/host"));
    request.headers_mut().insert("host", "internal.example".parse().unwrap());
    let response = dev_client().request(request, PATIENCE).await.unwrap();
    let host = collect(response.into_body(), 100, PATIENCE).await.unwrap();
    assert_eq!(host, server.address.to_string());
}
