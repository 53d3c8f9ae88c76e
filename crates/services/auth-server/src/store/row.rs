//! Records and how they are read from a row.

use portico_db::Row;
use portico_oauth_types::ScopeSet;
use sqlx::types::Json;

/// Reads scopes. Those that are no longer known are dropped: a token never gets more than this release understands.
pub(crate) fn scopes(row: &Row<'_>, column: &str) -> sqlx::Result<ScopeSet> {
    let stored: Vec<String> = row.json(column)?;
    Ok(stored.iter().filter_map(|scope| scope.parse().ok()).collect())
}

/// Scopes as they are stored.
pub(crate) fn scopes_column(scopes: ScopeSet) -> Json<Vec<String>> {
    Json(scopes.iter().map(|scope| scope.to_string()).collect())
}

/// Defines a record and how it is read: `field: Type` for a plain column, `field: Type = how` for an id (`id`),
/// JSON (`json`), text that parses (`parse`) or a set of scopes (`scopes`).
macro_rules! record {
    ($(#[$meta:meta])* struct $record:ident { $($field:ident: $type:ty $(= $how:ident)?),+ $(,)? }) => {
        $(#[$meta])*
        pub(crate) struct $record { $(pub(crate) $field: $type),+ }

        impl portico_db::FromRow for $record {
            fn from_row(row: &portico_db::Row<'_>) -> sqlx::Result<Self> {
                Ok(Self { $($field: crate::store::row::record!(@read row, $field $(, $how)?)),+ })
            }
        }
    };
    (@read $row:ident, $field:ident) => { $row.get(stringify!($field))? };
    (@read $row:ident, $field:ident, scopes) => { crate::store::row::scopes($row, stringify!($field))? };
    (@read $row:ident, $field:ident, $how:ident) => { $row.$how(stringify!($field))? };
}
pub(crate) use record;
