//! A host on the internet, as far as the auth-server can tell: https on loopback, with a document that a test changes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use portico_outbound::{OutboundClient, OutboundLimits, OutboundParts, OutboundPolicy};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What the host answers.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
    /// It takes the request and never answers.
    pub(crate) silent: bool,
}

impl Reply {
    pub(crate) fn json(body: &Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status: 200, headers, body: body.to_string(), silent: false }
    }
}

pub(crate) struct Site {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    reply: Arc<Mutex<Reply>>,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = issued.cert.der().clone();
        let key = issued.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reply = Arc::new(Mutex::new(Reply::json(&json!({}))));
        let asked = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let (replies, count) = (Arc::clone(&reply), Arc::clone(&asked));
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, replies, count) = (acceptor.clone(), Arc::clone(&replies), Arc::clone(&count));
                open.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |_: Request<Incoming>| {
                        count.fetch_add(1, Ordering::Relaxed);
                        answer(replies.lock().unwrap().clone())
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, certificate, reply, asked, _tasks: tasks }
    }

    /// The id of the client whose document the host has.
    pub(crate) fn client_id(&self) -> String {
        format!("https://{}/client.json", self.address)
    }

    /// A usual document with some fields replaced.
    pub(crate) fn document(&self, changes: Value) -> Value {
        let mut document = json!({
            "client_id": self.client_id(),
            "client_name": "Document client",
            "redirect_uris": ["https://client.example/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "none",
        });
        let Value::Object(changes) = changes else { panic!("not an object") };
        document.as_object_mut().unwrap().extend(changes);
        document
    }

    pub(crate) fn serve(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    /// Requests so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// A client that trusts the host's certificate and may go to loopback.
    pub(crate) fn outbound(&self) -> OutboundClient {
        let parts = OutboundParts { extra_roots: vec![self.certificate.clone()], ..OutboundParts::default() };
        OutboundClient::with_parts(OutboundPolicy::dev(), &OutboundLimits::default(), parts).unwrap()
    }
}

async fn answer(reply: Reply) -> Result<Response<String>, Infallible> {
    if reply.silent {
        return std::future::pending().await;
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    Ok(response.body(reply.body).unwrap())
}
