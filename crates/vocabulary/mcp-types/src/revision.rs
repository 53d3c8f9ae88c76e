use std::fmt;
use std::str::FromStr;

/// A final revision of MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// HTTP with SSE.
    V2024_11_05,
    /// Streamable HTTP, batches.
    V2025_03_26,
    /// No batches, `MCP-Protocol-Version`.
    V2025_06_18,
    /// Priming events, URL elicitation.
    V2025_11_25,
    /// Stateless: no initialize, no session.
    V2026_07_28,
}

/// A text that names no final revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this protocol version is not known; versions are dates such as 2025-11-25")]
pub struct UnknownRevision;

impl Revision {
    /// All revisions, oldest first.
    pub const ALL: [Self; 5] =
        [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];
    /// The newest revision that opens sessions.
    pub const NEWEST_SESSION: Self = Self::V2025_11_25;
    /// The newest stateless revision.
    pub const NEWEST: Self = Self::V2026_07_28;

    /// The date that names it on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Whether each request stands for itself (2026-07-28 and later).
    #[must_use]
    pub fn is_stateless(self) -> bool {
        self >= Self::V2026_07_28
    }

    /// Reads the name of a revision.
    pub fn parse(text: &str) -> Result<Self, UnknownRevision> {
        Self::ALL.into_iter().find(|revision| revision.as_str() == text).ok_or(UnknownRevision)
    }

    /// Whether `text` has the form of a revision of the stateless era, known or not.
    #[must_use]
    pub fn names_stateless_era(text: &str) -> bool {
        let bytes = text.as_bytes();
        let dated = bytes.len() == 10
            && bytes
                .iter()
                .enumerate()
                .all(|(at, b)| if at == 4 || at == 7 { *b == b'-' } else { b.is_ascii_digit() });
        dated && text >= Self::V2026_07_28.as_str()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Revision {
    type Err = UnknownRevision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_round_trip_and_are_ordered() {
        for revision in Revision::ALL {
            assert_eq!(Revision::parse(revision.as_str()), Ok(revision));
        }
        assert!(Revision::V2025_11_25 < Revision::V2026_07_28);
        assert!(Revision::parse("2025-11-26").is_err());
        assert_eq!(Revision::ALL.into_iter().filter(|r| r.is_stateless()).count(), 1);
    }

    #[test]
    fn an_unknown_later_date_belongs_to_the_stateless_era() {
        assert!(Revision::names_stateless_era("2027-01-01"));
        assert!(Revision::names_stateless_era("2026-07-28"));
        for text in ["2026-07-27", "2027-1-01", "draft", "9999999999", ""] {
            assert!(!Revision::names_stateless_era(text), "{text}");
        }
    }
}
