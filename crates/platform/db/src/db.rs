//! The pool, the transaction and the connection: each one enum over both drivers.

use sqlx::{PgConnection, PgPool, SqliteConnection, SqlitePool};

use crate::StoreError;

/// A pool of connections to one service's database.
#[derive(Clone, Debug)]
pub enum Db {
    /// A Postgres database, seen through the service's schema.
    Postgres(PgPool),
    /// A SQLite file of the service's own.
    Sqlite(SqlitePool),
}

/// Runs one body against whichever pool is configured; the body is compiled once for each driver.
#[macro_export]
macro_rules! on_db {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::Db::Postgres($pool) => $body,
            $crate::Db::Sqlite($pool) => $body,
        }
    };
}

/// Runs one body against the connection of a [`Tx`] (`&mut tx`) or a [`Conn`]; use `&mut *conn` for several
/// statements in one body.
#[macro_export]
macro_rules! on_tx {
    ($tx:expr, $conn:ident => $body:expr) => {
        match $crate::Conn::from($tx) {
            $crate::Conn::Postgres($conn) => $body,
            $crate::Conn::Sqlite($conn) => $body,
        }
    };
}

impl Db {
    /// Opens a transaction that may write. Dropping it without [`Tx::commit`] undoes it.
    pub async fn begin_write(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres(pool) => Tx::Postgres(pool.begin_write().await?),
            Self::Sqlite(pool) => Tx::Sqlite(pool.begin_write().await?),
        })
    }

    /// Opens a transaction that sees one state of the database, whatever others commit meanwhile.
    pub async fn begin_read(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres(pool) => {
                Tx::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
            // The first statement fixes the state (SQLite, "Isolation In SQLite").
            Self::Sqlite(pool) => Tx::Sqlite(pool.begin().await?),
        })
    }

    /// Asks the database whether it answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        on_db!(self, pool => sqlx::query("SELECT 1").execute(pool).await.map(drop)?);
        Ok(())
    }

    /// Closes every connection; for SQLite this also folds the write-ahead log into the file.
    pub async fn close(&self) {
        on_db!(self, pool => pool.close().await);
    }

    /// Returns the clause that lets several workers take different rows of one queue.
    ///
    /// SQLite has one writer at a time, so there is nothing to skip.
    #[must_use]
    pub const fn skip_locked(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "FOR UPDATE SKIP LOCKED",
            Self::Sqlite(_) => "",
        }
    }
}

/// Opens a transaction that may write.
pub trait BeginWrite {
    /// The driver's transaction.
    type Tx;

    /// Begins; SQLite takes the write lock at once, because upgrading a read lock later can fail.
    fn begin_write(&self) -> impl Future<Output = sqlx::Result<Self::Tx>> + Send;
}

impl BeginWrite for PgPool {
    type Tx = sqlx::Transaction<'static, sqlx::Postgres>;

    async fn begin_write(&self) -> sqlx::Result<Self::Tx> {
        self.begin().await
    }
}

impl BeginWrite for SqlitePool {
    type Tx = sqlx::Transaction<'static, sqlx::Sqlite>;

    async fn begin_write(&self) -> sqlx::Result<Self::Tx> {
        self.begin_with("BEGIN IMMEDIATE").await
    }
}

/// A transaction on either driver.
#[derive(Debug)]
pub enum Tx {
    /// On Postgres; one that writes is read committed, the default.
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    /// On SQLite; one that writes holds the write lock.
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
}

impl Tx {
    /// Makes everything done in it durable and visible.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(tx) => tx.commit().await?,
            Self::Sqlite(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// A borrowed connection of either driver: what functions that work inside a transaction take.
#[derive(Debug)]
pub enum Conn<'c> {
    /// A Postgres connection.
    Postgres(&'c mut PgConnection),
    /// A SQLite connection.
    Sqlite(&'c mut SqliteConnection),
}

impl Conn<'_> {
    /// Lends the connection for one more statement.
    pub fn reborrow(&mut self) -> Conn<'_> {
        match self {
            Self::Postgres(conn) => Conn::Postgres(conn),
            Self::Sqlite(conn) => Conn::Sqlite(conn),
        }
    }
}

impl<'c> From<&'c mut Tx> for Conn<'c> {
    fn from(tx: &'c mut Tx) -> Self {
        match tx {
            Tx::Postgres(tx) => Self::Postgres(tx),
            Tx::Sqlite(tx) => Self::Sqlite(tx),
        }
    }
}

impl<'c> From<&'c mut sqlx::Transaction<'static, sqlx::Postgres>> for Conn<'c> {
    fn from(tx: &'c mut sqlx::Transaction<'static, sqlx::Postgres>) -> Self {
        Self::Postgres(tx)
    }
}

impl<'c> From<&'c mut sqlx::Transaction<'static, sqlx::Sqlite>> for Conn<'c> {
    fn from(tx: &'c mut sqlx::Transaction<'static, sqlx::Sqlite>) -> Self {
        Self::Sqlite(tx)
    }
}

impl<'c> From<&'c mut PgConnection> for Conn<'c> {
    fn from(conn: &'c mut PgConnection) -> Self {
        Self::Postgres(conn)
    }
}

impl<'c> From<&'c mut SqliteConnection> for Conn<'c> {
    fn from(conn: &'c mut SqliteConnection) -> Self {
        Self::Sqlite(conn)
    }
}
