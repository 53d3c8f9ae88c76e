//! What people and scripts read: the only place that prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is this module's job")]
#![expect(
    clippy::unused_self,
    reason = "who may print holds an Output, also where the form of the answer does not matter"
)]

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
        println!("{text}");
    }

    /// Prints a sentence for people; scripts do not see it.
    pub(crate) fn say(self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    /// Prints progress beside the answer, on standard error.
    pub(crate) fn note(self, text: &str) {
        eprintln!("{text}");
    }

    /// Prints one value: as JSON, or as the sentence that `human` makes of it.
    pub(crate) fn value<T: Serialize>(self, value: &T, human: impl FnOnce() -> String) {
        if self.json {
            self.document(value);
        } else {
            println!("{}", human());
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
            eprintln!("{}", serde_json::json!({ "error": failure }));
        } else {
            eprintln!("error: {}", failure.message);
            for cause in &failure.causes {
                eprintln!("  because: {cause}");
            }
            if let Some(hint) = &failure.hint {
                eprintln!("  try: {hint}");
            }
        }
    }

    fn document<T: Serialize + ?Sized>(self, value: &T) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("error: the answer cannot be written as JSON: {error}"),
        }
    }

    fn table_line<const N: usize>(self, cells: &[String; N], widths: &[usize; N]) {
        let line: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{}{}", printable(cell), pad(cell, *width)))
            .collect();
        println!("{}", line.join("  ").trim_end());
    }
}

fn pad(cell: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(cell.chars().count()))
}

/// Replaces control characters, so that text from a server cannot drive the reader's terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}
