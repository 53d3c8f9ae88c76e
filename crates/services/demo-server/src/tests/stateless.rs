//! 2026-07-28.

use super::*;

const VERSION: &str = "2026-07-28";

fn request(method: &str, mut params: Value, capabilities: &Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(VERSION);
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities.clone();
    json!({ "jsonrpc": "2.0", "id": "r-1", "method": method, "params": params })
}

impl Demo {
    async fn stateless(&self, method: &str, params: Value, capabilities: &Value) -> Response<Body> {
        let name = params["name"].as_str().or_else(|| params["uri"].as_str()).unwrap_or_default().to_owned();
        let mut headers = vec![("mcp-protocol-version", VERSION), ("mcp-method", method)];
        if !name.is_empty() {
            headers.push(("mcp-name", &name));
        }
        self.post(&headers, &request(method, params, capabilities)).await
    }

    async fn result(&self, method: &str, params: Value) -> Value {
        let body = json_of(self.stateless(method, params, &json!({})).await).await;
        assert_eq!(body["id"], "r-1");
        assert_eq!(
            body["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "portico-demo",
            "{body}"
        );
        body["result"].clone()
    }
}

#[tokio::test]
async fn discovery_and_lists_say_how_long_they_hold() {
    let demo = Demo::start();
    let discovered = demo.result("server/discover", json!({})).await;
    assert_eq!(
        discovered["supportedVersions"],
        json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"])
    );
    for method in
        ["server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list"]
    {
        let result = demo.result(method, json!({})).await;
        assert_eq!(
            (&result["cacheScope"], &result["resultType"]),
            (&json!("public"), &json!("complete")),
            "{method}"
        );
        assert!(result["ttlMs"].is_u64(), "{method}");
    }
    let tools = demo.result("tools/list", json!({})).await;
    for tool in tools["tools"].as_array().unwrap() {
        assert_eq!(tool["outputSchema"]["type"], "object", "{tool}");
        assert!(tool["annotations"]["readOnlyHint"].is_boolean(), "{tool}");
    }
}

#[tokio::test]
async fn headers_must_say_what_the_body_says() {
    let demo = Demo::start();
    let body = request("tools/call", json!({ "name": "time_now" }), &json!({}));
    let (version, method) = (("mcp-protocol-version", VERSION), ("mcp-method", "tools/call"));
    for headers in [
        vec![method, ("mcp-name", "time_now")],
        vec![version, ("mcp-name", "time_now")],
        vec![version, method],
        vec![version, method, ("mcp-name", "countdown")],
        vec![version, method, ("mcp-name", "time_now"), ("mcp-name", "time_now")],
        vec![version, ("mcp-method", "TOOLS/CALL"), ("mcp-name", "time_now")],
        vec![("mcp-protocol-version", "2025-11-25"), method, ("mcp-name", "time_now")],
    ] {
        refused(demo.post(&headers, &body).await, StatusCode::BAD_REQUEST, -32020).await;
    }
    let encoded = demo.post(&[version, method, ("mcp-name", "=?base64?dGltZV9ub3c=?=")], &body).await;
    assert_eq!(encoded.status(), StatusCode::OK);
}

#[tokio::test]
async fn requests_that_say_too_little_are_refused() {
    let demo = Demo::start();
    let (version, method) = (("mcp-protocol-version", VERSION), ("mcp-method", "tools/list"));
    let bare = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    refused(demo.post(&[version, method], &bare).await, StatusCode::BAD_REQUEST, -32602).await;
    let silent = request("tools/list", json!({}), &Value::Null);
    refused(demo.post(&[version, method], &silent).await, StatusCode::BAD_REQUEST, -32602).await;

    let mut future = request("tools/list", json!({}), &json!({}));
    future["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2031-01-01");
    let response = demo.post(&[("mcp-protocol-version", "2031-01-01"), method], &future).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let error = json_of(response).await["error"].take();
    assert_eq!((&error["code"], &error["data"]["supported"][0]), (&json!(-32022), &json!(VERSION)));
}

#[tokio::test]
async fn unknown_methods_tools_resources_and_cursors_are_told_apart() {
    let demo = Demo::start();
    let none = json!({});
    for (method, params, status, code) in [
        ("initialize", json!({}), StatusCode::NOT_FOUND, -32601),
        ("ping", json!({}), StatusCode::NOT_FOUND, -32601),
        ("resources/subscribe", json!({ "uri": "demo://bookings" }), StatusCode::NOT_FOUND, -32601),
        ("tools/call", json!({ "name": "nothing" }), StatusCode::BAD_REQUEST, -32602),
        ("prompts/get", json!({ "name": "nothing" }), StatusCode::BAD_REQUEST, -32602),
        ("resources/read", json!({ "uri": "demo://nothing" }), StatusCode::BAD_REQUEST, -32602),
        ("tools/list", json!({ "cursor": "" }), StatusCode::BAD_REQUEST, -32602),
    ] {
        refused(demo.stateless(method, params, &none).await, status, code).await;
    }
    for method in ["GET", "DELETE"] {
        let accept = ("accept", "text/event-stream");
        let response = demo.send(method, &[("mcp-protocol-version", VERSION), accept], Body::empty()).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()["allow"], "POST");
    }
}

