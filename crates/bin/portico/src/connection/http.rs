//! HTTP to Portico itself: JSON, forms, MCP streams.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use portico_outbound::{OutboundClient, OutboundLimits, OutboundPolicy, collect};
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

/// How long an answer may take to begin; tools may be slow.
const FIRST_BYTE: Duration = Duration::from_mins(5);
/// How long a whole answer that is no stream may take.
const WHOLE_BODY: Duration = Duration::from_mins(1);
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// A client for the Portico that the person named.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: OutboundClient,
}

/// What a token endpoint answers (RFC 6749 §5.1), as far as the command line needs it.
#[derive(Debug, Deserialize)]
pub(crate) struct Tokens {
    pub(crate) access_token: SecretString,
    pub(crate) refresh_token: Option<SecretString>,
    /// Seconds that the access token lasts.
    pub(crate) expires_in: Option<u64>,
}

impl Http {
    /// Makes a client that may call private addresses: the person chose the address.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { client: OutboundClient::new(OutboundPolicy::dev(), &OutboundLimits::default())? })
    }

    /// Sends a request and answers when its head is there; the body streams.
    ///
    /// # Errors
    /// Nobody answers in time.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Incoming>> {
        let place = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let answer = self.client.request(request.map(Into::into), FIRST_BYTE).await;
        answer.with_context(|| format!("{place} does not answer: is Portico running there?"))
    }

    /// Reads a JSON document.
    ///
    /// # Errors
    /// Nobody answers, or the answer is not that document.
    pub(crate) async fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<T> {
        let request =
            Request::builder().uri(url.as_str()).header("accept", "application/json").body(Bytes::new())?;
        let response = self.send(request).await?;
        let status = response.status();
        let text = body_text(response).await?;
        if !status.is_success() {
            bail!("{url} was answered with {status}");
        }
        serde_json::from_str(&text).with_context(|| format!("the answer of {url} is not understood"))
    }

    /// Posts a form and answers the JSON document, or what an OAuth error says (RFC 6749 §5.2).
    ///
    /// # Errors
    /// Nobody answers, or the answer is an error.
    pub(crate) async fn form(&self, url: &Url, fields: &[(&str, &str)]) -> Result<Value> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(Bytes::from(body))?;
        let response = self.send(request).await?;
        let status = response.status();
        let text = body_text(response).await?;
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(document);
        }
        let error = document["error"].as_str().unwrap_or("no error code");
        match document["error_description"].as_str() {
            Some(description) => bail!("{description} ({error})"),
            None => bail!("{url} was answered with {status} ({error})"),
        }
    }

    /// Asks a token endpoint.
    ///
    /// # Errors
    /// Nobody answers, or the request is refused.
    pub(crate) async fn token(&self, url: &Url, form: &[(&str, &str)]) -> Result<Tokens> {
        let document = self.form(url, form).await?;
        Tokens::deserialize(document).context("the token endpoint answered without an access token")
    }

    /// Carries the requests of `openidconnect`.
    pub(crate) async fn openid(
        &self,
        request: openidconnect::HttpRequest,
    ) -> Result<openidconnect::HttpResponse, UnreachableServer> {
        let exchange = async {
            let (head, body) = self.send(request.map(Bytes::from)).await?.into_parts();
            let body = collect(body, MOST_BYTES, WHOLE_BODY).await?;
            Ok(Response::from_parts(head, body.to_vec()))
        };
        exchange.await.map_err(UnreachableServer)
    }
}

/// The authorization server cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub(crate) struct UnreachableServer(anyhow::Error);

/// Reads a whole body as text.
///
/// # Errors
/// It breaks off, is too large, or takes too long.
pub(crate) async fn body_text(response: Response<Incoming>) -> Result<String> {
    let bytes = collect(response.into_body(), MOST_BYTES, WHOLE_BODY).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Answers the next bytes of a stream, or none at its end.
///
/// # Errors
/// The stream breaks off.
pub(crate) async fn next_chunk(response: &mut Response<Incoming>) -> Result<Option<Bytes>> {
    while let Some(frame) = response.body_mut().frame().await {
        if let Ok(data) = frame.context("the stream broke off")?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// A connector for gRPC that speaks TLS where the address says https, trusting what the system trusts.
pub(super) fn tls_connector() -> HttpsConnector<HttpConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http2().build()
}
