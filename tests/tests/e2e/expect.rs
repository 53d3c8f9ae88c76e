//! What a refusal has to look like, in one place.

use acceptance::deployment::Deployment;
use acceptance::http::Answer;
use acceptance::upstream::Upstream;
use portico_proto_registry::AuditRecord;

/// Status, JSON-RPC code and reason of a refusal.
pub(crate) type Refusal<'a> = (u16, i64, &'a str);

/// The answer says what is wrong in a form that a client can read and a person can act on.
#[track_caller]
pub(crate) fn refused(answer: &Answer, (status, code, reason): Refusal<'_>) {
    let body = answer.text();
    assert_eq!(answer.status.as_u16(), status, "{reason}: {body}");
    let error = answer.json()["error"].clone();
    assert_eq!(
        (error["code"].as_i64(), error["data"]["reason"].as_str()),
        (Some(code), Some(reason)),
        "{body}"
    );
    assert!(error["message"].as_str().is_some_and(|message| message.len() > 10), "{body}");
    assert_eq!(error["data"]["correlation_id"], answer.correlation(), "{body}");
}

/// The answer, its audit record, and that no server heard of it.
pub(crate) async fn refused_and_recorded(
    deployment: &Deployment,
    upstream: &Upstream,
    answer: &Answer,
    refusal: Refusal<'_>,
) -> AuditRecord {
    refused(answer, refusal);
    untouched(upstream, answer);
    let record = deployment.record(&answer.correlation()).await;
    assert_eq!((record.outcome.as_str(), record.reason.as_str()), ("denied", refusal.2), "{record:?}");
    record
}

/// Discovery and health checks may reach a server at any time, but nothing of this request did.
#[track_caller]
pub(crate) fn untouched(upstream: &Upstream, answer: &Answer) {
    let correlation = answer.correlation();
    for seen in upstream.seen() {
        let named = seen.headers.values().any(|value| value.as_bytes() == correlation.as_bytes());
        assert!(!named && seen.rpc() != "tools/call", "a refused request reached the server: {seen:?}");
    }
}
