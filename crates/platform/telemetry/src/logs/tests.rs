use std::sync::{Arc, Mutex};

use tracing_subscriber::layer::SubscriberExt as _;

use crate::{LogFormat, init::lines};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, hostile: &str) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let layer = lines(format, move || writer.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info!(tool.name = hostile, debugged = ?hostile, error = %hostile, "called {hostile}");
    });
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

const HOSTILE: &str = "x\r\n2026-01-01 INFO forged\u{1b}[2J\u{9b}31m\u{7f}\0\t\u{2028}\u{202e}\u{85}end";

#[test]
fn a23_no_input_can_break_a_human_line_or_steer_a_terminal() {
    let line = logged(LogFormat::Human, HOSTILE);
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
    assert!(line.ends_with('\n'));
    assert!(!line.trim_end_matches('\n').chars().any(super::is_hostile), "{line:?}");
}

#[test]
fn a23_a_json_line_stays_one_object_and_reads_back_as_the_same_text() {
    let line = logged(LogFormat::Json, HOSTILE);
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
    assert!(!line.trim_end_matches('\n').chars().any(super::is_hostile), "{line:?}");
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["tool.name"], HOSTILE);
    assert_eq!(object["message"], format!("called {HOSTILE}"));
}

#[test]
fn plain_text_of_every_script_is_left_alone() {
    let line = logged(LogFormat::Human, "žluťoučký 猫 🦀");
    assert!(line.contains("called žluťoučký 猫 🦀"), "{line}");
}
