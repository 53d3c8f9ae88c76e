//! Deadlines of calls.

use std::future::Future;
use std::time::Duration;

use http::HeaderMap;
use tonic::{Request, Response, Status};

use crate::assembly::deadline_exceeded;

/// How long a call waits for the start of its answer when the caller says nothing.
pub(crate) const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

/// Makes a request that the callee and both ends of the link give up after `deadline`.
pub fn with_deadline<T>(deadline: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Waits for a unary call's whole answer, at most `deadline`.
///
/// A link's own deadline ends when the answer starts; this one also covers an answer that never ends.
pub async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(deadline_exceeded()),
    }
}

/// Reads `grpc-timeout` (gRPC over HTTP/2, Requests: at most 8 digits and a unit).
pub(crate) fn requested_deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Duration> {
        requested_deadline(&HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-timeout"),
            value.parse().unwrap(),
        )]))
    }

    #[test]
    fn grpc_timeout_is_read_in_every_unit() {
        assert_eq!(read("2H"), Some(Duration::from_hours(2)));
        assert_eq!(read("3M"), Some(Duration::from_mins(3)));
        assert_eq!(read("4S"), Some(Duration::from_secs(4)));
        assert_eq!(read("5m"), Some(Duration::from_millis(5)));
        assert_eq!(read("6u"), Some(Duration::from_micros(6)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
    }

    #[test]
    fn malformed_grpc_timeouts_are_ignored() {
        for value in ["", "S", "123456789S", "1s", "-1S", "1.5S", "1", "+1S"] {
            assert_eq!(read(value), None, "{value:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_at_its_deadline() {
        let never = std::future::pending::<Result<Response<()>, Status>>();
        let status = within(Duration::from_secs(3), never).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert_eq!(crate::reason_of(&status).as_deref(), Some("deadline_exceeded"));
    }
}
