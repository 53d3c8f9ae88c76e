//! Writing the rows of a backup into new databases.

use anyhow::{Context as _, Result, bail, ensure};
use portico_db::{Db, Tx};
use sqlx::{AssertSqlSafe, QueryBuilder};

use crate::backup::archive::Mark;
use crate::backup::places::Service;
use crate::backup::reader::{Backup, Line};
use crate::backup::tables::{self, Table, quoted};
use crate::backup::value::Value;
use crate::output::Output;

/// How many rows one statement inserts: below both databases' bounds on parameters for every table here.
const CHUNK: usize = 200;
/// How many bytes of rows are held back for one statement.
const CHUNK_BYTES: usize = 1 << 20;

/// Appends `(…), (…)` with a parameter for each value; the two drivers share no type that could do it.
macro_rules! push_rows {
    ($query:ident, $rows:ident, $table:ident, $push:ident) => {
        for (index, row) in $rows.iter().enumerate() {
            $query.push(if index == 0 { "(" } else { ", (" });
            let mut list = $query.separated(", ");
            for (kind, value) in $table.kinds.iter().zip(row) {
                kind.$push(&mut list, value)?;
            }
            list.push_unseparated(")");
        }
    };
}

/// One service's new database while rows go into it: one transaction.
struct Loading {
    service: Service,
    tables: Vec<Table>,
    tx: Tx,
    pending: Option<Pending>,
}

/// Rows of one table that wait for a statement.
struct Pending {
    table: Table,
    rows: Vec<Vec<Value>>,
    bytes: usize,
    count: u64,
}

/// Loads every row, one service after the other; a database's rows become visible together.
pub(super) async fn rows(backup: &Backup, databases: &[(Service, Db)], output: Output) -> Result<()> {
    let mut waiting = databases.to_vec();
    let mut lines = backup.lines()?;
    let mut current: Option<Loading> = None;
    while let Some(line) = lines.next()? {
        match line {
            Line::Table(mark) => {
                if let Some(loading) = current.take_if(|loading| loading.service.name() != mark.service) {
                    loading.commit(output).await?;
                }
                let loading = match &mut current {
                    Some(loading) => loading,
                    None => current.insert(Loading::begin(&mark, &mut waiting).await?),
                };
                loading.begin_table(backup, &mark, output).await?;
            }
            Line::Row(row) => {
                let loading = current.as_mut().context("the backup has a row outside of any table")?;
                loading.add(row).await?;
            }
        }
    }
    if let Some(loading) = current {
        loading.commit(output).await?;
    }
    ensure!(waiting.is_empty(), "the backup lacks the tables of a service");
    Ok(())
}

impl Loading {
    async fn begin(mark: &Mark, waiting: &mut Vec<(Service, Db)>) -> Result<Self> {
        let place = waiting.iter().position(|(service, _)| service.name() == mark.service);
        let place = place.with_context(|| {
            format!(
                "the backup has `{}` in two places, or does not say that it has it",
                mark.service.escape_default()
            )
        })?;
        let (service, db) = waiting.remove(place);
        let tables = tables::of(&db).await?;
        let mut tx = db.begin_write().await?;
        empty(&mut tx, &tables).await?;
        Ok(Self { service, tables, tx, pending: None })
    }

    /// Goes on with the table of a mark, with the columns in the backup's order.
    async fn begin_table(&mut self, backup: &Backup, mark: &Mark, output: Output) -> Result<()> {
        self.end_table(output).await?;
        let header = backup.header.schemas.iter().find(|schema| schema.service == mark.service);
        let kept = header.and_then(|schema| schema.tables.iter().find(|table| table.name == mark.table));
        let new = self.tables.iter().find(|table| table.name == mark.table);
        let (Some(kept), Some(new)) = (kept, new) else {
            bail!(
                "the backup has a table `{}` that its schema version does not have",
                mark.table.escape_default()
            );
        };
        let kind = |column: &String| {
            let index = new.columns.iter().position(|name| name == column);
            index
                .map(|index| new.kinds[index])
                .with_context(|| format!("{} has no column {column}", new.name))
        };
        let kinds = kept.columns.iter().map(kind).collect::<Result<Vec<_>>>()?;
        ensure!(kept.columns.len() == new.columns.len(), "the backup lacks columns of {}", new.name);
        let table = Table { columns: kept.columns.clone(), kinds, ..new.clone() };
        self.pending = Some(Pending { table, rows: Vec::new(), bytes: 0, count: 0 });
        Ok(())
    }

