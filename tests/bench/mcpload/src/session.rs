//! One MCP session on one connection; every answer is checked.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use crate::Args;
use crate::http::{Call, Connection, Target};

/// The parts of a JSON-RPC answer that are checked.
#[derive(Deserialize)]
struct Answer<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<CallResult<'a>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallResult<'a> {
    #[serde(borrow, default)]
    content: Vec<Content<'a>>,
    #[serde(default)]
    is_error: bool,
    #[serde(borrow)]
    tools: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
}

pub(crate) struct Session {
    pub(crate) id: Option<String>,
    conn: Connection,
    index: usize,
    next_id: u64,
    args: Arc<Args>,
}

impl Session {
    pub(crate) async fn open(args: Arc<Args>, target: &Target, index: usize) -> Result<Self> {
        let conn = Connection::open(target, index).await?;
        let mut s = Self { conn, id: None, index, next_id: 1, args };
        if s.args.stateless() {
            return Ok(s);
        }
        let init = json!({
            "jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": {
                "protocolVersion": s.args.protocol,
                "capabilities": {},
                "clientInfo": { "name": "mcpload", "version": env!("CARGO_PKG_VERSION") }
            }
        });
        let reply = s.conn.post(init.to_string(), None, None).await.context("initialize")?;
        ensure!(reply.status == 200, "initialize: HTTP {} {}", reply.status, reply.excerpt());
        let body: serde_json::Value = serde_json::from_slice(reply.message(0)?)?;
        ensure!(body["result"]["protocolVersion"].is_string(), "initialize: {body}");
        s.id = reply.session;
        let done = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let reply = s.conn.post(done.to_string(), s.id.as_deref(), None).await.context("initialized")?;
        ensure!(reply.status < 300, "initialized: HTTP {} {}", reply.status, reply.excerpt());
        Ok(s)
    }

    /// A new connection for the same session.
    pub(crate) async fn reconnect(&mut self, target: &Target) -> Result<()> {
        self.conn = Connection::open(target, self.index).await?;
        Ok(())
    }

    /// The correlation id of the last call.
    pub(crate) fn correlation(&self) -> Option<String> {
        let prefix = self.args.correlation.as_ref()?;
        Some(format!("{prefix}-{}-{}", self.index, self.next_id - 1))
    }

    pub(crate) async fn close(&mut self) -> Result<()> {
        let id = self.id.clone();
        self.conn.delete(id.as_deref()).await
    }

    /// The stateless protocol version names itself in every request.
    fn meta(&self) -> &'static str {
        if self.args.stateless() {
            concat!(
                r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
                r#""io.modelcontextprotocol/clientInfo":{"name":"mcpload","version":"0.1.0"},"#,
                r#""io.modelcontextprotocol/clientCapabilities":{}}"#
            )
        } else {
            ""
        }
    }

    /// The arguments for a tool and the text that must come back; none for `payload`, which is checked by its pattern.
    fn arguments(&self, tool: &str, id: u64) -> (String, Option<String>) {
        if tool.ends_with("payload") {
            return (format!(r#""kib":{}"#, self.args.payload_kib), None);
        }
        if tool.ends_with("slow") {
            return (
                format!(r#""ms":{}"#, self.args.slow_ms),
                Some(format!("slept {} ms", self.args.slow_ms)),
            );
        }
        // The text differs from call to call, so that no answer can be taken for another.
        let mut text = format!("s{}-{id}-", self.index);
        while text.len() < self.args.text_bytes {
            text.push(char::from(b'a' + (text.len() % 26) as u8));
        }
        (format!(r#""text":"{text}""#), Some(text))
    }

    /// One tools/call; fails unless the answer is the right one.
    pub(crate) async fn call(&mut self) -> Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        let args = self.args.clone();
        let tool = &args.tools[(self.index + id as usize) % args.tools.len()];
        let meta = self.meta();
        let (arguments, expected) = self.arguments(tool, id);
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{{arguments}}}{meta}}}}}"#
        );
        let call = Call { method: "tools/call", name: Some(tool), correlation: self.correlation() };
        let reply = self.conn.post(body, self.id.as_deref(), Some(call)).await?;
        ensure!(reply.status == 200, "HTTP {} {}", reply.status, reply.excerpt());
        let answer: Answer<'_> = serde_json::from_slice(reply.message(id)?)?;
        if let Some(error) = answer.error {
            bail!("JSON-RPC error {error}");
        }
        ensure!(answer.id == Some(id), "wrong id");
        let result = answer.result.context("no result")?;
        let text = &result.content.first().context("no content")?.text;
        ensure!(!result.is_error, "isError: {text}");
        match expected {
            Some(expected) => ensure!(*text == expected, "wrong text"),
            None => ensure!(is_payload(text, self.args.payload_kib), "wrong payload of {} bytes", text.len()),
        }
        Ok(())
    }

    /// One tools/list.
    pub(crate) async fn list(&mut self) -> Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        let meta = self.meta().trim_start_matches(',');
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{{meta}}}}}"#);
        let call = Call { method: "tools/list", name: None, correlation: self.correlation() };
        let reply = self.conn.post(body, self.id.as_deref(), Some(call)).await?;
        ensure!(reply.status == 200, "HTTP {} {}", reply.status, reply.excerpt());
        let answer: Answer<'_> = serde_json::from_slice(reply.message(id)?)?;
        ensure!(answer.id == Some(id), "wrong id");
        let tools = answer.result.context("no result")?.tools.context("no tools")?;
        let want = self.args.expect_tools;
        ensure!(want == 0 || tools.len() == want, "{} tools, not {want}", tools.len());
        Ok(())
    }
}

/// Whether `text` is what the `payload` tool of echo-upstream answers.
fn is_payload(text: &str, kib: usize) -> bool {
    const LINE: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ.";
    text.len() == kib * 1024 && text.as_bytes().chunks(LINE.len()).all(|chunk| chunk == LINE)
}

/// Opens all sessions, a few at a time.
pub(crate) async fn open_all(args: &Arc<Args>, target: &Target) -> Result<Vec<Session>> {
    let slots = Arc::new(Semaphore::new(args.setup_concurrency.max(1)));
    let tasks: Vec<_> = (0..args.sessions)
        .map(|index| {
            let (args, target, slots) = (args.clone(), target.clone(), slots.clone());
            tokio::spawn(async move {
                let _slot = slots.acquire().await?;
                let limit = Duration::from_secs_f64(args.timeout);
                tokio::time::timeout(limit, Session::open(args, &target, index)).await?
            })
        })
        .collect();
    let mut sessions = Vec::with_capacity(args.sessions);
    for task in tasks {
        sessions.push(task.await??);
    }
    Ok(sessions)
}
