use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_traceparent_round_trips() {
    let parent = Traceparent::parse(PARENT).unwrap();
    assert!(parent.is_sampled());
    assert_eq!(parent.to_string(), PARENT);
}

#[test]
fn an_invalid_traceparent_is_refused() {
    for bad in [
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
    ] {
        assert_eq!(Traceparent::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_later_version_is_read_as_version_00() {
    let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09-what-the-future-brings";
    assert_eq!(Traceparent::parse(later).unwrap().to_string(), PARENT);
}

#[test]
fn headers_round_trip_and_lists_are_joined() {
    let mut headers = HeaderMap::new();
    headers.insert(TRACEPARENT_HEADER, HeaderValue::from_static(PARENT));
    headers.append(TRACESTATE_HEADER, HeaderValue::from_static("a=1"));
    headers.append(TRACESTATE_HEADER, HeaderValue::from_static("b=2"));
    headers.insert(BAGGAGE_HEADER, HeaderValue::from_static("user=alice;p=1, run=7"));
    let context = TraceContext::from_headers(&headers);
    assert_eq!(context.tracestate(), Some("a=1,b=2"));
    let mut out = HeaderMap::new();
    out.insert(BAGGAGE_HEADER, HeaderValue::from_static("stale=1"));
    context.inject_headers(&mut out);
    assert_eq!(out[TRACEPARENT], PARENT);
    assert_eq!(out[TRACESTATE], "a=1,b=2");
    assert_eq!(out[BAGGAGE], "user=alice;p=1, run=7");
}

#[test]
fn grpc_metadata_carries_the_same_headers() {
    let mut metadata = tonic::metadata::MetadataMap::new();
    let context = TraceContext::from_meta(Some(PARENT), None, None);
    context.inject_headers(metadata.as_mut());
    assert_eq!(metadata.get(TRACEPARENT).unwrap(), PARENT);
    assert_eq!(TraceContext::from_headers(metadata.as_ref()), context);
}

#[test]
fn invalid_parts_are_not_passed_on() {
    let without_parent = TraceContext::from_meta(None, Some("a=1"), Some("user=alice"));
    assert_eq!(without_parent.tracestate(), None);
    assert_eq!(without_parent.baggage(), Some("user=alice"));
    let long = format!("a={}", "x".repeat(MAX_TRACESTATE));
    let many = vec!["a=1"; MAX_TRACESTATE_MEMBERS + 1].join(",");
    for bad in [long.as_str(), many.as_str(), "a", "=1", "a=1\r\nx: y", ",,"] {
        assert_eq!(TraceContext::from_meta(Some(PARENT), Some(bad), Some(bad)).tracestate(), None, "{bad}");
    }
    let mut twice = HeaderMap::new();
    twice.append(TRACEPARENT_HEADER, HeaderValue::from_static(PARENT));
    twice.append(TRACEPARENT_HEADER, HeaderValue::from_static(PARENT));
    assert!(TraceContext::from_headers(&twice).is_empty());
}

#[test]
fn meta_goes_before_headers() {
    let meta = TraceContext::from_meta(Some(PARENT), None, None);
    let other = "00-11111111111111111111111111111111-2222222222222222-00";
    let headers = TraceContext::from_meta(Some(other), Some("a=1"), Some("k=v"));
    let merged = meta.or(headers);
    assert_eq!(
        merged.entries().collect::<Vec<_>>(),
        [(TRACEPARENT, PARENT.to_owned()), (BAGGAGE, "k=v".to_owned())]
    );
}

#[test]
fn without_otlp_the_context_passes_through() {
    tracing::subscriber::with_default(tracing_subscriber::registry(), || {
        let context = TraceContext::from_meta(Some(PARENT), Some("a=1"), None);
        let span = tracing::info_span!("call");
        context.adopt(&span);
        assert_eq!(context.outgoing(&span), context);
    });
}

#[test]
fn with_otlp_a_span_joins_the_callers_trace_and_is_the_next_parent() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = crate::init::export(&provider);
    let context = TraceContext::from_meta(Some(PARENT), Some("a=1"), Some("k=v"));
    let outgoing = tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let span = tracing::info_span!("call");
        context.adopt(&span);
        let linked = tracing::info_span!("event");
        context.link(&linked);
        drop(linked);
        tracing::info_span!(target: "h2::proto", "frame").in_scope(|| ());
        span.in_scope(|| context.outgoing(&span))
    });
    let spans = exporter.get_finished_spans().unwrap();
    let call = spans.iter().find(|span| span.name == "call").unwrap();
    assert_eq!(call.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert_eq!(call.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    let next = outgoing.traceparent().unwrap().to_string();
    assert_eq!(next, format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", call.span_context.span_id()));
    assert_eq!((outgoing.tracestate(), outgoing.baggage()), (Some("a=1"), Some("k=v")));
    assert!(spans.iter().all(|span| span.name != "frame"), "the transport is not traced");
    let event = spans.iter().find(|span| span.name == "event").unwrap();
    assert_ne!(event.span_context.trace_id(), call.span_context.trace_id());
    assert_eq!(event.links.links[0].span_context.span_id().to_string(), "00f067aa0ba902b7");
}
