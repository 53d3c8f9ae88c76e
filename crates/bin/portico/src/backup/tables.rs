//! The tables of a database as it describes them itself, and reading their rows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use futures_util::TryStreamExt as _;
use portico_db::{Db, MIGRATION_TABLES, Tx};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use super::value::{Kind, Value};

/// A table, as a backup names it: columns only, for their types are those of the database that it is restored into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    /// In the order of the columns; known for a database, not for a backup.
    #[serde(skip)]
    pub(crate) kinds: Vec<Kind>,
    /// Whether the database numbers the rows itself.
    #[serde(skip)]
    pub(crate) identity: Option<String>,
}

/// A column as the database describes it: table, column, type, whether the database fills it.
type Described = (String, String, String, bool);

/// A table that refers to another one.
type Reference = (String, String);

/// Describes every table, those first that others refer to.
pub(crate) async fn of(db: &Db) -> Result<Vec<Table>> {
    let (columns, references): (Vec<Described>, Vec<Reference>) = match db {
        Db::Postgres(pool) => {
            const COLUMNS: &str = "SELECT c.table_name::text, c.column_name::text, c.data_type::text, c.is_identity = 'YES' \
                 FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) \
                 WHERE table_schema = current_schema() AND t.table_type = 'BASE TABLE' \
                 ORDER BY c.table_name, c.ordinal_position";
            const REFERENCES: &str = "SELECT child.relname::text, parent.relname::text FROM pg_constraint k \
                 JOIN pg_class child ON child.oid = k.conrelid JOIN pg_class parent ON parent.oid = k.confrelid \
                 JOIN pg_namespace n ON n.oid = k.connamespace WHERE k.contype = 'f' AND n.nspname = current_schema()";
            let columns = sqlx::query_as(COLUMNS).fetch_all(pool).await?;
            (columns, sqlx::query_as(REFERENCES).fetch_all(pool).await?)
        }
        Db::Sqlite(pool) => {
            const COLUMNS: &str = "SELECT t.name, c.name, c.type, FALSE FROM sqlite_schema t, pragma_table_info(t.name) c \
                 WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' ORDER BY t.name, c.cid";
            const REFERENCES: &str = "SELECT t.name, f.\"table\" FROM sqlite_schema t, pragma_foreign_key_list(t.name) f \
                 WHERE t.type = 'table'";
            let columns = sqlx::query_as(COLUMNS).fetch_all(pool).await?;
            (columns, sqlx::query_as(REFERENCES).fetch_all(pool).await?)
        }
    };
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let columns = columns.into_iter().filter(|(table, ..)| !MIGRATION_TABLES.contains(&table.as_str()));
    for (name, column, declared, numbered) in columns {
        let kind = match db {
            Db::Postgres(_) => Kind::of_postgres(&declared),
            Db::Sqlite(_) => Kind::of_sqlite(&declared),
        };
        let kind =
            kind.with_context(|| format!("{name}.{column} is a {declared}, which no backup can hold"))?;
        let table = tables.entry(name.clone()).or_insert_with(|| Table::new(name));
        if numbered {
            table.identity = Some(column.clone());
        }
        table.columns.push(column);
        table.kinds.push(kind);
    }
    in_order(tables, &references)
}

/// Puts every table behind those that it refers to.
fn in_order(mut tables: BTreeMap<String, Table>, references: &[Reference]) -> Result<Vec<Table>> {
    let mut ordered = Vec::with_capacity(tables.len());
    while !tables.is_empty() {
        let waits = |name: &str| {
            references
                .iter()
                .any(|(child, parent)| child == name && parent != name && tables.contains_key(parent))
        };
        let next: BTreeSet<String> = tables.keys().filter(|name| !waits(name)).cloned().collect();
        if next.is_empty() {
            bail!(
                "tables refer to one another in a circle: {}",
                tables.into_keys().collect::<Vec<_>>().join(", ")
            );
        }
        ordered.extend(next.iter().filter_map(|name| tables.remove(name)));
    }
    Ok(ordered)
}

impl Table {
    fn new(name: String) -> Self {
        Self { name, columns: Vec::new(), kinds: Vec::new(), identity: None }
    }

    /// The columns' names, quoted, with what each is selected as.
    fn selection(&self, casts: bool) -> String {
        let column = |(name, kind): (&String, &Kind)| {
            format!("{}{}", quoted(name), if casts { kind.cast() } else { "" })
        };
        self.columns.iter().zip(&self.kinds).map(column).collect::<Vec<_>>().join(", ")
    }
}

/// Quotes an identifier, for both databases.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Hands over the rows one by one, and answers how many there were.
pub(crate) async fn read_rows(
    tx: &mut Tx,
    table: &Table,
    mut each: impl FnMut(Vec<Value>) -> Result<()>,
) -> Result<u64> {
    let casts = matches!(tx, Tx::Postgres(_));
    let sql = AssertSqlSafe(format!("SELECT {} FROM {}", table.selection(casts), quoted(&table.name)));
    let mut count = 0;
    match tx {
        Tx::Postgres(tx) => {
            let mut rows = sqlx::query(sql).fetch(&mut **tx);
            while let Some(row) = rows.try_next().await? {
                let kinds = table.kinds.iter().enumerate();
                each(kinds.map(|(index, kind)| kind.read_postgres(&row, index)).collect::<Result<_, _>>()?)?;
                count += 1;
            }
        }
        Tx::Sqlite(tx) => {
            let mut rows = sqlx::query(sql).fetch(&mut **tx);
            while let Some(row) = rows.try_next().await? {
                let kinds = table.kinds.iter().enumerate();
                each(kinds.map(|(index, kind)| kind.read_sqlite(&row, index)).collect::<Result<_, _>>()?)?;
                count += 1;
            }
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_come_after_those_that_they_refer_to() {
        let tables = ["a", "b", "c"].map(|name| (name.to_owned(), Table::new(name.to_owned())));
        let refers = |child: &str, parent: &str| (child.to_owned(), parent.to_owned());
        let references = [refers("a", "b"), refers("b", "c"), refers("c", "c")];
        let ordered = in_order(tables.clone().into(), &references).unwrap();
        assert_eq!(ordered.iter().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
        let circle = [refers("a", "b"), refers("b", "a")];
        assert!(in_order(tables.into(), &circle).unwrap_err().to_string().ends_with("in a circle: a, b"));
    }
}
