use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;

use crate::refusal::{Reason, Refusal};

/// Whether `Content-Length` alone is over the limit: such a body is not read at all.
pub(crate) fn declared_too_large(headers: &HeaderMap, limit: usize) -> Result<(), Refusal> {
    let declared =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > limit as u64) { Err(too_large(limit)) } else { Ok(()) }
}

/// Reads a whole body within `limit` bytes and `deadline`.
pub(crate) async fn read_body(body: Body, limit: usize, deadline: Duration) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(deadline, collect(body, limit)).await {
        Ok(read) => read,
        Err(_) => Err(Refusal::new(
            Reason::BodyTooSlow,
            format!("the body did not arrive within {} ms", deadline.as_millis()),
        )),
    }
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut more: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Refusal::new(Reason::BodyIncomplete, "the body broke off before its end"))?;
        let Ok(data) = frame.into_data() else { continue };
        let size = more.as_ref().map_or(first.len(), BytesMut::len);
        if size + data.len() > limit {
            return Err(too_large(limit));
        }
        // Nearly every body is one frame, which then needs no copy.
        match &mut more {
            Some(buffer) => buffer.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let buffer = more.insert(BytesMut::from(&first[..]));
                buffer.extend_from_slice(&data);
            }
        }
    }
    Ok(more.map_or(first, BytesMut::freeze))
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(Reason::BodyTooLarge, format!("the body is larger than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    fn streamed(chunks: &[&'static str]) -> Body {
        let chunks: Vec<_> =
            chunks.iter().map(|c| Ok::<_, Infallible>(Bytes::from_static(c.as_bytes()))).collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn chunks_are_joined_up_to_the_limit() {
        let read = read_body(streamed(&["ab", "cd", "e"]), 5, Duration::from_secs(1)).await;
        assert_eq!(read.unwrap(), "abcde");
        let read = read_body(streamed(&["ab", "cd", "e"]), 4, Duration::from_secs(1)).await;
        assert_eq!(read.unwrap_err().reason, Reason::BodyTooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_cut_off() {
        let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let read = read_body(never, 10, Duration::from_secs(10)).await;
        assert_eq!(read.unwrap_err().reason, Reason::BodyTooSlow);
    }
}
