//! Opening a database.

use std::{path::Path, str::FromStr, time::Duration};

use portico_settings::Secret;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{Db, Schema};

/// Where a service's database is and how it is used.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DbSettings {
    /// `postgres://user:password@host:5432/database` (15 or newer; `?sslmode=verify-full&sslrootcert=/ca.pem`
    /// for TLS), or `sqlite:///path/to/file.db`; inline or `{ file = "/path" }`.
    pub url: Option<Secret>,
    /// Most connections of this process; SQLite writes over one at a time whatever this says.
    pub max_connections: u32,
    /// Seconds that a request waits for a free connection.
    pub acquire_timeout_seconds: u64,
    /// Seconds after which Postgres gives up on a statement.
    pub statement_timeout_seconds: u64,
}

impl Default for DbSettings {
    fn default() -> Self {
        Self { url: None, max_connections: 10, acquire_timeout_seconds: 5, statement_timeout_seconds: 15 }
    }
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The settings name no database.
    #[error("no database is configured: set `url` to postgres://… or sqlite://… (inline or from a file)")]
    NoUrl,
    /// The secret that holds the URL cannot be read.
    #[error("the database URL cannot be read")]
    Secret(#[source] portico_settings::SettingsError),
    /// The URL is of no database that is supported; it is not repeated because it may hold a password.
    #[error("the database URL starts with neither postgres:// nor sqlite://")]
    Scheme,
    /// The URL does not parse; it is not repeated because it may hold a password.
    #[error("the database URL is malformed: expected postgres://user:password@host:5432/database")]
    Malformed,
    /// The SQLite file cannot be made.
    #[error("cannot make the database file {path}: check that its directory exists and can be written")]
    File {
        /// The file.
        path: String,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// The server refuses this user, password or database: waiting does not help.
    #[error("the database refuses the connection: check user, password and database name in its URL")]
    Refused(#[source] sqlx::Error),
    /// No agreement on TLS, or a certificate that is not trusted: waiting does not help.
    #[error(
        "the database and this program do not agree on TLS: check sslmode and sslrootcert in its URL, and that its \
         certificate is valid for the host in it"
    )]
    Tls(#[source] sqlx::Error),
    /// The database does not answer now.
    #[error("the database cannot be reached")]
    Unreachable(#[source] sqlx::Error),
}

impl OpenError {
    /// Tells whether trying again can help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

impl Db {
    /// Opens the database that the settings name; on Postgres every statement sees the schema of that name.
    pub async fn open(settings: &DbSettings, schema: &Schema) -> Result<Self, OpenError> {
        let url = settings.url.as_ref().ok_or(OpenError::NoUrl)?.load().map_err(OpenError::Secret)?;
        Self::connect(&url, settings, schema).await
    }

    /// Opens the database of a URL that does not come from the settings, with their limits.
    pub async fn connect(
        url: &SecretString,
        settings: &DbSettings,
        schema: &Schema,
    ) -> Result<Self, OpenError> {
        let url = url.expose_secret().trim();
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Self::sqlite_with(Path::new(path), settings).await;
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Self::postgres(url, settings, schema.name).await;
        }
        Err(OpenError::Scheme)
    }

    /// Opens (and makes, readable by its owner only) a SQLite file with the default limits.
    pub async fn sqlite_file(path: &Path) -> Result<Self, OpenError> {
        Self::sqlite_with(path, &DbSettings::default()).await
    }

    async fn sqlite_with(path: &Path, settings: &DbSettings) -> Result<Self, OpenError> {
        make_private(path).map_err(|source| OpenError::File { path: path.display().to_string(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // With a write-ahead log NORMAL keeps the database consistent after a power cut, FULL also keeps
            // the last commits: an acknowledged revocation has to survive.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true)
            .disable_statement_logging();
        SqlitePoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(Duration::from_secs(settings.acquire_timeout_seconds))
            .connect_with(options)
            .await
            .map(Self::Sqlite)
            .map_err(OpenError::Unreachable)
    }

    async fn postgres(url: &str, settings: &DbSettings, schema: &str) -> Result<Self, OpenError> {
        let statement_timeout = format!("{}s", settings.statement_timeout_seconds);
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| OpenError::Malformed)?
            .application_name(&format!("portico-{schema}"))
            .options([
                ("search_path", schema),
                ("statement_timeout", statement_timeout.as_str()),
                ("lock_timeout", "5s"),
                ("idle_in_transaction_session_timeout", "30s"),
                ("timezone", "UTC"),
            ])
            .disable_statement_logging();
        PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(Duration::from_secs(settings.acquire_timeout_seconds))
            .connect_with(options)
            .await
            .map(Self::Postgres)
            .map_err(refused_or_unreachable)
    }
}

/// Makes the file readable by its owner only; SQLite gives its log files the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(())
}

/// Class 28 is invalid authorization, 3D000 an unknown database (PostgreSQL Appendix A).
fn refused_or_unreachable(error: sqlx::Error) -> OpenError {
    // A certificate that is not trusted shows as data that makes no sense.
    let handshake = match &error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(source) => source.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    };
    if handshake {
        return OpenError::Tls(error);
    }
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        Some(code) if code.starts_with("28") || code == "3D000" => OpenError::Refused(error),
        _ => OpenError::Unreachable(error),
    }
}

#[cfg(test)]
mod tests;
