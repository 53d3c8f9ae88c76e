//! Server-sent events, as the WHATWG HTML standard §9.2 writes them: incremental and bounded.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// One event, or a comment that only keeps a connection alive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// `event`; absent means `message`.
    pub event: Option<Bytes>,
    /// `id`; an empty one resets the client's last event id.
    pub id: Option<Bytes>,
    /// `data`, lines joined by line feeds.
    pub data: Bytes,
    /// `retry` in milliseconds.
    pub retry: Option<u64>,
}

/// An event that is larger than the decoder may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server-sent event is larger than {limit} bytes")]
pub struct EventTooLarge {
    /// The limit that was passed.
    pub limit: usize,
}

impl SseEvent {
    /// A message with `data`.
    #[must_use]
    pub fn message(data: Bytes) -> Self {
        Self { data, ..Self::default() }
    }

    /// Writes the event; line breaks inside values cannot make a second one.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.data.len() + 64);
        if let Some(event) = &self.event {
            put_field(&mut out, b"event: ", event);
        }
        if let Some(id) = &self.id {
            put_field(&mut out, b"id: ", id);
        }
        if let Some(retry) = self.retry {
            put_field(&mut out, b"retry: ", retry.to_string().as_bytes());
        }
        for line in self.data.split(|b| *b == b'\n') {
            put_field(&mut out, b"data: ", line);
        }
        out.put_u8(b'\n');
        out.freeze()
    }
}

fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        out.put_slice(value);
    } else {
        out.extend(value.iter().filter(|b| !matches!(b, b'\r' | b'\n')));
    }
    out.put_u8(b'\n');
}

/// A comment, which clients skip: keeps an idle connection open.
#[must_use]
pub fn keep_alive() -> Bytes {
    Bytes::from_static(b":\n\n")
}

/// Bytes in, events out; keeps at most `limit` bytes of an unfinished event.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    buffer: BytesMut,
    /// Bytes of `buffer` already searched for a line end.
    searched: usize,
    current: Partial,
    started: bool,
    /// The last line ended in a carriage return: a line feed right after belongs to it.
    after_return: bool,
}

#[derive(Debug, Default)]
struct Partial {
    event: SseEvent,
    more: Option<BytesMut>,
    has_data: bool,
    size: usize,
}

impl Decoder {
    /// A decoder that refuses events above `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            buffer: BytesMut::new(),
            searched: 0,
            current: Partial::default(),
            started: false,
            after_return: false,
        }
    }

    /// Adds bytes as they arrived.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole event; `None` until more bytes come. An event without data is given out if it has an id
    /// (2025-11-25 primes streams so) or a retry time.
    pub fn next_event(&mut self) -> Result<Option<SseEvent>, EventTooLarge> {
        self.skip_mark();
        while let Some(line) = self.next_line() {
            if line.is_empty() {
                let done = std::mem::take(&mut self.current);
                if done.has_data || done.event.id.is_some() || done.event.retry.is_some() {
                    return Ok(Some(done.finish()));
                }
            } else {
                self.current.size += line.len();
                self.current.take_line(&line);
                self.check()?;
            }
        }
        self.check()?;
        Ok(None)
    }

    /// Whether bytes of an unfinished event are left.
    #[must_use]
    pub fn is_mid_event(&self) -> bool {
        !self.buffer.is_empty() || self.current.size > 0
    }

    fn check(&self) -> Result<(), EventTooLarge> {
        let size = self.current.size.saturating_add(self.buffer.len());
        if self.current.size > self.limit || (size > self.limit && self.searched == self.buffer.len()) {
            return Err(EventTooLarge { limit: self.limit });
        }
        Ok(())
    }

    /// Skips a byte order mark at the start of the stream.
    fn skip_mark(&mut self) {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if !self.started && self.buffer.len() >= MARK.len() {
            self.started = true;
            if self.buffer.starts_with(MARK) {
                self.buffer.advance(MARK.len());
            }
        }
    }

    fn next_line(&mut self) -> Option<Bytes> {
        if self.after_return && self.buffer.first() == Some(&b'\n') {
            self.buffer.advance(1);
            self.after_return = false;
        }
        let found = memchr::memchr2(b'\r', b'\n', self.buffer.get(self.searched..)?);
        let Some(end) = found.map(|at| at + self.searched) else {
            self.searched = self.buffer.len();
            return None;
        };
        self.searched = 0;
        self.after_return = self.buffer[end] == b'\r';
        let line = self.buffer.split_to(end).freeze();
        self.buffer.advance(1);
        Some(line)
    }
}

