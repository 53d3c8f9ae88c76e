//! `portico audit`: the record of who did what, merged from the services that keep one.

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use portico_proto_auth as auth;
use portico_proto_registry as registry;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::connection::Connection;
use crate::output::{Output, in_one_line};

const POLL: Duration = Duration::from_secs(1);
/// How many new records are read at once.
const PAGE: i32 = 500;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the newest records, oldest first
    Tail(Tail),
}

#[derive(Debug, Args)]
struct Tail {
    /// How many
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=500))]
    lines: i32,
    /// Keep printing new records until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only those of this principal, e.g. user:ID
    #[arg(long, default_value = "")]
    principal: String,
    /// Only this action, e.g. tools/call
    #[arg(long, default_value = "")]
    action: String,
    /// Only those of one request
    #[arg(long, default_value = "")]
    correlation_id: String,
}

/// Where reading stands in each of the two records.
#[derive(Debug, Default)]
struct Position {
    registry: String,
    auth: String,
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    let Verb::Tail(tail) = arguments.verb;
    let mut position = Position::default();
    let mut records = read(&tail, tail.lines, &mut position, connection).await?;
    let surplus = records.len().saturating_sub(usize::try_from(tail.lines).unwrap_or(usize::MAX));
    print(&records.split_off(surplus), output);
    if !tail.follow {
        return Ok(());
    }
    let mut is_away = false;
    loop {
        tokio::time::sleep(POLL).await;
        match follow(&tail, &mut position, connection, output).await {
            Ok(()) => is_away = false,
            // A restart is no reason to stop: what happens meanwhile is read afterwards.
            Err(error) if is_unavailable(&error) => {
                if !is_away {
                    output.note("Portico does not answer: trying again until it does");
                }
                is_away = true;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Prints everything that is new.
async fn follow(tail: &Tail, position: &mut Position, connection: &Connection, output: Output) -> Result<()> {
    loop {
        let records = read(tail, PAGE, position, connection).await?;
        print(&records, output);
        if records.len() < usize::try_from(PAGE)? {
            return Ok(());
        }
    }
}

fn is_unavailable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Status>().is_some_and(|status| status.code() == Code::Unavailable)
}

/// Reads what is new in both records, at most `lines` of each, ordered by id (which orders by time).
async fn read(
    tail: &Tail,
    lines: i32,
    position: &mut Position,
    connection: &Connection,
) -> Result<Vec<Value>> {
    let api = connection.api().await?;
    let request = registry::ListAuditRequest {
        page_size: lines,
        page_token: String::new(),
        after_id: position.registry.clone(),
        principal: tail.principal.clone(),
        action: tail.action.clone(),
        correlation_id: tail.correlation_id.clone(),
    };
    let registry = api.registry_audit().list_audit(request).await?.into_inner().records;
    let request = auth::ListAuditRequest {
        page_size: lines,
        page_token: String::new(),
        after_id: position.auth.clone(),
        principal: tail.principal.clone(),
        action: tail.action.clone(),
        correlation_id: tail.correlation_id.clone(),
    };
    let auth = api.auth_audit().list_audit(request).await?.into_inner().records;
    if let Some(last) = registry.last() {
        position.registry.clone_from(&last.id);
    }
    if let Some(last) = auth.last() {
        position.auth.clone_from(&last.id);
    }
    let mut records: Vec<Value> = registry.iter().map(of_registry).chain(auth.iter().map(of_auth)).collect();
    records.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    Ok(records)
}

fn of_registry(record: &registry::AuditRecord) -> Value {
    json!({
        "id": record.id,
        "occurred_at": record.occurred_at.as_ref().map(ToString::to_string),
        "service": record.service,
        "principal": record.principal,
        "client_id": record.client_id,
        "action": record.action,
        "target": record.target,
        "name": record.name,
        "outcome": record.outcome,
        "reason": record.reason,
        "correlation_id": record.correlation_id,
        "trace_id": record.trace_id,
        "duration_ms": record.duration_ms,
        "peer": record.peer,
    })
}

fn of_auth(record: &auth::AuditRecord) -> Value {
    json!({
        "id": record.id,
        "occurred_at": record.occurred_at.as_ref().map(ToString::to_string),
        "service": record.service,
        "principal": record.principal,
        "client_id": record.client_id,
        "action": record.action,
        "target": record.target,
        "name": record.name,
        "outcome": record.outcome,
        "reason": record.reason,
        "correlation_id": record.correlation_id,
        "trace_id": record.trace_id,
        "peer": record.peer,
    })
}

/// One line a record: JSON for scripts, columns for people.
fn print(records: &[Value], output: Output) {
    for record in records {
        if output.is_json() {
            output.line(&record.to_string());
            continue;
        }
        let text = |field: &str| in_one_line(record[field].as_str().unwrap_or_default());
        let name = text("name");
        let what = if name.is_empty() { text("target") } else { format!("{} {name}", text("target")) };
        let outcome = match text("reason") {
            reason if reason.is_empty() || reason == "ok" => text("outcome"),
            reason => format!("{} ({reason})", text("outcome")),
        };
        output.line(&format!(
            "{}  {:<14} {:<20} {what}  {outcome}  {}",
            text("occurred_at"),
            text("service"),
            text("action"),
            text("principal")
        ));
    }
}