#[tokio::test]
async fn tools_answer_with_text_and_structure() {
    let demo = Demo::start();
    let params = json!({ "name": "unit_convert", "arguments": { "value": 10, "from": "km", "to": "mi" } });
    let result = demo.result("tools/call", params).await;
    assert_eq!(result["structuredContent"], json!({ "value": 6.213_711_922_37, "unit": "mi" }));
    assert_eq!(result["content"][0]["text"], "10 km = 6.21371192237 mi");

    let wrong = demo.result("tools/call", json!({ "name": "time_now", "arguments": { "zone": 7 } })).await;
    assert_eq!(wrong["isError"], true);
    assert!(wrong["content"][0]["text"].as_str().unwrap().contains("time_now"), "{wrong}");
}

#[tokio::test(start_paused = true)]
async fn a_countdown_reports_progress_only_if_asked() {
    let demo = Demo::start();
    let call = json!({ "name": "countdown", "arguments": { "from": 2 }, "_meta": { "progressToken": 9 } });
    let mut events = Events::of(demo.stateless("tools/call", call, &json!({})).await);
    assert_eq!(events.headers["x-accel-buffering"], "no");
    for step in 1..=2 {
        let progress = events.message().await.unwrap();
        assert_eq!(progress["method"], "notifications/progress");
        assert_eq!(
            (&progress["params"]["progress"], &progress["params"]["progressToken"]),
            (&json!(step), &json!(9))
        );
    }
    assert_eq!(events.message().await.unwrap()["result"]["structuredContent"]["steps"], 2);
    assert_eq!(events.message().await, None);

    let quiet = demo.result("tools/call", json!({ "name": "countdown", "arguments": { "from": 1 } })).await;
    assert_eq!(quiet["resultType"], "complete");
}

