//! Bounds on what Cedar is asked to parse.
//!
//! Cedar's parser recurses without a guard, so a deeply nested text would end the process; its validator has a guard,
//! but lets pass what it had no stack to look at. So depth is bounded before, and both run on a stack that suffices.

use std::thread;

/// Longest text of a role's policies.
const MAX_BYTES: usize = 64 * 1024;
/// Deepest nesting of brackets.
const MAX_DEPTH: usize = 32;
/// Most operators in one policy: each can be one level of its syntax tree.
const MAX_OPERATORS: usize = 256;
/// Takes the deepest text within the bounds several times over, in a build without optimisation too.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Says why a text is too complex to be parsed.
pub(crate) fn too_complex(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return Some(format!("the policies are longer than {MAX_BYTES} bytes: use several roles"));
    }
    let (mut depth, mut operators) = (0_usize, 0_usize);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let length = match character {
            '"' => quoted(rest),
            '/' if rest.starts_with("//") => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            _ if is_word(character) => rest.find(|character| !is_word(character)).unwrap_or(rest.len()),
            _ => character.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            ";" => operators = 0,
            "if" | "." | "&" | "|" | "+" | "-" | "*" | "!" | "<" | ">" | "=" => operators += 1,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(format!("brackets are nested deeper than {MAX_DEPTH}: write several policies"));
        }
        if operators > MAX_OPERATORS {
            return Some(format!("a policy has more than {MAX_OPERATORS} operators: write several policies"));
        }
        rest = after;
    }
    None
}

/// Runs `work` on a stack of its own; nothing if the system gives no thread for it.
pub(crate) fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("policies".to_owned()).stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// Returns the length of the string literal that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_do_not_count() {
        let brackets = "(".repeat(1000);
        assert_eq!(too_complex(&format!("\"{brackets}\\\"{brackets}\" // {brackets}\n ok")), None);
        assert!(too_complex(&format!("\"\" {brackets}")).is_some());
        // A semicolon inside a string or a comment does not start a new policy.
        assert!(too_complex(&"true && \";\" && // ;\n".repeat(100)).is_some());
        assert_eq!(too_complex(&"true && true;".repeat(1000)), None);
    }
}
