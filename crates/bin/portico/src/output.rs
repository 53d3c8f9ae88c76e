//! What people and scripts read: the only place that prints.
#![expect(
    clippy::unused_self,
    reason = "who may print holds an Output, also where the form of the answer does not matter"
)]

use std::io::{ErrorKind, Write as _, stderr, stdout};

use serde::Serialize;

use crate::failure;

/// Widest cell that others are aligned to: one endless name must not push everything else off the screen.
const WIDEST: usize = 80;

/// Where answers go: tables and sentences for people, one JSON document for scripts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// Tells whether the answer has to be JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints a line that is the answer itself, in both forms.
    pub(crate) fn line(self, text: &str) {
        if self.json {
            answer(&escaped(text));
        } else {
            answer(&printable(text));
        }
    }

    /// Prints a sentence for people; scripts do not see it.
    pub(crate) fn say(self, text: &str) {
        if !self.json {
            answer(&printable(text));
        }
    }

    /// Prints progress beside the answer, on standard error.
    pub(crate) fn note(self, text: &str) {
        note(text);
    }

    /// Prints one value: as JSON, or as the sentence that `human` makes of it.
    pub(crate) fn value<T: Serialize>(self, value: &T, human: impl FnOnce() -> String) {
        if self.json {
            self.document(value);
        } else {
            answer(&printable(&human()));
        }
    }

    /// Prints rows: as a JSON array, or as a table with aligned columns.
    pub(crate) fn rows<T: Serialize, const N: usize>(
        self,
        items: &[T],
        headings: [&str; N],
        row: impl Fn(&T) -> [String; N],
    ) {
        if self.json {
            self.document(&items);
            return;
        }
        let rows: Vec<[String; N]> =
            items.iter().map(|item| row(item).map(|cell| in_one_line(&cell))).collect();
        let widths: [usize; N] = std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.filter(|width| *width <= WIDEST).chain([headings[column].len()]).max().unwrap_or(0)
        });
        self.table_line(&headings.map(ToOwned::to_owned), &widths);
        for row in &rows {
            self.table_line(row, &widths);
        }
    }

    /// Prints why the command failed and what to do about it, on standard error.
    pub(crate) fn failure(self, error: &anyhow::Error) {
        let failure = failure::describe(error);
        if self.json {
            note(&escaped(&serde_json::json!({ "error": failure }).to_string()));
            return;
        }
        note(&format!("error: {}", failure.message));
        for cause in &failure.causes {
            note(&format!("  because: {cause}"));
        }
        if let Some(hint) = &failure.hint {
            note(&format!("  try: {hint}"));
        }
    }

    fn document<T: Serialize + ?Sized>(self, value: &T) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => answer(&escaped(&text)),
            Err(error) => note(&format!("error: the answer cannot be written as JSON: {error}")),
        }
    }

    fn table_line<const N: usize>(self, cells: &[String; N], widths: &[usize; N]) {
        let line: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell}{}", pad(cell, *width))).collect();
        answer(line.join("  ").trim_end());
    }
}

/// Writes a line of the answer. A reader who has closed the pipe (`portico … | head`) has what it wanted: nothing is left to do.
fn answer(line: &str) {
    if let Err(error) = writeln!(stdout(), "{line}") {
        std::process::exit(i32::from(error.kind() != ErrorKind::BrokenPipe));
    }
}

/// Writes a line beside the answer; nobody is left to tell if it cannot be written.
fn note(line: &str) {
    let _ = writeln!(stderr(), "{}", printable(line));
}

fn pad(cell: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(cell.chars().count()))
}

/// Replaces what could drive the reader's terminal or show something else than what is there: everything that is printed
/// may hold text of a server.
fn printable(text: &str) -> String {
    text.chars().map(|c| if deceives(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The same for text that has to stay in its line, or it could add lines of its own.
pub(crate) fn in_one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// JSON that says the same in characters that are safe to print: what deceives can only be within a string.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if deceives(c) {
            text.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
    }
    text
}

/// Controls of terminals, marks that turn the direction of text around, and what takes no room and is no part of a word.
const fn deceives(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}')
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_can_neither_drive_the_terminal_nor_turn_it_around() {
        assert_eq!(printable("a\u{1b}[31mb\u{9b}c\u{202e}d\r"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}d\u{fffd}");
        assert_eq!(printable("two\nlines\tand ünïcödé 時 👩‍💻"), "two\nlines\tand ünïcödé 時 👩‍💻");
        assert_eq!(in_one_line("x\n2026-01-01 forged"), "x 2026-01-01 forged");
    }

    #[test]
    fn json_stays_what_it_is_in_characters_that_are_safe_to_print() {
        let value = serde_json::json!({ "name": "\u{202e}a\u{9b}\u{e0001}\u{1b}", "ü": ["\n"] });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let safe = escaped(&text);
            assert!(!safe.chars().any(deceives), "{safe}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        }
    }
}
