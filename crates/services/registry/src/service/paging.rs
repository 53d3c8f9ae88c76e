//! Lists that show a caller only what it may see, page by page.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Service;
use super::access::Actor;
use crate::errors::RegistryError;

/// What a page holds unless the caller says otherwise.
const DEFAULT_SIZE: i32 = 50;
/// Most that a page holds.
const LARGEST_SIZE: i32 = 500;
/// How many rows one call reads for each that it may answer; a page may come up short, and its token says where to go on.
const READ_FOR_ONE: usize = 10;
/// Most rows that are read at once: some have a quarter of a megabyte.
const BATCH: usize = 50;
/// Bytes after which a page ends. With the row that crosses it, a page fits the 4 MiB that gRPC clients take at most.
const PAGE_BYTES: usize = 1024 * 1024;
/// The kind of the sealed tokens.
const TOKEN: &str = "registry.page";

/// What a caller asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) page_size: i32,
    pub(crate) page_token: String,
}

impl Asked {
    pub(crate) fn size(&self) -> Result<usize, RegistryError> {
        let size = match self.page_size {
            0 => DEFAULT_SIZE,
            size if size < 0 => return Err(RegistryError::invalid("page_size", "is between 1 and 500")),
            size => size.min(LARGEST_SIZE),
        };
        Ok(usize::try_from(size).unwrap_or(1))
    }
}

/// A page and the token of the next one; empty after the last.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: String,
}

/// What a row takes in an answer, about.
pub(crate) trait Weight {
    fn weight(&self) -> usize;
}

/// Collects visible rows, batch by batch, until the page is full or the list ends.
pub(crate) struct Scan<T, P> {
    size: usize,
    items: Vec<T>,
    bytes: usize,
    after: Option<P>,
    read: usize,
    ended: bool,
}

impl<T: Weight, P: Clone> Scan<T, P> {
    pub(crate) const fn new(size: usize, after: Option<P>) -> Self {
        Self { size, items: Vec::new(), bytes: 0, after, read: 0, ended: false }
    }

    /// How many rows to read next: one more than a page where that is not too many, to know whether another page follows.
    pub(crate) fn batch(&self) -> i64 {
        i64::try_from(self.rows()).unwrap_or(i64::MAX)
    }

    fn rows(&self) -> usize {
        (self.size + 1).min(BATCH)
    }

    pub(crate) fn after(&self) -> Option<P> {
        self.after.clone()
    }

    /// Takes a batch; true when no further one is needed.
    pub(crate) fn take(
        &mut self,
        rows: Vec<T>,
        position: impl Fn(&T) -> P,
        visible: impl Fn(&T) -> bool,
    ) -> bool {
        let full_batch = rows.len() >= self.rows();
        self.read += rows.len();
        for row in rows {
            let here = position(&row);
            if !visible(&row) {
                self.after = Some(here);
                continue;
            }
            if self.items.len() == self.size || self.bytes >= PAGE_BYTES {
                return true;
            }
            self.after = Some(here);
            self.bytes += row.weight();
            self.items.push(row);
        }
        self.ended = !full_batch;
        self.ended || self.read >= READ_FOR_ONE * (self.size + 1)
    }

    /// The items, and where the next page begins if there may be one.
    pub(crate) fn finish(self) -> (Vec<T>, Option<P>) {
        let next = if self.ended { None } else { self.after };
        (self.items, next)
    }
}

impl Service {
    /// Opens a page token. It belongs to one caller, one list and one set of filters.
    pub(crate) fn open_token<P: DeserializeOwned>(
        &self,
        actor: &Actor,
        list: &str,
        asked: &Asked,
    ) -> Result<Option<P>, RegistryError> {
        if asked.page_token.is_empty() {
            return Ok(None);
        }
        let opened = self.handles.open(TOKEN, binding(actor, list).as_bytes(), &asked.page_token);
        let position = opened.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        position.map(Some).ok_or(RegistryError::PageToken)
    }

    pub(crate) fn page<T, P: Serialize>(
        &self,
        actor: &Actor,
        list: &str,
        (items, next): (Vec<T>, Option<P>),
    ) -> Page<T> {
        let seal = |position| {
            let bytes = serde_json::to_vec(&position).unwrap_or_default();
            self.handles.seal(TOKEN, binding(actor, list).as_bytes(), &bytes)
        };
        Page { items, next: next.map(seal).unwrap_or_default() }
    }
}

fn binding(actor: &Actor, list: &str) -> String {
    format!("{} {list}", actor.id())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weight for u64 {
        fn weight(&self) -> usize {
            usize::try_from(*self).unwrap()
        }
    }

    /// Walks a list of numbers of which only multiples of `shown` are visible.
    fn walk(numbers: std::ops::Range<u64>, shown: u64, size: usize) -> Vec<Vec<u64>> {
        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let mut scan = Scan::new(size, after);
            loop {
                let from = scan.after().map_or(numbers.start, |last| last + 1);
                let rows = (from..numbers.end).take(usize::try_from(scan.batch()).unwrap()).collect();
                if scan.take(rows, |n| *n, |n| n.is_multiple_of(shown)) {
                    break;
                }
            }
            let (items, next) = scan.finish();
            pages.push(items);
            if next.is_none() {
                return pages;
            }
            after = next;
        }
    }

    #[test]
    fn pages_are_full_and_the_last_one_has_no_successor() {
        assert_eq!(walk(0..4, 1, 2), [[0, 1], [2, 3]]);
        assert_eq!(walk(0..5, 1, 2), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(walk(0..0, 1, 2), [Vec::<u64>::new()]);
    }

    #[test]
    fn a_long_page_is_read_in_batches() {
        let pages = walk(0..120, 1, 110);
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [110, 10]);
        assert_eq!(pages.concat(), (0..120).collect::<Vec<_>>());
    }

    #[test]
    fn a_page_of_large_rows_ends_before_a_client_could_not_take_it() {
        let heavy = 300 * 1024;
        let pages = walk(heavy..heavy + 10, 1, 500);
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        let larger = 3 * 1024 * 1024;
        assert_eq!(walk(larger..larger + 2, 1, 500), [[larger], [larger + 1]], "one row is always told");
    }

    #[test]
    fn what_a_caller_may_not_see_takes_no_room() {
        assert_eq!(walk(0..20, 5, 2), [[0, 5], [10, 15]]);
    }

    #[test]
    fn a_long_invisible_stretch_ends_a_page_early_but_loses_nothing() {
        let pages = walk(0..1000, 300, 2);
        assert!(pages.iter().any(Vec::is_empty));
        assert_eq!(pages.concat(), [0, 300, 600, 900]);
    }
}
