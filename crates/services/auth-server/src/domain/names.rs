//! Names that people choose: user names, names of roles and accounts, texts shown to others.

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidName {
    #[error("a user name is 1 to 128 of a-z 0-9 . _ @ + - and begins with a letter or digit")]
    Username,
    #[error("a name is 1 to 64 of a-z 0-9 - and begins with a letter or digit")]
    Slug,
    #[error("the text is longer than {0} characters")]
    TooLong(usize),
    #[error("an e-mail address has one @ with text on both sides and no spaces")]
    Email,
}

/// A user name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Username(String);

impl Username {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidName> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'@' | b'+' | b'-');
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !begins || text.len() > 128 || !text.bytes().all(allowed) {
            return Err(InvalidName::Username);
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads what a person typed: case and surrounding space do not matter.
    pub(crate) fn typed(text: &str) -> Result<Self, InvalidName> {
        Self::parse(&text.trim().to_ascii_lowercase())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks the name of a role or service account.
pub(crate) fn check_slug(text: &str) -> Result<(), InvalidName> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || text.len() > 64 || text.starts_with('-') || !text.bytes().all(allowed) {
        return Err(InvalidName::Slug);
    }
    Ok(())
}

/// Checks an e-mail address; empty means none. Only shape: nothing is ever decided by it (AS-41).
pub(crate) fn check_email(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Ok(());
    }
    let shaped = text
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    if !shaped || text.len() > 254 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(InvalidName::Email);
    }
    Ok(())
}

/// Makes a text safe to show beside others' words: control and direction-changing characters go, length is bounded.
pub(crate) fn displayable(text: &str, max: usize) -> String {
    let visible = |c: &char| !c.is_control() && !changes_direction(*c);
    text.chars().filter(visible).take(max).collect::<String>().trim().to_owned()
}

/// Checks the length of a description or display name and strips what [`displayable`] strips.
pub(crate) fn checked_text(text: &str, max: usize) -> Result<String, InvalidName> {
    if text.chars().count() > max {
        return Err(InvalidName::TooLong(max));
    }
    Ok(displayable(text, max))
}

/// Zero-width, bidirectional and tag characters (Unicode TR36 §2.10).
fn changes_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_have_one_spelling() {
        for good in ["a", "ada.lovelace+x@example.com", "0day", "a_b-c"] {
            assert_eq!(Username::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "Ada", "-a", ".a", "a b", "ä", "a/b", &"a".repeat(129)] {
            assert_eq!(Username::parse(bad), Err(InvalidName::Username), "{bad}");
        }
        assert_eq!(Username::typed("  Ada ").unwrap().as_str(), "ada");
    }

    #[test]
    fn slugs_and_addresses_are_checked() {
        assert!(check_slug("ci-runner").is_ok() && check_slug("CI").is_err() && check_slug("-a").is_err());
        assert!(check_email("").is_ok() && check_email("a@b").is_ok());
        for bad in ["a", "@b", "a@", "a@b@c", "a b@c"] {
            assert_eq!(check_email(bad), Err(InvalidName::Email), "{bad}");
        }
    }

    #[test]
    fn as_30_shown_texts_lose_control_and_bidi_characters() {
        assert_eq!(displayable("Go\u{202e}od\u{0} \u{200b}App\u{e0041}\n", 64), "Good App");
        assert_eq!(displayable(&"x".repeat(300), 64).len(), 64);
    }
}
