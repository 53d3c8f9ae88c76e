//! Log lines that cannot be forged (A23).

mod queue;

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

use tracing_subscriber::fmt::MakeWriter;

pub(crate) use queue::LineQueue;

/// Makes writers that escape every control character inside an event, whatever format wrote it.
#[derive(Debug, Clone)]
pub(crate) struct Escaping<M>(pub(crate) M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Escaping<M> {
    type Writer = EscapingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapingWriter(self.0.make_writer())
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        EscapingWriter(self.0.make_writer_for(meta))
    }
}

/// Writes one event: `tracing-subscriber` hands over each event whole, its line feed last.
#[derive(Debug)]
pub(crate) struct EscapingWriter<W>(W);

impl<W: Write> Write for EscapingWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (line, end) = match text.strip_suffix('\n') {
            Some(line) => (line, "\n"),
            None => (&*text, ""),
        };
        match escape(line) {
            // The common case goes out in one system call, so lines of two threads never mix.
            Cow::Borrowed(_) => self.0.write_all(text.as_bytes())?,
            Cow::Owned(escaped) => self.0.write_all((escaped + end).as_bytes())?,
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Replaces characters that could break a line or steer a terminal by escapes that JSON reads back as the same text.
fn escape(line: &str) -> Cow<'_, str> {
    if !line.chars().any(is_hostile) {
        return Cow::Borrowed(line);
    }
    let mut safe = String::with_capacity(line.len() + 16);
    for character in line.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            // Every hostile character is in the basic plane: four digits suffice. Writing to a String cannot fail.
            hostile if is_hostile(hostile) => {
                let _ = write!(safe, "\\u{:04x}", u32::from(hostile));
            }
            plain => safe.push(plain),
        }
    }
    Cow::Owned(safe)
}

/// Tells control characters (C0, DEL, C1), line separators and the characters that reorder text on a screen.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests;
