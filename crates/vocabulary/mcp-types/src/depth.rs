/// Deepest nesting of objects and arrays that a body may have.
pub const MAX_DEPTH: u32 = 64;

/// Whether `json` nests at most [`MAX_DEPTH`] deep; skips over strings, needs no valid JSON.
#[must_use]
pub fn within_depth(json: &[u8]) -> bool {
    let mut depth = 0_u32;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => match end_of_string(json, at + 1) {
                Some(end) => at = end,
                None => return true,
            },
            _ => {}
        }
        at += 1;
    }
    true
}

/// Index of the quote that closes the string whose content starts at `at`.
fn end_of_string(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let found = at + memchr::memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[found] == b'"' {
            return Some(found);
        }
        at = found + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_four_levels_pass_and_sixty_five_do_not() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(within_depth(nested(64).as_bytes()));
        assert!(!within_depth(nested(65).as_bytes()));
        assert!(!within_depth("{\"a\":".repeat(1_000_000).as_bytes()));
    }

    #[test]
    fn brackets_inside_strings_do_not_count() {
        let text = format!(r#"{{"a":"{}","b":"\\","c":"\"{}"}}"#, "[".repeat(100), "{".repeat(100));
        assert!(within_depth(text.as_bytes()));
        assert!(within_depth(br#""never closed"#));
        assert!(within_depth(br#""ends in a backslash\"#));
    }

    #[test]
    fn siblings_do_not_add_up() {
        assert!(within_depth("[],".repeat(1000).as_bytes()));
    }
}
