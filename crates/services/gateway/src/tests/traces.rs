use axum::body::Body;
use http::Request;
use portico_telemetry::testing::{FinishedSpan, SpanCollector};

use crate::testing::{Bench, call, stateless_body};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const OTHER: &str = "1111111111111111";

fn parent(span: &str) -> String {
    format!("00-{TRACE}-{span}-01")
}

fn stateless(bench: &Bench, header: Option<&str>) -> Request<Body> {
    let body = stateless_body("echo", "").replace(
        r#""_meta":{"#,
        &format!(r#""_meta":{{"traceparent":"{}","#, parent(header.map_or(CALLER, |_| OTHER))),
    );
    let mut request = bench.stateless_request("echo").body(Body::from(body)).unwrap();
    if let Some(span) = header {
        request.headers_mut().insert("traceparent", parent(span).parse().unwrap());
    }
    request
}

fn named<'a>(spans: &'a [FinishedSpan], name: &str) -> &'a FinishedSpan {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("{name} is not among {spans:?}"));
    assert_eq!(found.next(), None, "{name} is there twice");
    span
}

#[tokio::test]
async fn s3_34_a_call_is_one_trace_from_its_caller_to_the_server() {
    let bench = Bench::new().await;
    let session = bench.initialize("2025-11-25").await;
    for era in ["stateless", "session"] {
        let spans = SpanCollector::install();
        let request = if era == "stateless" {
            stateless(&bench, Some(CALLER))
        } else {
            let body = call(4, "echo").replace(
                r#""arguments""#,
                &format!(r#""_meta":{{"traceparent":"{}"}},"arguments""#, parent(OTHER)),
            );
            let mut request = bench.session_request(&session, &body);
            request.headers_mut().insert("traceparent", parent(CALLER).parse().unwrap());
            request
        };
        assert_eq!(bench.send(request).await.status, 200);
        let spans = spans.finished();
        let whole = named(&spans, "gateway.call");
        assert_eq!((whole.trace_id.as_str(), whole.parent_id.as_str()), (TRACE, CALLER), "{era}");
        for step in ["gateway.authn", "gateway.authz", "gateway.upstream", "gateway.audit"] {
            let span = named(&spans, step);
            assert_eq!((&span.trace_id, &span.parent_id), (&whole.trace_id, &whole.span_id), "{era} {step}");
        }
        let told = parent(&named(&spans, "gateway.upstream").span_id);
        let seen = bench.server.last();
        assert_eq!(seen.headers["traceparent"], told.as_str(), "{era}");
        assert_eq!(seen.json()["params"]["_meta"]["traceparent"], told, "{era}");
        assert_eq!(bench.audit().pop().unwrap().trace_id, TRACE, "{era}");
    }
}

#[tokio::test]
async fn s3_34_a_trace_that_only_the_body_tells_of_goes_on_too() {
    let bench = Bench::new().await;
    let spans = SpanCollector::install();
    assert_eq!(bench.send(stateless(&bench, None)).await.status, 200);
    let spans = spans.finished();
    let message = spans.iter().find(|span| span.trace_id == TRACE && span.name == "gateway.call").unwrap();
    assert_eq!(message.parent_id, CALLER);
    let upstream = named(&spans, "gateway.upstream");
    assert_eq!(upstream.parent_id, message.span_id);
    assert_eq!(bench.server.last().headers["traceparent"], parent(&upstream.span_id).as_str());
}

#[tokio::test]
async fn without_exported_spans_a_trace_passes_through_unchanged() {
    let bench = Bench::new().await;
    assert_eq!(bench.send(stateless(&bench, Some(CALLER))).await.status, 200);
    let seen = bench.server.last();
    // What the body says counts more.
    assert_eq!(seen.headers["traceparent"], parent(OTHER).as_str());
    assert_eq!(seen.json()["params"]["_meta"]["traceparent"], parent(OTHER));
}