#[tokio::test]
async fn a_booking_asks_once_and_is_made_once() {
    let demo = Demo::start();
    let forms = json!({ "elicitation": {} });
    let call = json!({ "name": "book_table", "arguments": { "day": "2027-01-20", "people": 2 } });
    let asked = json_of(demo.stateless("tools/call", call.clone(), &forms).await).await["result"].take();
    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(asked["inputRequests"]["booking"]["method"], "elicitation/create");
    assert_eq!(asked.get("ttlMs"), None);

    let mut retry = call.clone();
    retry["requestState"] = asked["requestState"].clone();
    retry["inputResponses"] = json!({ "booking": booking_form(), "unknown": 1 });
    for _ in 0..2 {
        let body = json_of(demo.stateless("tools/call", retry.clone(), &forms).await).await;
        assert_eq!(body["result"]["structuredContent"]["status"], "booked", "{body}");
    }
    let read = demo.result("resources/read", json!({ "uri": "demo://bookings" })).await;
    let bookings: Value = serde_json::from_str(read["contents"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(bookings["bookings"].as_array().unwrap().len(), 1);

    let mut unanswered = retry.clone();
    unanswered["inputResponses"] = json!({});
    let again = json_of(demo.stateless("tools/call", unanswered, &forms).await).await;
    assert_eq!(again["result"]["resultType"], "input_required");

    retry["arguments"]["people"] = json!(12);
    refused(demo.stateless("tools/call", retry.clone(), &forms).await, StatusCode::BAD_REQUEST, -32602).await;
    retry["arguments"]["people"] = json!(2);
    demo.clock.advance(chrono::Duration::minutes(11));
    refused(demo.stateless("tools/call", retry, &forms).await, StatusCode::BAD_REQUEST, -32602).await;
}

#[tokio::test]
async fn a_client_without_forms_is_told_what_it_lacks() {
    let demo = Demo::start();
    let call = json!({ "name": "book_table", "arguments": { "day": "2027-01-20", "people": 2 } });
    for capabilities in [json!({}), json!({ "elicitation": { "url": {} } })] {
        let response = demo.stateless("tools/call", call.clone(), &capabilities).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let error = json_of(response).await["error"].take();
        assert_eq!(error["code"], -32021);
        assert_eq!(error["data"]["requiredCapabilities"], json!({ "elicitation": { "form": {} } }));
    }
}

#[tokio::test]
async fn a_subscription_acknowledges_tells_and_ends_with_its_result() {
    let demo = Demo::start();
    let wanted = json!({ "notifications": {
        "toolsListChanged": true, "resourceSubscriptions": ["demo://bookings", "demo://zones/UTC"],
    } });
    let mut events = Events::of(demo.stateless("subscriptions/listen", wanted, &json!({})).await);
    let first = events.message().await.unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["notifications"], json!({ "resourceSubscriptions": ["demo://bookings"] }));
    assert_eq!(first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "r-1");

    let forms = json!({ "elicitation": { "form": {} } });
    let mut call = json!({ "name": "book_table", "arguments": { "day": "2027-01-20", "people": 2 } });
    let asked = json_of(demo.stateless("tools/call", call.clone(), &forms).await).await;
    call["requestState"] = asked["result"]["requestState"].clone();
    call["inputResponses"] = json!({ "booking": booking_form() });
    demo.stateless("tools/call", call, &forms).await;

    let updated = events.message().await.unwrap();
    assert_eq!(updated["method"], "notifications/resources/updated");
    assert_eq!(updated["params"]["uri"], "demo://bookings");
    demo.tasks.trigger_shutdown();
    let last = events.message().await.unwrap();
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!("r-1"), &json!("complete")));
    assert_eq!(last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "r-1");
    assert_eq!(events.message().await, None);
}

#[tokio::test]
async fn prompts_and_completions_work() {
    let demo = Demo::start();
    let arguments = json!({ "here": "europe/zurich", "there": "Asia/Tokyo" });
    let prompt = demo.result("prompts/get", json!({ "name": "plan_meeting", "arguments": arguments })).await;
    assert!(prompt["messages"][0]["content"]["text"].as_str().unwrap().contains("Europe/Zurich"));
    let missing = demo.stateless("prompts/get", json!({ "name": "plan_meeting" }), &json!({})).await;
    assert_eq!(refused(missing, StatusCode::BAD_REQUEST, -32602).await, "here is missing");

    let completion = json!({
        "ref": { "type": "ref/prompt", "name": "plan_meeting" }, "argument": { "name": "here", "value": "Zuri" },
    });
    let completed = demo.result("completion/complete", completion).await;
    assert_eq!(completed["completion"]["values"], json!(["Europe/Zurich"]));
    let zone = demo.result("resources/read", json!({ "uri": "demo://zones/Europe/Zurich" })).await;
    assert!(zone["contents"][0]["text"].as_str().unwrap().contains("3600"));
}
