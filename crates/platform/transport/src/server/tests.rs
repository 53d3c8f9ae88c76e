use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::{Running, echo_peer, start};
use crate::{BindError, BoundListener};

/// Sends bytes and reads until the server closes.
async fn exchange(server: &Running, request: &str) -> String {
    String::from_utf8(read_to_end(server, request).await).unwrap()
}

async fn read_to_end(server: &Running, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that refuses may close before it has read everything: a reset is an end as well.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

fn serve(limits: HttpLimits) -> Running {
    start(echo_peer(), limits, None)
}

fn quick() -> HttpLimits {
    HttpLimits { header_read_timeout_seconds: 1, ..HttpLimits::default() }
}

#[tokio::test]
async fn requests_from_outside_carry_an_address_and_never_an_identity() {
    let server = serve(HttpLimits::default());
    let request = "GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-client-cert: URI=spiffe://portico/gateway\r\n\
                   connection: close\r\n\r\n";
    let answer = exchange(&server, request).await;
    assert!(answer.ends_with("Some(\"127.0.0.1\") None"), "{answer}");
}

#[tokio::test]
async fn a_slow_request_head_is_cut() {
    let server = serve(quick());
    let parts = ["", "PRI * HTTP", "GET / HTTP/1.1\r\nhost: x\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let all = futures_util::future::join_all(parts.map(|part| read_to_end(&server, part)));
    let answers = tokio::time::timeout(Duration::from_secs(10), all).await.unwrap();
    // The first three get no HTTP answer; the last one gets HTTP/2 settings and then the end.
    assert!(answers[..3].iter().all(|answer| answer.is_empty() || answer.starts_with(b"HTTP/1.1 408")));
}

#[tokio::test]
async fn too_large_or_too_many_headers_are_431() {
    let server = serve(HttpLimits { max_header_bytes: 8192, max_headers: 10, ..HttpLimits::default() });
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(9000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(20));
    for request in [large, many] {
        let answer = exchange(&server, &request).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_free_place() {
    let server = serve(HttpLimits { max_connections: 1, ..HttpLimits::default() });
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    first.read_exact(&mut head).await.unwrap();
    let second = exchange(&server, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut second = std::pin::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(100), second.as_mut()).await.is_err());
    drop(first);
    assert!(second.await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn s3_47_shutdown_finishes_requests_in_flight_and_accepts_no_more() {
    let mut server = serve(HttpLimits::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // A second connection that is answered proves that the first one was accepted before.
    exchange(&server, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    server.shutdown.cancel();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("slow"), "{answer}");
    (&mut server.task).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn abort_ends_connections_that_do_not_drain() {
    let mut server = serve(HttpLimits::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    server.shutdown.cancel();
    server.abort.cancel();
    (&mut server.task).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error() {
    let server = serve(HttpLimits::default());
    let error = BoundListener::bind(server.address).unwrap_err();
    assert!(matches!(error, BindError::AddressInUse(_)));
    assert!(error.to_string().contains("choose another port"), "{error}");
}

#[tokio::test]
async fn an_address_of_another_machine_is_a_clear_error() {
    let error = BoundListener::bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
    assert!(matches!(error, BindError::AddressNotAvailable(_)), "{error}");
}
