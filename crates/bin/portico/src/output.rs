//! What people and scripts read: the only place that prints.
#![expect(
    clippy::unused_self,
    reason = "who may print holds an Output, also where the form of the answer does not matter"
)]

use std::io::{ErrorKind, Write as _, stderr, stdout};

use serde::Serialize;

use crate::failure;

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
        answer(text);
    }

    /// Prints a sentence for people; scripts do not see it.
    pub(crate) fn say(self, text: &str) {
        if !self.json {
            answer(text);
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
            answer(&human());
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
        let rows: Vec<[String; N]> = items.iter().map(row).collect();
        let widths: [usize; N] = std::array::from_fn(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([headings[column].len()]).max().unwrap_or(0)
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
            note(&serde_json::json!({ "error": failure }).to_string());
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
            Ok(text) => answer(&text),
            Err(error) => note(&format!("error: the answer cannot be written as JSON: {error}")),
        }
    }

    fn table_line<const N: usize>(self, cells: &[String; N], widths: &[usize; N]) {
        let line: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{}{}", printable(cell), pad(cell, *width)))
            .collect();
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
    let _ = writeln!(stderr(), "{line}");
}

fn pad(cell: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(cell.chars().count()))
}

/// Replaces control characters, so that text from a server cannot drive the reader's terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}
