//! A plain HTTP/1.1 client that shows everything: it follows no redirect, keeps no cookie, decodes nothing.

use ::http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use ::http::{HeaderMap, Method, Request, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::{DEADLINE, within};

#[derive(Debug, Clone)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Default for Http {
    fn default() -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http() }
    }
}

impl Http {
    /// Sends a request and reads the whole answer.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &HeaderMap,
        body: impl Into<Bytes>,
    ) -> Answer {
        let stream = self.open(method, url, headers, body).await;
        let Stream { status, headers, body, .. } = stream;
        let body = within(DEADLINE, "the rest of an answer", body.collect()).await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Answer { status, headers, body }
    }

    /// Sends a request and leaves the body of the answer to be read bit by bit.
    pub async fn open(
        &self,
        method: Method,
        url: &str,
        headers: &HeaderMap,
        body: impl Into<Bytes>,
    ) -> Stream {
        let mut request = Request::builder().method(method).uri(url).body(Full::new(body.into())).unwrap();
        request.headers_mut().extend(headers.clone());
        let answer = within(DEADLINE, url, self.client.request(request)).await.expect("the server answers");
        let (head, body) = answer.into_parts();
        Stream { status: head.status, headers: head.headers, body, buffer: BytesMut::new() }
    }

    pub async fn get(&self, url: &str) -> Answer {
        self.send(Method::GET, url, &HeaderMap::new(), Bytes::new()).await
    }

    /// Sends a form.
    pub async fn form(&self, url: &str, fields: &[(&str, &str)]) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.send(Method::POST, url, &headers, form(fields)).await
    }
}

/// Encodes a form.
#[must_use]
pub fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The id that every answer carries.
    #[must_use]
    pub fn correlation(&self) -> String {
        self.header("x-correlation-id").expect("every answer carries a correlation id").to_owned()
    }

    #[must_use]
    pub fn challenge(&self) -> &str {
        self.headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The message of the answer: its only one, or the response on a stream.
    #[must_use]
    pub fn message(&self) -> Value {
        if self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return self
                .messages()
                .into_iter()
                .find(|message| message["method"].is_null())
                .unwrap_or_default();
        }
        self.json()
    }

    /// All messages of a stream.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        let text = self.text();
        text.split("\n\n").filter_map(Event::parse).filter_map(|event| event.message()).collect()
    }
}

/// One event of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub name: Option<String>,
    pub data: String,
}

impl Event {
    fn parse(block: &str) -> Option<Self> {
        let mut event = Self::default();
        let mut seen = false;
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => event.id = Some(value.to_owned()),
                "event" => event.name = Some(value.to_owned()),
                "data" if event.data.is_empty() => value.clone_into(&mut event.data),
                "data" => event.data = format!("{}\n{value}", event.data),
                _ => continue,
            }
            seen = true;
        }
        seen.then_some(event)
    }

    /// The JSON-RPC message, if the event carries one.
    #[must_use]
    pub fn message(&self) -> Option<Value> {
        serde_json::from_str(&self.data).ok()
    }
}

/// An answer that is still arriving.
#[derive(Debug)]
pub struct Stream {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    buffer: BytesMut,
}

impl Stream {
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next event; `None` when the stream has ended or broken off.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block = self.buffer.split_to(end + 2);
                if let Some(event) = Event::parse(&String::from_utf8_lossy(&block)) {
                    return Some(event);
                }
            }
            match within(DEADLINE, "the next event", self.body.frame()).await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next event that carries a message, with its event id.
    pub async fn message(&mut self) -> Option<(Option<String>, Value)> {
        loop {
            let event = self.event().await?;
            if let Some(message) = event.message() {
                return Some((event.id, message));
            }
        }
    }

    /// Reads to the end.
    pub async fn rest(self) -> Answer {
        let Self { status, headers, body, mut buffer } = self;
        let rest = within(DEADLINE, "the rest of a stream", body.collect()).await;
        buffer.extend_from_slice(&rest.map(http_body_util::Collected::to_bytes).unwrap_or_default());
        Answer { status, headers, body: buffer.freeze() }
    }
}
