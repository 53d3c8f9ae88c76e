//! Lists, page by page.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry::Call;
use super::errors::RpcError;
use crate::app::App;

/// What a page holds unless the caller says otherwise.
const DEFAULT_SIZE: i32 = 50;
/// Most that a page holds.
const LARGEST_SIZE: i32 = 500;
/// The kind of the sealed tokens.
const TOKEN: &str = "auth.page";

/// What a caller asked for.
#[derive(Debug)]
pub(super) struct Asked<'a, P> {
    /// Method and filters: a token continues no other list.
    list: &'a str,
    size: usize,
    /// The last row of the page before.
    pub(super) after: Option<P>,
}

impl<'a, P: DeserializeOwned> Asked<'a, P> {
    /// Reads the size, and the token: it belongs to one caller, one list and one set of filters.
    pub(super) fn read(
        (app, call): (&App, &Call),
        list: &'a str,
        (page_size, page_token): (i32, &str),
    ) -> Result<Self, RpcError> {
        let size = match page_size {
            0 => DEFAULT_SIZE,
            size if size < 0 => return Err(RpcError::invalid("page_size", "is between 1 and 500")),
            size => size.min(LARGEST_SIZE),
        };
        let after = if page_token.is_empty() {
            None
        } else {
            let opened = app.handles.open(TOKEN, binding(call, list).as_bytes(), page_token);
            let position = opened.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            Some(position.ok_or(RpcError::PageToken)?)
        };
        Ok(Self { list, size: usize::try_from(size).unwrap_or(1), after })
    }
}

impl<P: Serialize> Asked<'_, P> {
    /// One row more than a page, to know whether another page follows.
    pub(super) fn limit(&self) -> i64 {
        i64::try_from(self.size + 1).unwrap_or(i64::MAX)
    }

    /// Cuts the rows to a page and makes the token of the next one; it is empty after the last.
    pub(super) fn page<T>(
        &self,
        (app, call): (&App, &Call),
        mut rows: Vec<T>,
        position: impl Fn(&T) -> P,
    ) -> (Vec<T>, String) {
        if rows.len() <= self.size {
            return (rows, String::new());
        }
        rows.truncate(self.size);
        let next = rows.last().map(|last| {
            // Positions are numbers, ids and times, which always serialise.
            let bytes = serde_json::to_vec(&position(last)).unwrap_or_default();
            app.handles.seal(TOKEN, binding(call, self.list).as_bytes(), &bytes)
        });
        (rows, next.unwrap_or_default())
    }
}

fn binding(call: &Call, list: &str) -> String {
    format!("{} {list}", call.actor.principal)
}
