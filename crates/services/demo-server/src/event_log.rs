//! One stream of messages to a client: written once, readable from any point, by one reader at a time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::Stream;
use futures_util::stream;
use tokio::sync::watch;

/// Messages kept for a client that comes back; older ones are gone.
const MAX_KEPT: usize = 256;

/// A numbered message; numbers start at 1, so that 0 means "from the beginning".
pub(crate) type Numbered = (u64, Arc<str>);

#[derive(Debug, Default)]
struct Inner {
    kept: VecDeque<Numbered>,
    last: u64,
    /// The last message that a reader has taken.
    delivered: u64,
    closed: bool,
    /// Which reader is the current one: a client that resumes takes over from its own dead connection.
    reader: u64,
}

/// The messages of one stream, and whoever reads them.
#[derive(Debug)]
pub(crate) struct EventLog {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

impl EventLog {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), changed: watch::Sender::new(()) })
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
    }

    pub(crate) fn push(&self, message: String) {
        self.change(|inner| {
            if inner.kept.len() == MAX_KEPT {
                inner.kept.pop_front();
            }
            inner.last += 1;
            inner.kept.push_back((inner.last, message.into()));
        });
    }

    /// Ends the stream once everything pushed has been read.
    pub(crate) fn close(&self) {
        self.change(|inner| inner.closed = true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).closed
    }

    /// The number of the last message that was read: a new stream goes on after it, since no message travels twice.
    pub(crate) fn delivered(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).delivered
    }

    /// The messages after number `seen`, as they come; an earlier reader's stream ends.
    pub(crate) fn read(self: &Arc<Self>, seen: u64) -> impl Stream<Item = Numbered> + use<> {
        let mut reader = 0;
        self.change(|inner| {
            inner.reader += 1;
            reader = inner.reader;
        });
        let changed = self.changed.subscribe();
        stream::unfold((self.clone(), changed, seen), move |(log, mut changed, seen)| async move {
            loop {
                changed.borrow_and_update();
                match log.next(seen, reader) {
                    Next::Message(message) => {
                        let seen = message.0;
                        return Some((message, (log, changed, seen)));
                    }
                    Next::End => return None,
                    Next::Wait => changed.changed().await.ok()?,
                }
            }
        })
    }

    fn next(&self, seen: u64, reader: u64) -> Next {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.reader != reader {
            return Next::End;
        }
        match inner.kept.iter().find(|(number, _)| *number > seen).cloned() {
            Some(message) => {
                inner.delivered = inner.delivered.max(message.0);
                Next::Message(message)
            }
            None if inner.closed => Next::End,
            None => Next::Wait,
        }
    }
}

enum Next {
    Message(Numbered),
    End,
    Wait,
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_reader_gets_what_was_pushed_before_and_after_and_the_end() {
        let log = EventLog::new();
        log.push("a".to_owned());
        let mut reader = std::pin::pin!(log.read(0));
        assert_eq!(reader.next().await, Some((1, "a".into())));
        log.push("b".to_owned());
        log.close();
        assert_eq!(reader.next().await, Some((2, "b".into())));
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn a_second_reader_takes_over() {
        let log = EventLog::new();
        let mut first = std::pin::pin!(log.read(0));
        let mut second = std::pin::pin!(log.read(0));
        log.push("a".to_owned());
        assert_eq!(first.next().await, None);
        assert_eq!(second.next().await, Some((1, "a".into())));
    }

    #[tokio::test]
    async fn a_stream_that_nobody_reads_keeps_a_bounded_tail() {
        let log = EventLog::new();
        for number in 0..=MAX_KEPT {
            log.push(number.to_string());
        }
        let mut reader = std::pin::pin!(log.read(0));
        assert_eq!(reader.next().await, Some((2, "1".into())));
    }
}
