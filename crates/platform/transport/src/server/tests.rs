use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

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
async fn s0_28_requests_from_outside_carry_an_address_and_never_an_identity() {
    let server = serve(HttpLimits::default());
    let request = "GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-client-cert: URI=spiffe://portico/gateway\r\n\
                   connection: close\r\n\r\n";
    let answer = exchange(&server, request).await;
    assert!(answer.ends_with("Some(\"127.0.0.1\") None"), "{answer}");
}

#[tokio::test]
async fn behind_a_trusted_proxy_a_request_comes_from_whom_the_proxy_names() {
    let request = "GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.7\r\nconnection: close\r\n\r\n";
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let trusting = serve(HttpLimits { trusted_proxies, ..HttpLimits::default() });
    let answer = exchange(&trusting, request).await;
    assert!(answer.ends_with("Some(\"192.0.2.7\") None"), "{answer}");
    let answer = exchange(&serve(HttpLimits::default()), request).await;
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

/// One number of a server's metrics page.
fn metric(server: &Running, line: &str) -> Option<u64> {
    let page = server.metrics.render();
    page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
}

#[tokio::test]
async fn an_address_over_its_limit_is_refused_and_others_are_served() {
    let server = serve(HttpLimits { max_connections_per_address: 1, ..HttpLimits::default() });
    let mut held = TcpStream::connect(server.address).await.unwrap();
    ask_again(&mut held).await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(read_to_end(&server, request).await, b"");
    let refused = r#"portico_listener_refused_total{listener="test",reason="address_limit"}"#;
    assert_eq!(metric(&server, refused), Some(1));
    let another = TcpSocket::new_v4().unwrap();
    another.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut another = another.connect(server.address).await.unwrap();
    ask_again(&mut another).await;
    // Who was there stays, and who goes makes room.
    ask_again(&mut held).await;
    assert_eq!(metric(&server, r#"portico_listener_connections{listener="test"}"#), Some(2));
    drop(held);
    while !exchange(&server, request).await.starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_trusted_proxy_brings_as_many_connections_as_it_has_clients() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let limits = HttpLimits { max_connections_per_address: 1, trusted_proxies, ..HttpLimits::default() };
    let server = serve(limits);
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut connection = TcpStream::connect(server.address).await.unwrap();
        ask_again(&mut connection).await;
        held.push(connection);
    }
}

#[tokio::test]
async fn a_flood_of_silent_connections_keeps_nobody_out() {
    let server = serve(HttpLimits { max_connections: 8, ..HttpLimits::default() });
    let mut used = TcpStream::connect(server.address).await.unwrap();
    ask_again(&mut used).await;
    let mut flood = Vec::new();
    for _ in 0..40 {
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        silent.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        flood.push(silent);
    }
    let newcomer = exchange(&server, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = tokio::time::timeout(Duration::from_secs(10), newcomer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Who has sent a request is not cut for those who send none.
    ask_again(&mut used).await;
}

#[tokio::test]
async fn s0_26_shutdown_finishes_requests_in_flight_and_accepts_no_more() {
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

/// Sends a request on a kept connection and reads the head and body of its answer.
async fn ask_again(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b" None") {
        let mut part = [0; 1024];
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..read]);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn s0_26_a_kept_connection_is_answered_once_more_after_shutdown_and_told_to_close() {
    let linger = HttpLimits { drain_linger_ms: 60_000, ..HttpLimits::default() };
    let mut server = serve(linger);
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    assert!(!ask_again(&mut kept).await.contains("connection: close"));
    server.shutdown.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(ask_again(&mut kept).await.contains("connection: close"));
    assert_eq!(kept.read(&mut [0]).await.unwrap(), 0);
    (&mut server.task).await.unwrap();
}

#[tokio::test]
async fn s0_26_while_draining_new_connections_are_served_and_none_is_kept() {
    let server = serve(HttpLimits::default());
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    ask_again(&mut kept).await;
    server.draining.cancel();
    assert!(ask_again(&mut kept).await.contains("connection: close"));
    // Without `connection: close` in the request it would be kept, and this would never end.
    let answer = exchange(&server, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_kept_connection_that_is_not_used_ends_after_the_linger() {
    let mut server = serve(HttpLimits { drain_linger_ms: 50, ..HttpLimits::default() });
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    ask_again(&mut kept).await;
    server.shutdown.cancel();
    assert_eq!(kept.read(&mut [0]).await.unwrap(), 0);
    (&mut server.task).await.unwrap();
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let limits = HttpLimits { body_read_timeout_seconds: 1, ..HttpLimits::default() };
    let read = |body: axum::body::Bytes| async move { body.len().to_string() };
    let server = start(Router::new().route("/", axum::routing::post(read)), limits, None);
    let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/grpc\r\ncontent-length: 4\r\n\r\n";
    let whole = exchange(&server, &format!("{head}body")).await;
    assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with('4'), "{whole}");
    let half = format!("{head}bo");
    let late = tokio::time::timeout(Duration::from_secs(10), exchange(&server, &half)).await.unwrap();
    assert!(late.starts_with("HTTP/1.1 400"), "{late}");
}

#[tokio::test]
async fn a_connection_is_kept_for_longer_than_a_request_head_may_take_and_not_for_ever() {
    let server = serve(HttpLimits { keep_alive_seconds: 3, ..quick() });
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    ask_again(&mut kept).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    ask_again(&mut kept).await;
    // Part of a head is no reason to keep it for longer.
    kept.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), kept.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn the_connection_of_a_trusted_proxy_is_kept_until_the_proxy_ends_it() {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let server = serve(HttpLimits { keep_alive_seconds: 1, trusted_proxies, ..quick() });
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    ask_again(&mut kept).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    ask_again(&mut kept).await;
}

#[tokio::test]
async fn a_connection_ends_when_it_reaches_its_age() {
    let server = serve(HttpLimits {
        header_read_timeout_seconds: 1,
        max_connection_age_seconds: 1,
        ..HttpLimits::default()
    });
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    ask_again(&mut stream).await;
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0])).await;
    assert_eq!(end.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn times_that_never_end_are_no_reason_to_fail() {
    let server = serve(HttpLimits {
        header_read_timeout_seconds: u64::MAX,
        body_read_timeout_seconds: u64::MAX,
        keep_alive_seconds: u64::MAX,
        tls_handshake_timeout_seconds: u64::MAX,
        h2_keep_alive_seconds: u64::MAX,
        max_connection_age_seconds: u64::MAX,
        drain_linger_ms: u64::MAX,
        ..HttpLimits::default()
    });
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    ask_again(&mut kept).await;
    server.shutdown.cancel();
    assert!(ask_again(&mut kept).await.contains("connection: close"));
}

#[tokio::test]
async fn s3_42_nobody_can_connect_before_the_process_is_ready() {
    let tasks = portico_process::Tasks::new();
    let reserved = crate::ReservedAddress::reserve("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = reserved.local_addr();
    let (ready, wait) = tokio::sync::oneshot::channel::<()>();
    let (listening, told) = tokio::sync::oneshot::channel::<()>();
    let serving = crate::Serving { app: echo_peer(), limits: HttpLimits::default(), tls: None };
    reserved.serve_when(async { drop(wait.await) }, serving, || listening.send(()).unwrap(), &tasks);
    assert!(TcpStream::connect(address).await.is_err());
    ready.send(()).unwrap();
    told.await.unwrap();
    assert!(TcpStream::connect(address).await.is_ok());
    tasks.trigger_shutdown();
    assert!(tasks.wait(Duration::from_secs(5)).await.is_clean());
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
