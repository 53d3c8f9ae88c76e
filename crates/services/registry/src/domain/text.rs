//! Free text with a bound: what every string that a caller sends goes through.

use crate::errors::RegistryError;

/// Longest description, in bytes.
pub(crate) const DESCRIPTION: usize = 4096;
/// Longest one-line text: versions, image addresses, titles.
pub(crate) const LINE: usize = 512;

/// Accepts text of at most `limit` bytes without control characters other than line breaks and tabs.
///
/// PostgreSQL cannot store U+0000, and terminals act on the others, so no control character gets in.
pub(crate) fn bounded(field: &str, value: String, limit: usize) -> Result<String, RegistryError> {
    if value.len() > limit {
        return Err(RegistryError::invalid(
            field,
            format!("is {} bytes long; at most {limit} are allowed", value.len()),
        ));
    }
    if value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Err(RegistryError::invalid(field, "holds a control character; remove it"));
    }
    Ok(value)
}

/// Cuts text that a server reported to `limit` bytes at a character boundary and drops control characters.
pub(crate) fn clipped(value: &str, limit: usize) -> String {
    let mut kept = String::with_capacity(value.len().min(limit));
    for c in value.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')) {
        if kept.len() + c.len_utf8() > limit {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_over_the_limit_or_with_control_characters_is_refused() {
        assert_eq!(bounded("d", "two\nlines".to_owned(), 20).unwrap(), "two\nlines");
        assert!(bounded("d", "long".to_owned(), 3).is_err());
        for bad in ["nul\0", "esc\u{1b}[31m"] {
            assert!(bounded("d", bad.to_owned(), 20).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reported_text_is_cut_at_a_character_boundary() {
        assert_eq!(clipped("aé\0b", 2), "a");
        assert_eq!(clipped("aé\0b", 4), "aéb");
    }
}
