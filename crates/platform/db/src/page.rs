//! Keyset pages in the order (created, id), and the sealed token that names the next one.

use chrono::{DateTime, Utc};
use portico_sealing::HandleSealer;
use uuid::Uuid;

const KIND: &str = "page token";
/// Eight bytes of microseconds and sixteen of the id.
const LENGTH: usize = 24;

/// The last row of a page; the next page begins after it.
///
/// In SQL: `WHERE (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3`, with one row more than the page
/// has, to know whether there is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageToken {
    /// When the row was made, to the microsecond.
    pub created_at: DateTime<Utc>,
    /// The row's id.
    pub id: Uuid,
}

/// The token was not made by this list for this caller and these filters.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the page token is invalid here: take the one that the previous page of the same list returned")]
pub struct InvalidPageToken;

impl PageToken {
    /// Seals the token; `list` names method, caller and filters, so that it continues no other list.
    #[must_use]
    pub fn encode(&self, sealer: &HandleSealer, list: &str) -> String {
        let mut bytes = [0; LENGTH];
        let (micros, id) = bytes.split_at_mut(8);
        micros.copy_from_slice(&self.created_at.timestamp_micros().to_be_bytes());
        id.copy_from_slice(self.id.as_bytes());
        sealer.seal(KIND, list.as_bytes(), &bytes)
    }

    /// Opens a token; an empty one asks for the first page.
    pub fn decode(sealer: &HandleSealer, list: &str, token: &str) -> Result<Option<Self>, InvalidPageToken> {
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = sealer.open(KIND, list.as_bytes(), token).ok_or(InvalidPageToken)?;
        let (micros, id) = bytes.split_first_chunk().ok_or(InvalidPageToken)?;
        let created_at =
            DateTime::from_timestamp_micros(i64::from_be_bytes(*micros)).ok_or(InvalidPageToken)?;
        let id = Uuid::from_slice(id).map_err(|_| InvalidPageToken)?;
        Ok(Some(Self { created_at, id }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use portico_ids::SeededRng;
    use portico_sealing::KeyRing;

    use super::*;

    #[test]
    fn a_page_token_continues_its_own_list_only() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::generate_file(&dir.path().join("ring.json"), &SeededRng::new(1)).unwrap();
        let sealer = HandleSealer::new(&ring, Arc::new(SeededRng::new(2)));
        let created_at = DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
        let page = PageToken { created_at, id: Uuid::from_u128(7) };
        let token = page.encode(&sealer, "ListServers user:1");
        assert_eq!(PageToken::decode(&sealer, "ListServers user:1", &token), Ok(Some(page)));
        assert_eq!(PageToken::decode(&sealer, "ListServers user:2", &token), Err(InvalidPageToken));
        assert_eq!(PageToken::decode(&sealer, "ListServers user:1", "0"), Err(InvalidPageToken));
        assert_eq!(PageToken::decode(&sealer, "ListServers user:1", ""), Ok(None));
    }
}
