//! Reading a URI without the repairs that WHATWG parsers make.
//!
//! Two programs that repair differently see two hosts in one text. What a parser would have to repair is refused.

use url::Url;

/// Longest URI that is taken from a client.
pub(crate) const MAX_URI_BYTES: usize = 2048;

/// Why a text is not an absolute URI in its plain form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUri {
    /// It is longer than 2048 bytes.
    #[error("it is longer than 2048 bytes")]
    TooLong,
    /// It has a character that RFC 3986 §2 does not allow, or a percent sign without two hexadecimal digits.
    #[error("it has a character that RFC 3986 does not allow: percent-encode it")]
    Character,
    /// It has a fragment.
    #[error("it has a fragment: remove everything from the # on")]
    Fragment,
    /// It has a user name or a password.
    #[error("it has user information: remove everything before the @")]
    UserInfo,
    /// It has an asterisk.
    #[error("it has a wildcard: write the exact URI")]
    Wildcard,
    /// It has a path segment `.` or `..`, plain or percent-encoded.
    #[error("its path has a dot segment: write the path that it stands for")]
    DotSegment,
    /// Its host or port is absent or not in canonical form.
    #[error("its host or port is not in canonical form: write the plain host name and the port in digits")]
    Host,
    /// It is not an absolute URI.
    #[error("it is not an absolute URI: start with a scheme")]
    NotAbsolute,
}

/// A URI whose text and whose parsed form agree.
#[derive(Debug)]
pub(crate) struct StrictUri<'a> {
    /// The scheme as written.
    pub(crate) scheme: &'a str,
    /// Everything after the colon of the scheme.
    pub(crate) rest: &'a str,
}

/// The parts of a URI with an authority.
#[derive(Debug)]
pub(crate) struct Hierarchical<'a> {
    /// The host as written.
    pub(crate) host: &'a str,
    /// Everything after the authority: path and query.
    pub(crate) tail: &'a str,
    /// The same URI as WHATWG parsers see it.
    pub(crate) url: Url,
}

impl<'a> StrictUri<'a> {
    /// Checks everything that holds for URIs of any scheme.
    pub(crate) fn parse(text: &'a str) -> Result<Self, InvalidUri> {
        if text.len() > MAX_URI_BYTES {
            return Err(InvalidUri::TooLong);
        }
        if text.contains('#') {
            return Err(InvalidUri::Fragment);
        }
        if text.contains('*') {
            return Err(InvalidUri::Wildcard);
        }
        check_characters(text.as_bytes())?;
        let (scheme, rest) = text.split_once(':').ok_or(InvalidUri::NotAbsolute)?;
        let mut letters = scheme.bytes();
        let starts_well = letters.next().is_some_and(|b| b.is_ascii_alphabetic());
        if !starts_well || !letters.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
            return Err(InvalidUri::NotAbsolute);
        }
        let uri = Self { scheme, rest };
        if uri.authority().is_some_and(|authority| authority.contains('@')) {
            return Err(InvalidUri::UserInfo);
        }
        if uri.has_dot_segment() {
            return Err(InvalidUri::DotSegment);
        }
        Ok(uri)
    }

    /// Checks that a URI with an http scheme has a host, and that a parser sees the host that is written.
    pub(crate) fn hierarchical(&self, text: &str) -> Result<Hierarchical<'a>, InvalidUri> {
        let authority = self.authority().ok_or(InvalidUri::Host)?;
        let tail = &self.rest[2 + authority.len()..];
        let url = Url::parse(text).map_err(|_| InvalidUri::Host)?;
        let (host, port) = split_port(authority);
        let port_is_plain = port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
        let same_host = url.host_str().is_some_and(|parsed| parsed.eq_ignore_ascii_case(host));
        if !port_is_plain || !same_host || host.ends_with('.') {
            return Err(InvalidUri::Host);
        }
        Ok(Hierarchical { host, tail, url })
    }

    fn authority(&self) -> Option<&'a str> {
        let after = self.rest.strip_prefix("//")?;
        Some(after.split(['/', '?']).next().unwrap_or(after))
    }

    fn has_dot_segment(&self) -> bool {
        let path = self.rest.split('?').next().unwrap_or(self.rest);
        path.split('/')
            .any(|segment| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."))
    }
}

/// Splits `host:port`; the colons of an IPv6 address are inside brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let after_address = authority.rfind(']').map_or(0, |position| position + 1);
    match authority[after_address..].find(':') {
        Some(colon) => (&authority[..after_address + colon], Some(&authority[after_address + colon + 1..])),
        None => (authority, None),
    }
}

/// RFC 3986 §2: unreserved, reserved (without `#` and `*`, refused before) and percent-encoded octets.
fn check_characters(text: &[u8]) -> Result<(), InvalidUri> {
    for (position, byte) in text.iter().enumerate() {
        let allowed = match byte {
            b'%' => {
                text.get(position + 1..position + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
            }
            other => other.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()+,;=".contains(other),
        };
        if !allowed {
            return Err(InvalidUri::Character);
        }
    }
    Ok(())
}