    async fn add(&mut self, row: Vec<Value>) -> Result<()> {
        let pending = self.pending.as_mut().context("the backup has a row outside of any table")?;
        ensure!(
            row.len() == pending.table.columns.len(),
            "a row of {} is too short or too long",
            pending.table.name
        );
        pending.bytes += row.iter().map(Value::size).sum::<usize>();
        pending.rows.push(row);
        if pending.rows.len() >= CHUNK || pending.bytes >= CHUNK_BYTES {
            flush(&mut self.tx, pending).await?;
        }
        Ok(())
    }

    async fn end_table(&mut self, output: Output) -> Result<()> {
        let Some(mut pending) = self.pending.take() else { return Ok(()) };
        flush(&mut self.tx, &mut pending).await?;
        if pending.count > 0 {
            output.note(&format!(
                "{}: {} rows of {}",
                self.service.name(),
                pending.count,
                pending.table.name
            ));
        }
        Ok(())
    }

    async fn commit(mut self, output: Output) -> Result<()> {
        self.end_table(output).await?;
        number_on(&mut self.tx, &self.tables).await?;
        Ok(self.tx.commit().await?)
    }
}

/// Removes what the migrations put into the tables: the backup has it too.
async fn empty(tx: &mut Tx, tables: &[Table]) -> Result<()> {
    for table in tables.iter().rev() {
        execute(tx, format!("DELETE FROM {}", quoted(&table.name))).await?;
    }
    Ok(())
}

/// Inserts the rows that wait.
async fn flush(tx: &mut Tx, pending: &mut Pending) -> Result<()> {
    let Pending { table, rows, .. } = pending;
    if rows.is_empty() {
        return Ok(());
    }
    ensure!(
        rows.iter().all(|row| row.len() == table.columns.len()),
        "a row of {} is too short or too long",
        table.name
    );
    let columns = table.columns.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let into = format!("INSERT INTO {} ({columns})", quoted(&table.name));
    let wrong = || format!("a row of {} does not fit", table.name);
    match tx {
        Tx::Postgres(tx) => {
            // Rows keep their numbers, also where the database would give them.
            let mut query = QueryBuilder::new(format!("{into} OVERRIDING SYSTEM VALUE VALUES "));
            push_rows!(query, rows, table, push_postgres);
            query.build().execute(&mut **tx).await.with_context(wrong)?;
        }
        Tx::Sqlite(tx) => {
            let mut query = QueryBuilder::new(format!("{into} VALUES "));
            push_rows!(query, rows, table, push_sqlite);
            query.build().execute(&mut **tx).await.with_context(wrong)?;
        }
    }
    pending.count += rows.len() as u64;
    pending.bytes = 0;
    rows.clear();
    Ok(())
}

/// Lets the database go on numbering behind the rows that are there. SQLite does so by itself.
async fn number_on(tx: &mut Tx, tables: &[Table]) -> Result<()> {
    if matches!(tx, Tx::Sqlite(_)) {
        return Ok(());
    }
    for table in tables {
        let Some(column) = &table.identity else { continue };
        let (name, id) = (quoted(&table.name), quoted(column));
        let sequence = format!("pg_get_serial_sequence('{}', '{column}')", name.replace('\'', "''"));
        let next = format!("SELECT COALESCE(MAX({id}), 0) + 1 FROM {name}");
        execute(tx, format!("SELECT setval({sequence}, ({next}), FALSE)")).await?;
    }
    Ok(())
}

async fn execute(tx: &mut Tx, sql: String) -> Result<()> {
    match tx {
        Tx::Postgres(tx) => sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await.map(drop)?,
        Tx::Sqlite(tx) => sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await.map(drop)?,
    }
    Ok(())
}
