//! The server through its router, as clients of both eras use it.

mod sessions;
mod stateless;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use chrono::DateTime;
use futures_util::StreamExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use portico_clock::MockClock;
use portico_ids::SeededRng;
use portico_mcp_types::sse::Decoder;
use portico_process::Tasks;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::DemoServer;

/// A running server; its day is 15 January 2027.
struct Demo {
    router: Router,
    clock: MockClock,
    tasks: Tasks,
}

impl Demo {
    fn start() -> Self {
        let clock = MockClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let server = DemoServer::build(Arc::new(clock.clone()), Arc::new(SeededRng::new(7)));
        let tasks = Tasks::new();
        server.spawn_tasks(&tasks);
        Self { router: server.http(), clock, tasks }
    }

    async fn send(&self, method: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
        let mut request = Request::builder().method(method).uri("/mcp").header("host", "127.0.0.1:4000");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()
    }

    async fn post(&self, headers: &[(&str, &str)], body: &Value) -> Response<Body> {
        let both = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        self.send("POST", &[&both, headers].concat(), body.to_string()).await
    }
}

async fn json_of(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

async fn refused(response: Response<Body>, status: StatusCode, code: i64) -> String {
    assert_eq!(response.status(), status);
    let body = json_of(response).await;
    assert_eq!(body["error"]["code"], code, "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

/// The events of a stream, one at a time.
struct Events {
    headers: HeaderMap,
    body: BodyDataStream,
    decoder: Decoder,
}

impl Events {
    fn of(response: Response<Body>) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        let headers = response.headers().clone();
        Self { headers, body: response.into_body().into_data_stream(), decoder: Decoder::new(1 << 20) }
    }

    /// The id and the data of the next event.
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some(event) = self.decoder.next_event().unwrap() {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                return Some((event.id.map(|id| text(&id)).unwrap_or_default(), text(&event.data)));
            }
            self.decoder.push(&self.body.next().await?.unwrap());
        }
    }

    /// The next event that carries a message.
    async fn message(&mut self) -> Option<Value> {
        loop {
            let (_, data) = self.next().await?;
            if !data.is_empty() {
                return Some(serde_json::from_str(&data).unwrap());
            }
        }
    }
}

fn booking_form() -> Value {
    json!({ "action": "accept", "content": { "name": "Ada", "time": "19:00", "window_seat": true } })
}

#[tokio::test]
async fn callers_that_are_not_local_are_refused() {
    let demo = Demo::start();
    for (name, value, status) in [
        ("host", "evil.example", StatusCode::MISDIRECTED_REQUEST),
        ("host", "127.0.0.1.evil.example", StatusCode::MISDIRECTED_REQUEST),
        ("origin", "https://evil.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
    ] {
        let host = if name == "host" { value } else { "localhost" };
        let mut request = Request::post("/mcp").header("host", host);
        if name == "origin" {
            request = request.header(name, value);
        }
        let response = demo.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{name}: {value}");
    }
    let local = demo.post(&[("origin", "http://localhost:6274")], &json!({})).await;
    assert_eq!(local.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn bodies_that_are_no_message_are_refused() {
    let demo = Demo::start();
    let json = ("content-type", "application/json");
    let both = ("accept", "application/json, text/event-stream");
    for (headers, body, status) in [
        (vec![("content-type", "text/plain"), both], "{}", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (vec![json, ("accept", "application/json")], "{}", StatusCode::NOT_ACCEPTABLE),
        (vec![json, both], "{", StatusCode::BAD_REQUEST),
        (vec![json, both], r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(demo.send("POST", &headers, body).await.status(), status, "{body}");
    }
    let large = demo.send("POST", &[json, both], vec![b' '; 1024 * 1024 + 1]).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
}
