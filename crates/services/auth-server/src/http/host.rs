//! Requests for another host are answered by nobody here: against DNS rebinding (RS-32).

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::HOST;
use http::{HeaderMap, StatusCode, Uri};
use portico_telemetry::CorrelationId;
use portico_transport::problem;

use crate::app::Shared;

/// Refuses a request that was sent to another host than the deployment's.
pub(crate) async fn only_ours(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let origin = app.resources.origin();
    if is_ours(origin, request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let correlation = request.extensions().get::<CorrelationId>().map(CorrelationId::as_str);
    let detail = format!("this host is not served here; use {origin}{}", request.uri().path());
    problem(StatusCode::MISDIRECTED_REQUEST, "wrong_host", detail, correlation)
}

/// Who names no host, as only programs do, is not led astray.
fn is_ours(origin: &str, uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let sent = match (uri.authority(), hosts.next(), hosts.next()) {
        (_, Some(_), Some(_)) => return false,
        (Some(authority), ..) => Some(authority.as_str()),
        (None, Some(host), None) => Some(host.to_str().unwrap_or_default()),
        (None, ..) => None,
    };
    let (own, default_port) = match origin.split_once("://") {
        Some(("http", own)) => (own, ":80"),
        Some((_, own)) => (own, ":443"),
        None => (origin, ""),
    };
    sent.is_none_or(|sent| {
        let end = sent.len().saturating_sub(default_port.len());
        let bare = sent.get(..end).filter(|_| sent.ends_with(default_port));
        sent.eq_ignore_ascii_case(own) || bare.is_some_and(|bare| bare.eq_ignore_ascii_case(own))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(origin: &str, uri: &str, hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        is_ours(origin, &uri.parse().unwrap(), &headers)
    }

    #[test]
    fn rs_32_only_the_deployments_own_host_is_served() {
        let public = "https://portico.example";
        for host in ["portico.example", "Portico.Example", "portico.example:443"] {
            assert!(ours(public, "/login", &[host]), "{host}");
        }
        for host in [
            "evil.example",
            "portico.example.evil.example",
            "portico.example:80",
            "",
            ":443",
            "x@portico.example",
        ] {
            assert!(!ours(public, "/login", &[host]), "{host}");
        }
        assert!(!ours(public, "/login", &["portico.example", "evil.example"]));
        assert!(!ours(public, "https://evil.example/login", &["portico.example"]));
        assert!(ours(public, "https://portico.example/login", &[]));
        let local = "http://127.0.0.1:8080";
        assert!(ours(local, "/login", &["127.0.0.1:8080"]) && ours(local, "/login", &[]));
        assert!(!ours(local, "/login", &["localhost:8080"]) && !ours(local, "/login", &["127.0.0.1"]));
    }
}