impl Partial {
    fn take_line(&mut self, line: &Bytes) {
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let mut value = line.slice((colon + 1).min(line.len())..);
        if value.first() == Some(&b' ') {
            value.advance(1);
        }
        match &line[..colon] {
            b"data" => self.take_data(value),
            b"event" => self.event.event = Some(value),
            b"id" if !value.contains(&0) => self.event.id = Some(value),
            b"retry" => {
                let digits =
                    std::str::from_utf8(&value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
                self.event.retry = digits.and_then(|v| v.parse().ok()).or(self.event.retry);
            }
            _ => {}
        }
    }

    fn take_data(&mut self, value: Bytes) {
        if !self.has_data {
            self.has_data = true;
            self.event.data = value;
            return;
        }
        let first = &self.event.data;
        let more = self.more.get_or_insert_with(|| BytesMut::from(&first[..]));
        more.put_u8(b'\n');
        more.put_slice(&value);
    }

    fn finish(mut self) -> SseEvent {
        if let Some(more) = self.more {
            self.event.data = more.freeze();
        }
        self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<SseEvent> {
        let mut decoder = Decoder::new(1024);
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(event) = decoder.next_event().unwrap() {
                events.push(event);
            }
        }
        events
    }

    #[test]
    fn events_come_out_however_the_bytes_are_cut() {
        let stream: &[u8] =
            b"\xef\xbb\xbf: hello\r\nevent: message\r\nid: 7\r\ndata: {\"a\":\r\ndata:  1}\r\n\r\nretry: 500\nid\ndata:\n\ndata: x\r\r";
        let whole = decode(&[stream]);
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0].data, &b"{\"a\":\n 1}"[..]);
        assert_eq!(whole[0].id.as_deref(), Some(&b"7"[..]));
        assert_eq!((whole[1].retry, whole[1].id.as_deref()), (Some(500), Some(&b""[..])));
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(decode(&bytes), whole);
    }

    #[test]
    fn encoded_events_decode_to_themselves() {
        let event = SseEvent {
            event: Some("message".into()),
            id: Some("a\r\nb".into()),
            data: "one\ntwo".into(),
            retry: Some(3),
        };
        let back = decode(&[&event.encode()]);
        assert_eq!(back, [SseEvent { id: Some("ab".into()), ..event }]);
    }

    #[test]
    fn comments_are_no_events_and_an_unended_event_stays_inside() {
        assert!(decode(&[b":\n\n:keep\n\n", b"data: half\n"]).is_empty());
    }

    #[test]
    fn an_event_over_the_limit_is_refused() {
        for chunk in
            [&b"data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"[..], b"data: xxxxxxxx\ndata: yyyyyyyyyyyyyyy\n"]
        {
            let mut decoder = Decoder::new(20);
            decoder.push(chunk);
            assert_eq!(decoder.next_event(), Err(EventTooLarge { limit: 20 }));
        }
        let mut decoder = Decoder::new(20);
        decoder.push(&b"data: 12345\n\n".repeat(50));
        for _ in 0..50 {
            assert!(decoder.next_event().unwrap().is_some());
        }
        assert_eq!(decoder.next_event(), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn cutting_never_changes_what_is_decoded(stream in "(data: [a-c]{0,3}|id: 1|:x)?(\r\n|\n|\r){1,2}", cut in 0_usize..12) {
            let bytes = stream.repeat(3).into_bytes();
            let cut = cut.min(bytes.len());
            proptest::prop_assert_eq!(decode(&[&bytes[..cut], &bytes[cut..]]), decode(&[&bytes]));
        }
    }
}
