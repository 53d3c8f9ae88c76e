//! Reading rows of both drivers through one piece of code.

use std::{error::Error, str::FromStr};

use sqlx::{
    Decode, Postgres, Row as _, Sqlite, Type, postgres::PgRow, sqlite::SqliteRow, types::Json as SqlJson,
};
use uuid::Uuid;

/// A row of either driver.
#[derive(Clone, Copy)]
pub enum Row<'r> {
    /// From Postgres.
    Postgres(&'r PgRow),
    /// From SQLite.
    Sqlite(&'r SqliteRow),
}

impl std::fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the values: a row may hold what no log may show.
        f.write_str(match self {
            Self::Postgres(_) => "Row::Postgres(..)",
            Self::Sqlite(_) => "Row::Sqlite(..)",
        })
    }
}

/// A value that both drivers can decode and that does not borrow from the row.
pub trait Column:
    for<'r> Decode<'r, Postgres> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + Type<Sqlite>
{
}

impl<T> Column for T where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + Type<Sqlite>
{
}

impl Row<'_> {
    /// Reads a column; `Option<T>` for one that may be null.
    pub fn get<T: Column>(&self, column: &str) -> sqlx::Result<T> {
        match self {
            Self::Postgres(row) => row.try_get(column),
            Self::Sqlite(row) => row.try_get(column),
        }
    }

    /// Reads a uuid as one of the id newtypes.
    pub fn id<T: From<Uuid>>(&self, column: &str) -> sqlx::Result<T> {
        self.get::<Uuid>(column).map(T::from)
    }

    /// Reads JSON (`jsonb`, or `text` on SQLite).
    pub fn json<T>(&self, column: &str) -> sqlx::Result<T>
    where
        SqlJson<T>: Column,
    {
        self.get::<SqlJson<T>>(column).map(|json| json.0)
    }

    /// Reads text that a domain type parses.
    pub fn parse<T>(&self, column: &str) -> sqlx::Result<T>
    where
        T: FromStr,
        T::Err: Error + Send + Sync + 'static,
    {
        self.get::<String>(column)?.parse().map_err(|source| invalid(column, source))
    }

    /// Reads text that may be null and that a domain type parses.
    pub fn parse_opt<T>(&self, column: &str) -> sqlx::Result<Option<T>>
    where
        T: FromStr,
        T::Err: Error + Send + Sync + 'static,
    {
        let text: Option<String> = self.get(column)?;
        text.map(|text| text.parse().map_err(|source| invalid(column, source))).transpose()
    }

    /// Reads a value that has to satisfy a conversion, such as a count stored as `i64`.
    pub fn convert<S, T>(&self, column: &str) -> sqlx::Result<T>
    where
        S: Column,
        T: TryFrom<S>,
        T::Error: Error + Send + Sync + 'static,
    {
        T::try_from(self.get::<S>(column)?).map_err(|source| invalid(column, source))
    }

    fn first<T: Column>(&self) -> sqlx::Result<T> {
        match self {
            Self::Postgres(row) => row.try_get(0),
            Self::Sqlite(row) => row.try_get(0),
        }
    }
}

fn invalid(column: &str, source: impl Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(source) }
}

/// A type that a row of either driver holds.
pub trait FromRow: Sized {
    /// Reads every column by name.
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self>;
}

/// A driver's own row.
pub trait AnyRow {
    /// Borrows it as the enum over both drivers.
    fn as_row(&self) -> Row<'_>;
}

impl AnyRow for PgRow {
    fn as_row(&self) -> Row<'_> {
        Row::Postgres(self)
    }
}

impl AnyRow for SqliteRow {
    fn as_row(&self) -> Row<'_> {
        Row::Sqlite(self)
    }
}

/// Maps a fetched row: `sqlx::query(SQL).try_map(read).fetch_all(pool)`.
#[expect(clippy::needless_pass_by_value, reason = "`try_map` hands over the row")]
pub fn read<R: AnyRow, T: FromRow>(row: R) -> sqlx::Result<T> {
    T::from_row(&row.as_row())
}

/// Maps a fetched row to its only column: a count, a revision, an id.
#[expect(clippy::needless_pass_by_value, reason = "`try_map` hands over the row")]
pub fn scalar<R: AnyRow, T: Column>(row: R) -> sqlx::Result<T> {
    row.as_row().first()
}
