//! A bounded queue between whoever logs and the sink, so that a stuck terminal or pipe never stops a request.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

use crate::LogFormat;

/// Most lines that wait for the sink; what comes on top is dropped and counted.
const CAPACITY: usize = 8192;
/// Memory that the writer keeps between two writes.
const BATCH_BYTES: usize = 64 * 1024;
/// How long the writer rests after each write: lines of that time go out in one system call.
const REST: Duration = Duration::from_millis(5);
/// Longest wait for the sink when the process ends.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// The side that logs.
#[derive(Debug, Clone)]
pub(crate) struct LineQueue {
    messages: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Asks for an answer once everything before it is written.
    Flush(SyncSender<()>),
}

impl LineQueue {
    /// Starts the thread that writes to `sink`.
    pub(crate) fn start(format: LogFormat, sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, waiting) = sync_channel(CAPACITY);
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = Self { messages, dropped: Arc::clone(&dropped) };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&waiting, &dropped, format, sink))?;
        Ok(queue)
    }

    /// Waits until everything logged so far is written, or the sink proves stuck.
    pub(crate) fn flush(&self) {
        let (done, written) = sync_channel(1);
        let deadline = Instant::now() + FLUSH_DEADLINE;
        while self.messages.try_send(Message::Flush(done.clone())).is_err() {
            if Instant::now() > deadline {
                return;
            }
            rest();
        }
        // An answer, or none within the deadline, ends the wait: there is nobody left to tell.
        let _ = written.recv_timeout(FLUSH_DEADLINE);
    }
}

impl Write for &LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.messages.try_send(Message::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = &'a LineQueue;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Writes until nobody can log any more. A sink that fails loses its lines: there is no other place to say so.
fn write_lines(waiting: &Receiver<Message>, dropped: &AtomicU64, format: LogFormat, mut sink: impl Write) {
    let mut batch = Vec::new();
    while let Ok(first) = waiting.recv() {
        let mut flushed = Vec::new();
        for message in std::iter::once(first).chain(waiting.try_iter().take(CAPACITY)) {
            match message {
                Message::Line(line) => batch.extend_from_slice(&line),
                Message::Flush(done) => flushed.push(done),
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            batch.extend_from_slice(lost_line(format, lost).as_bytes());
        }
        let _ = sink.write_all(&batch);
        let _ = sink.flush();
        batch.clear();
        batch.shrink_to(BATCH_BYTES);
        for done in &flushed {
            let _ = done.send(());
        }
        if flushed.is_empty() {
            rest();
        }
    }
}

fn lost_line(format: LogFormat, lost: u64) -> String {
    match format {
        LogFormat::Human => {
            format!("WARN {lost} log lines were dropped, because they are not read fast enough\n")
        }
        LogFormat::Json => {
            format!(
                "{{\"level\":\"WARN\",\"message\":\"log lines were dropped\",\"log.lines_dropped\":{lost}}}\n"
            )
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the log thread, or the very end of the process")]
fn rest() {
    thread::sleep(REST);
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// A sink that lets each write through only when the test says so.
    struct Gated {
        gate: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // A dropped gate is open.
            let _ = self.gate.recv();
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LineQueue, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (open, gate) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Gated { gate, written: Arc::clone(&written) };
        (LineQueue::start(LogFormat::Human, sink).unwrap(), open, written)
    }

    #[test]
    fn lines_are_written_in_order() {
        let (queue, open, written) = gated();
        drop(open);
        for number in 0..100 {
            writeln!(&queue, "line {number}").unwrap();
        }
        queue.flush();
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let expected: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
        assert_eq!(written.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_stuck_sink_drops_and_counts_but_never_blocks() {
        let (queue, open, written) = gated();
        for _ in 0..3 * CAPACITY {
            (&queue).write_all(b"x\n").unwrap();
        }
        drop(open);
        // What was waiting goes out first; the count follows with the next line.
        queue.flush();
        (&queue).write_all(b"last\n").unwrap();
        queue.flush();
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lines = written.lines().filter(|line| *line == "x").count();
        let count = |line: &str| line.strip_prefix("WARN ")?.split(' ').next()?.parse::<usize>().ok();
        let dropped: usize = written.lines().filter_map(count).sum();
        assert!(dropped > 0);
        assert_eq!(lines + dropped, 3 * CAPACITY);
    }
}
