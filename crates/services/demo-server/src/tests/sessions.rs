//! 2025-03-26 to 2025-11-25.

use super::*;

/// A client with a session open.
struct Client {
    demo: Demo,
    id: String,
    version: &'static str,
}

impl Client {
    async fn open(version: &'static str, capabilities: Value) -> Self {
        let demo = Demo::start();
        let params = json!({
            "protocolVersion": version, "capabilities": capabilities, "clientInfo": { "name": "test", "version": "1" },
        });
        let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let response = demo.post(&[], &initialize).await;
        let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        assert_eq!(json_of(response).await["result"]["protocolVersion"], version);
        let client = Self { demo, id, version };
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        assert_eq!(client.post(&initialized).await.status(), StatusCode::ACCEPTED);
        client
    }

    fn headers(&self) -> [(&str, &str); 2] {
        [("mcp-session-id", &self.id), ("mcp-protocol-version", self.version)]
    }

    async fn post(&self, message: &Value) -> Response<Body> {
        self.demo.post(&self.headers(), message).await
    }

    async fn request(&self, id: u64, method: &str, params: Value) -> Response<Body> {
        self.post(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await
    }

    async fn result(&self, method: &str, params: Value) -> Value {
        let response = self.request(1, method, params).await;
        assert_eq!(response.status(), StatusCode::OK);
        json_of(response).await["result"].take()
    }

    async fn listen(&self, last_event_id: Option<&str>) -> Events {
        let mut headers = self.headers().to_vec();
        headers.push(("accept", "text/event-stream"));
        headers.extend(last_event_id.map(|id| ("last-event-id", id)));
        Events::of(self.demo.send("GET", &headers, Body::empty()).await)
    }

    async fn book(&self) -> Events {
        let params = json!({ "name": "book_table", "arguments": { "day": "2027-01-20", "people": 2 } });
        Events::of(self.request(5, "tools/call", params).await)
    }

    async fn answer(&self, question: &Value, result: Value) {
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": result });
        assert_eq!(self.post(&answer).await.status(), StatusCode::ACCEPTED);
    }
}

fn forms() -> Value {
    json!({ "elicitation": {} })
}

#[tokio::test]
async fn a_session_is_negotiated_checked_and_ended() {
    let client = Client::open("2025-06-18", json!({})).await;
    assert_eq!(client.id.len(), 43);
    assert_eq!(client.result("ping", json!({})).await, json!({}));

    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    let (id, demo) = (("mcp-session-id", &*client.id), &client.demo);
    for (headers, status) in [
        (vec![], StatusCode::BAD_REQUEST),
        (vec![("mcp-session-id", "unknown")], StatusCode::NOT_FOUND),
        (vec![id, ("mcp-protocol-version", "2025-11-25")], StatusCode::BAD_REQUEST),
        (vec![id, ("mcp-protocol-version", "soon")], StatusCode::BAD_REQUEST),
        (vec![id], StatusCode::OK),
    ] {
        assert_eq!(demo.post(&headers, &ping).await.status(), status, "{headers:?}");
    }
    assert_eq!(demo.send("DELETE", &client.headers(), Body::empty()).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(client.post(&ping).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(demo.send("DELETE", &client.headers(), Body::empty()).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_idle_session_ends() {
    let client = Client::open("2025-11-25", json!({})).await;
    client.demo.clock.advance(chrono::Duration::minutes(31));
    assert_eq!(client.request(1, "ping", json!({})).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_revision_that_is_not_served_is_answered_with_the_newest() {
    let demo = Demo::start();
    let params = json!({ "protocolVersion": "1999-01-01", "capabilities": {}, "clientInfo": {} });
    let body =
        demo.post(&[], &json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params })).await;
    assert_eq!(json_of(body).await["result"]["protocolVersion"], "2025-11-25");
}

#[tokio::test]
async fn an_old_revision_gets_batches_and_no_younger_fields() {
    let client = Client::open("2025-03-26", forms()).await;
    let tools = client.result("tools/list", json!({})).await;
    for tool in tools["tools"].as_array().unwrap() {
        assert_eq!((tool.get("outputSchema"), tool.get("title")), (None, None), "{tool}");
    }
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "ping" },
        { "jsonrpc": "2.0", "method": "notifications/initialized" },
        { "jsonrpc": "2.0", "id": 2, "method": "initialize", "params": { "protocolVersion": "2025-03-26" } },
        { "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": { "name": "time_now" } },
    ]);
    let answers = json_of(client.post(&batch).await).await;
    assert_eq!(answers.as_array().unwrap().len(), 3);
    assert_eq!(answers[1]["error"]["code"], -32601);
    assert_eq!(answers[2]["result"].get("structuredContent"), None);

    let newer = Client::open("2025-06-18", json!({})).await;
    assert_eq!(newer.post(&batch).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_form_is_asked_on_the_stream_of_the_call() {
    let client = Client::open("2025-06-18", forms()).await;
    let mut events = client.book().await;
    let question = events.message().await.unwrap();
    assert_eq!(question["method"], "elicitation/create");
    assert_eq!(question["params"]["requestedSchema"]["required"], json!(["name", "time"]));
    client.answer(&question, booking_form()).await;
    let answer = events.message().await.unwrap();
    assert_eq!((&answer["id"], &answer["result"]["structuredContent"]["time"]), (&json!(5), &json!("19:00")));
    assert_eq!(events.message().await, None);
}

#[tokio::test]
async fn a_form_that_is_declined_or_wrong_books_nothing() {
    let client = Client::open("2025-11-25", forms()).await;
    for (reply, expected) in [
        (json!({ "action": "decline" }), "declined"),
        (json!({ "action": "cancel" }), "closed the form"),
        (json!({ "action": "accept", "content": { "name": " ", "time": "19:00" } }), "1 to 60"),
        (json!({ "action": "accept", "content": { "name": "Ada", "time": "03:00" } }), "must be one of"),
        (json!({ "action": "maybe" }), "cannot be read"),
    ] {
        let mut events = client.book().await;
        let question = events.message().await.unwrap();
        client.answer(&question, reply).await;
        let answer = events.message().await.unwrap();
        assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains(expected), "{answer}");
    }
    let read = client.result("resources/read", json!({ "uri": "demo://bookings" })).await;
    assert_eq!(read["contents"][0]["text"], r#"{"bookings":[]}"#);
}

#[tokio::test]
async fn a_client_without_forms_gets_a_tool_error() {
    let client = Client::open("2025-11-25", json!({})).await;
    let params = json!({ "name": "book_table", "arguments": { "day": "2027-01-20", "people": 2 } });
    let result = client.result("tools/call", params).await;
    assert_eq!(result["isError"], true);
}

#[tokio::test(start_paused = true)]
async fn a_call_survives_its_connection_and_its_stream_is_resumed() {
    let client = Client::open("2025-11-25", json!({})).await;
    let params =
        json!({ "name": "countdown", "arguments": { "from": 3 }, "_meta": { "progressToken": "t" } });
    let mut events = Events::of(client.request(1, "tools/call", params).await);
    assert_eq!(events.next().await.unwrap(), ("1-0".to_owned(), String::new()));
    let (seen, first) = events.next().await.unwrap();
    assert!(first.contains(r#""progress":1"#), "{first}");
    drop(events);

    let mut resumed = client.listen(Some(&seen)).await;
    assert_eq!(resumed.message().await.unwrap()["params"]["progress"], 2);
    assert_eq!(resumed.message().await.unwrap()["params"]["progress"], 3);
    assert_eq!(resumed.message().await.unwrap()["id"], 1);
    assert_eq!(resumed.message().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_not_answered() {
    let client = Client::open("2025-06-18", json!({})).await;
    let params = json!({ "name": "countdown", "arguments": { "from": 60, "interval_ms": 1000 } });
    let mut events = Events::of(client.request(8, "tools/call", params).await);
    let cancel =
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 8 } });
    assert_eq!(client.post(&cancel).await.status(), StatusCode::ACCEPTED);
    assert_eq!(events.message().await, None);
}

#[tokio::test]
async fn a_subscriber_learns_of_bookings_on_the_standing_stream() {
    let client = Client::open("2025-06-18", forms()).await;
    let mut standing = client.listen(None).await;
    client.result("resources/subscribe", json!({ "uri": "demo://bookings" })).await;
    let mut booking = client.book().await;
    let question = booking.message().await.unwrap();
    client.answer(&question, booking_form()).await;
    let updated = standing.message().await.unwrap();
    assert_eq!(
        (&updated["method"], &updated["params"]["uri"]),
        (&json!("notifications/resources/updated"), &json!("demo://bookings"))
    );

    // A message travels once: the next stream starts after it.
    let mut second = client.listen(None).await;
    client.demo.tasks.trigger_shutdown();
    assert_eq!(second.message().await, None);
    assert_eq!(standing.message().await, None);
}

#[tokio::test]
async fn missing_resources_and_methods_have_the_codes_of_their_revision() {
    let client = Client::open("2025-11-25", json!({})).await;
    for (method, params, code) in [
        ("resources/read", json!({ "uri": "demo://nothing" }), -32002),
        ("resources/subscribe", json!({ "uri": "demo://nothing" }), -32002),
        ("server/discover", json!({}), -32601),
        ("tools/call", json!({ "name": "nothing" }), -32602),
    ] {
        refused(client.request(1, method, params).await, StatusCode::OK, code).await;
    }
}
