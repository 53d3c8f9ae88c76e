//! Values in the form that both databases are read to and written from: the four that SQLite has.

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::query_builder::Separated;
use sqlx::sqlite::SqliteRow;
use sqlx::{Postgres, Row as _, Sqlite};
use uuid::Uuid;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Text,
    Bytes,
    Boolean,
    Uuid,
    Time,
    Json,
}

/// A value of a row, as a backup has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Null,
    /// Also what is true or false.
    Integer(i64),
    /// Also times (RFC 3339) and JSON.
    Text(String),
    /// Also uuids.
    Bytes {
        #[serde(rename = "b", with = "base64_text")]
        bytes: Vec<u8>,
    },
}

mod base64_text {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

impl Value {
    /// Answers about how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Integer(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes { bytes } => bytes.len(),
        }
    }
}

impl Kind {
    /// Reads the type of a SQLite column; every table is STRICT.
    pub(crate) fn of_sqlite(declared: &str) -> Option<Self> {
        Some(match declared.to_ascii_lowercase().as_str() {
            "integer" | "int" => Self::Integer,
            "text" => Self::Text,
            "blob" => Self::Bytes,
            _ => return None,
        })
    }

    /// Reads `information_schema.columns.data_type`.
    pub(crate) fn of_postgres(data_type: &str) -> Option<Self> {
        Some(match data_type {
            "smallint" | "integer" | "bigint" => Self::Integer,
            "text" => Self::Text,
            "bytea" => Self::Bytes,
            "boolean" => Self::Boolean,
            "uuid" => Self::Uuid,
            "timestamp with time zone" => Self::Time,
            "jsonb" => Self::Json,
            _ => return None,
        })
    }

    /// What a Postgres column is selected as.
    pub(crate) const fn cast(self) -> &'static str {
        match self {
            Self::Integer => "::bigint",
            Self::Json => "::text",
            _ => "",
        }
    }

    pub(crate) fn read_sqlite(self, row: &SqliteRow, index: usize) -> sqlx::Result<Value> {
        Ok(match self {
            Self::Integer => row.try_get::<Option<i64>, _>(index)?.map(Value::Integer),
            Self::Text => row.try_get::<Option<String>, _>(index)?.map(Value::Text),
            _ => row.try_get::<Option<Vec<u8>>, _>(index)?.map(|bytes| Value::Bytes { bytes }),
        }
        .unwrap_or(Value::Null))
    }

    pub(crate) fn read_postgres(self, row: &PgRow, index: usize) -> sqlx::Result<Value> {
        let bytes = |bytes: Vec<u8>| Value::Bytes { bytes };
        Ok(match self {
            Self::Integer => row.try_get::<Option<i64>, _>(index)?.map(Value::Integer),
            Self::Text | Self::Json => row.try_get::<Option<String>, _>(index)?.map(Value::Text),
            Self::Bytes => row.try_get::<Option<Vec<u8>>, _>(index)?.map(bytes),
            Self::Boolean => row.try_get::<Option<bool>, _>(index)?.map(|yes| Value::Integer(yes.into())),
            Self::Uuid => row.try_get::<Option<Uuid>, _>(index)?.map(|id| bytes(id.as_bytes().to_vec())),
            Self::Time => row.try_get::<Option<DateTime<Utc>>, _>(index)?.map(time),
        }
        .unwrap_or(Value::Null))
    }

    pub(crate) fn push_sqlite(self, list: &mut Separated<'_, Sqlite, &str>, value: &Value) -> Result<()> {
        match (self, value) {
            (_, Value::Null) => list.push_bind(None::<i64>),
            (Self::Integer, Value::Integer(number)) => list.push_bind(*number),
            (Self::Text, Value::Text(text)) => list.push_bind(text.clone()),
            (Self::Bytes, Value::Bytes { bytes }) => list.push_bind(bytes.clone()),
            _ => bail!("a value is not of its column's type"),
        };
        Ok(())
    }

    pub(crate) fn push_postgres(self, list: &mut Separated<'_, Postgres, &str>, value: &Value) -> Result<()> {
        match (self, value) {
            (Self::Integer, Value::Null) => list.push_bind(None::<i64>),
            (Self::Integer, Value::Integer(number)) => list.push_bind(*number),
            (Self::Text, Value::Null) => list.push_bind(None::<String>),
            (Self::Text, Value::Text(text)) => list.push_bind(text.clone()),
            (Self::Bytes, Value::Null) => list.push_bind(None::<Vec<u8>>),
            (Self::Bytes, Value::Bytes { bytes }) => list.push_bind(bytes.clone()),
            (Self::Boolean, Value::Null) => list.push_bind(None::<bool>),
            (Self::Boolean, Value::Integer(number)) => list.push_bind(*number != 0),
            (Self::Uuid, Value::Null) => list.push_bind(None::<Uuid>),
            (Self::Uuid, Value::Bytes { bytes }) => list.push_bind(Uuid::from_slice(bytes)?),
            (Self::Time, Value::Null) => list.push_bind(None::<DateTime<Utc>>),
            (Self::Time, Value::Text(text)) => list.push_bind(moment(text)?),
            (Self::Json, Value::Null) => list.push_bind(None::<String>).push_unseparated("::jsonb"),
            (Self::Json, Value::Text(text)) => list.push_bind(text.clone()).push_unseparated("::jsonb"),
            _ => bail!("a value is not of its column's type"),
        };
        Ok(())
    }
}

/// Writes a time as SQLite has it: services compare such texts.
fn time(moment: DateTime<Utc>) -> Value {
    Value::Text(moment.to_rfc3339_opts(SecondsFormat::AutoSi, false))
}

fn moment(text: &str) -> Result<DateTime<Utc>> {
    let moment = DateTime::parse_from_rfc3339(text).with_context(|| format!("`{text}` is no time"))?;
    Ok(moment.to_utc())
}
