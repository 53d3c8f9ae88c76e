//! Answering a server's question (MCP elicitation, form mode) from the terminal.

use std::io::{BufRead as _, IsTerminal as _};

use serde_json::{Map, Value, json};

use crate::output::Output;

/// Asks the person at the terminal; where nobody is there, declines.
pub(super) fn answer(parameters: &Value, output: Output) -> Value {
    let input = std::io::stdin();
    let message = parameters["message"].as_str().unwrap_or("the server asks for something");
    if !input.is_terminal() {
        output.note(&format!("the server asks: {message} (declined: standard input is no terminal)"));
        return json!({ "action": "decline" });
    }
    output.note(&format!("the server asks: {message}"));
    let mut content = Map::new();
    let schema = &parameters["requestedSchema"];
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        loop {
            output.note(&question(name, property));
            let mut line = String::new();
            if input.lock().read_line(&mut line).unwrap_or(0) == 0 {
                return json!({ "action": "cancel" });
            }
            let line = line.trim();
            if line.is_empty() {
                break;
            }
            match super::arguments::parse(&[format!("{name}={line}")], schema) {
                Ok(value) => {
                    content.extend(value);
                    break;
                }
                Err(error) => output.note(&error.to_string()),
            }
        }
    }
    json!({ "action": "accept", "content": content })
}

fn question(name: &str, property: &Value) -> String {
    let title = property["title"].as_str().unwrap_or(name);
    let kind = property["type"].as_str().unwrap_or("string");
    let choices: Vec<&str> =
        property["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let choices = if choices.is_empty() { String::new() } else { format!(": {}", choices.join(", ")) };
    format!("  {title} ({kind}{choices}; empty to leave out)")
}
