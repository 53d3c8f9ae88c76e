//! Audit records at rest: only ever added, by id once.

use chrono::{DateTime, Utc};
use portico_db::{Conn, Db, FromRow, Row, StoreError, on_db, on_tx, read, scalar};
use portico_ids::AuditId;
use sqlx::QueryBuilder;

use crate::domain::audit::{AuditFilter, AuditRecord};

/// How many rows one statement inserts. More make it no faster, and a prepared one takes memory for every parameter.
const INSERT_CHUNK: usize = 100;

/// How many of the first records are looked at for what is old: clocks that differ put a few younger ones before it.
const LOOKED_AT: i64 = 10_000;

/// A record and its place in the order in which records became durable.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) seq: i64,
    pub(crate) record: AuditRecord,
}

impl FromRow for Stored {
    fn from_row(row: &Row<'_>) -> sqlx::Result<Self> {
        let record = AuditRecord {
            id: row.id("id")?,
            occurred_at: row.get("occurred_at")?,
            service: row.get("service")?,
            principal: row.get("principal")?,
            client_id: row.get("client_id")?,
            action: row.get("action")?,
            target: row.get("target")?,
            name: row.get("name")?,
            outcome: row.parse("outcome")?,
            reason: row.get("reason")?,
            correlation_id: row.get("correlation_id")?,
            trace_id: row.get("trace_id")?,
            duration_ms: row.get("duration_ms")?,
            request_bytes: row.get("request_bytes")?,
            response_bytes: row.get("response_bytes")?,
            peer: row.get("peer")?,
        };
        Ok(Self { seq: row.get("seq")?, record })
    }
}

/// Adds the records whose ids are new, inside the caller's transaction, and answers how many were.
pub(crate) async fn append(mut conn: Conn<'_>, records: &[AuditRecord]) -> Result<u64, StoreError> {
    const TAKE: &str = "UPDATE audit_sequence SET value = value + $1 WHERE id = 1 RETURNING value";
    let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
    let last: i64 =
        on_tx!(conn.reborrow(), c => sqlx::query(TAKE).bind(count).try_map(scalar).fetch_one(c).await?);
    let mut seq = last - count;
    let mut added = 0;
    for chunk in records.chunks(INSERT_CHUNK) {
        added += on_tx!(conn.reborrow(), c => {
            let mut query = QueryBuilder::new(
                "INSERT INTO audit (id, seq, occurred_at, service, principal, client_id, action, target, name, outcome, reason, \
                 correlation_id, trace_id, duration_ms, request_bytes, response_bytes, peer) ",
            );
            query.push_values(chunk, |mut row, record| {
                seq += 1;
                row.push_bind(record.id.as_uuid())
                    .push_bind(seq)
                    .push_bind(record.occurred_at)
                    .push_bind(&record.service)
                    .push_bind(&record.principal)
                    .push_bind(&record.client_id)
                    .push_bind(&record.action)
                    .push_bind(&record.target)
                    .push_bind(&record.name)
                    .push_bind(record.outcome.as_str())
                    .push_bind(&record.reason)
                    .push_bind(&record.correlation_id)
                    .push_bind(&record.trace_id)
                    .push_bind(record.duration_ms)
                    .push_bind(record.request_bytes)
                    .push_bind(record.response_bytes)
                    .push_bind(&record.peer);
            });
            // Kept for the next time only at the size that comes again and again.
            let insert = query.push(" ON CONFLICT (id) DO NOTHING").build().persistent(chunk.len() == INSERT_CHUNK);
            insert.execute(c).await?.rows_affected()
        });
    }
    Ok(added)
}

/// Tells whether some of the first records are from before a moment.
pub(crate) async fn begins_before(conn: Conn<'_>, before: DateTime<Utc>) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT COALESCE(MIN(first.occurred_at) < $1, FALSE) FROM \
             (SELECT occurred_at FROM audit ORDER BY seq LIMIT $2) AS first";
    Ok(on_tx!(conn, c => sqlx::query(SQL).bind(before).bind(LOOKED_AT).try_map(scalar).fetch_one(c).await?))
}

/// Lets records from before a moment be removed, which the table itself refuses otherwise.
pub(crate) async fn allow_removal(conn: Conn<'_>, before: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "UPDATE audit_horizon SET removable_to = $1 WHERE id = 1 AND removable_to < $1";
    on_tx!(conn, c => sqlx::query(SQL).bind(before).execute(c).await.map(drop)?);
    Ok(())
}

/// Removes up to `limit` of the first records that are from before a moment, and answers how many it removed.
pub(crate) async fn remove(db: &Db, before: DateTime<Utc>, limit: i64) -> Result<u64, StoreError> {
    // The first by number are the oldest but for differences of clocks: no other index is needed.
    const SQL: &str = "DELETE FROM audit WHERE id IN (SELECT first.id FROM \
             (SELECT id, occurred_at FROM audit ORDER BY seq LIMIT $3) AS first WHERE first.occurred_at < $1 LIMIT $2)";
    Ok(
        on_db!(db, pool => sqlx::query(SQL).bind(before).bind(limit).bind(LOOKED_AT).execute(pool).await?.rows_affected()),
    )
}

/// Where the record with this id stands; `None` if there is none.
pub(crate) async fn seq_of(conn: Conn<'_>, id: AuditId) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "SELECT seq FROM audit WHERE id = $1";
    Ok(on_tx!(conn, c => sqlx::query(SQL).bind(id.as_uuid()).try_map(scalar).fetch_optional(c).await?))
}

/// Reads up to `limit` records after `seq`, oldest first.
pub(crate) async fn after(
    conn: Conn<'_>,
    seq: i64,
    filter: &AuditFilter,
    limit: i64,
) -> Result<Vec<Stored>, StoreError> {
    select(conn, Some(seq), filter, limit).await
}

/// Reads the newest `limit` records, oldest first.
pub(crate) async fn newest(
    conn: Conn<'_>,
    filter: &AuditFilter,
    limit: i64,
) -> Result<Vec<Stored>, StoreError> {
    let mut records = select(conn, None, filter, limit).await?;
    records.reverse();
    Ok(records)
}

async fn select(
    conn: Conn<'_>,
    after: Option<i64>,
    filter: &AuditFilter,
    limit: i64,
) -> Result<Vec<Stored>, StoreError> {
    Ok(on_tx!(conn, c => {
        let mut query = QueryBuilder::new("SELECT * FROM audit WHERE 1 = 1");
        if let Some(principal) = &filter.principal {
            query.push(" AND principal = ").push_bind(principal);
        }
        if let Some(action) = &filter.action {
            query.push(" AND action = ").push_bind(action);
        }
        if let Some(correlation_id) = &filter.correlation_id {
            // The second condition lets the partial index serve the first.
            query.push(" AND correlation_id = ").push_bind(correlation_id).push(" AND correlation_id <> ''");
        }
        if let Some(seq) = after {
            query.push(" AND seq > ").push_bind(seq);
        }
        query.push(if after.is_some() { " ORDER BY seq" } else { " ORDER BY seq DESC" });
        query.push(" LIMIT ").push_bind(limit);
        query.build().try_map(read).fetch_all(c).await?
    }))
}
