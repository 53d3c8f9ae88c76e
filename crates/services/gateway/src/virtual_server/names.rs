use std::borrow::Cow;

use portico_ids::ServerId;

use crate::catalogue::Member;

/// Longest name that clients take everywhere.
const MAX_NAME: usize = 64;
/// What is kept of a longer one, before `_` and eight characters that tell it from others.
const KEPT: usize = 55;
/// Longest prefix.
const MAX_ALIAS: usize = 20;
/// What is kept of a longer one.
const KEPT_ALIAS: usize = 11;
const SEPARATOR: &str = "__";

/// What agents call a member's tool or prompt.
pub(super) fn exposed<'a>(member: &Member, prefixed: bool, name: &'a str) -> Cow<'a, str> {
    if !prefixed {
        return Cow::Borrowed(name);
    }
    let full = format!("{}{SEPARATOR}{name}", member.alias);
    if full.chars().count() <= MAX_NAME {
        return Cow::Owned(full);
    }
    Cow::Owned(format!("{}_{}", cut(&full, KEPT), digest(member.server, name)))
}

/// The member's own name, if `exposed` can be read back without its list.
pub(super) fn own<'a>(member: &Member, exposed: &'a str) -> Option<&'a str> {
    exposed.strip_prefix(member.alias.as_str())?.strip_prefix(SEPARATOR).filter(|own| !own.is_empty())
}

/// Whether a name may have been shortened; then only lists tell what it was.
pub(super) fn may_be_shortened(exposed: &str) -> bool {
    exposed.chars().count() == MAX_NAME && exposed.chars().nth(KEPT) == Some('_')
}

/// A server's prefix at `/mcp`: it depends on the server alone, so no name changes when another one comes.
pub(super) fn root_alias(name: &str, server: ServerId) -> String {
    if name.chars().count() <= MAX_ALIAS {
        return name.to_owned();
    }
    format!("{}_{}", cut(name, KEPT_ALIAS), digest(server, ""))
}

fn cut(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(at, _)| &text[..at])
}

/// Eight base32 characters (RFC 4648 §6, lower case) of SHA-256 over the server's id and the name.
fn digest(server: ServerId, name: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let text = format!("{server}{name}");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let bits = hash.as_ref().iter().take(5).fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
    (0..8).rev().map(|at| char::from(ALPHABET[((bits >> (at * 5)) & 31) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::testing::server_id;

    fn member(n: u8, alias: &str) -> Member {
        Member { server: server_id(n), alias: alias.to_owned(), tools: None, prompts: None, resources: None }
    }

    #[test]
    fn a_prefixed_name_is_read_back_and_a_plain_one_is_the_servers() {
        let one = member(1, "one");
        assert_eq!(exposed(&one, true, "echo"), "one__echo");
        assert_eq!(own(&one, "one__echo"), Some("echo"));
        assert_eq!(own(&one, "one__a__b"), Some("a__b"));
        assert_eq!((own(&one, "two__echo"), own(&one, "one__"), own(&one, "one_echo")), (None, None, None));
        assert!(matches!(exposed(&one, false, "echo"), Cow::Borrowed("echo")));
    }

    #[test]
    fn a_long_name_is_cut_to_64_and_stays_its_own() {
        let long = "x".repeat(80);
        let (one, two) = (member(1, "same"), member(2, "same"));
        let name = exposed(&one, true, &long);
        assert_eq!(name.chars().count(), MAX_NAME);
        assert_eq!(&name[..=KEPT], format!("same__{}_", "x".repeat(49)));
        assert!(name[KEPT + 1..].bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)));
        assert!(may_be_shortened(&name) && !may_be_shortened("same__x"));
        assert_ne!(name, exposed(&two, true, &long), "the server's id counts");
        assert_ne!(name, exposed(&one, true, &format!("{long}y")), "the whole name counts");
        assert_eq!(name, exposed(&one, true, &long));
        assert_eq!(exposed(&one, true, &"x".repeat(58)).len(), 64, "64 is not too long");
        assert_eq!(exposed(&one, true, &"é".repeat(80)).chars().count(), MAX_NAME);
    }

    #[test]
    fn a_prefix_at_the_root_depends_on_the_server_alone() {
        assert_eq!(root_alias("weather", server_id(1)), "weather");
        let long = "a-very-long-server-name";
        assert_eq!(root_alias(long, server_id(1)).len(), MAX_ALIAS);
        assert_ne!(root_alias(long, server_id(1)), root_alias(long, server_id(2)));
    }
}
