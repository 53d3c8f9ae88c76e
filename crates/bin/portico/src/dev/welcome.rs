//! What a person reads when Portico is ready: where it is, who may sign in, what to do next.

use std::path::Path;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::demo;
use crate::connection::ready_file::ReadyFile;
use crate::output::Output;

/// Prints the welcome; the password only on the first start.
pub(super) fn print(ready: &ReadyFile, first_start: bool, ready_file: Option<&Path>, output: Output) {
    let origin = ready.origin.as_str().trim_end_matches('/');
    let url = format!("{origin}/{}/mcp", demo::NAME);
    if output.is_json() {
        output.line(&json!({ "origin": origin, "admin": ready.admin, "endpoint": url }).to_string());
        return;
    }
    let command = command(ready_file);
    output.say(&format!("\nPortico is ready at {origin}\n"));
    if first_start {
        output.say(&format!(
            "  sign in as   {}\n  password     {}   (shown once; it is kept in the data directory)\n",
            ready.admin_username,
            ready.admin_password.expose_secret()
        ));
    }
    output.say(&format!(
        "Try the demo server:\n\
         \n  {command} call demo\
         \n  {command} call demo time_now zone=Europe/Berlin\
         \n  {command} call demo countdown from=3\
         \n  npx @modelcontextprotocol/inspector --cli {url} --transport http --method tools/list \\\
         \n      --header \"Authorization: Bearer $({command} token --endpoint demo)\"\n\
         \nRegister a server of your own, and see what was done:\n\
         \n  {command} server register my-server --url http://127.0.0.1:9000/mcp\
         \n  {command} audit tail\n\
         \nConnect an agent; it opens the browser to sign in:\n\
         \n  Claude Code   claude mcp add --transport http portico-demo {url}\
         \n  VS Code       code --add-mcp '{vs_code}'\
         \n  Cursor        in ~/.cursor/mcp.json: {cursor}\n\
         \nHealth and metrics: {admin}   Stop with Ctrl-C.",
        vs_code = vs_code(&url),
        cursor = cursor(&url),
        admin = ready.admin,
    ));
}

/// How this command was called, so that what is printed works as printed.
fn command(ready_file: Option<&Path>) -> String {
    let program = std::env::args_os().next().map(|name| name.to_string_lossy().into_owned());
    let program = program.unwrap_or_else(|| "portico".to_owned());
    match ready_file {
        Some(path) => format!("{program} --ready-file {}", path.display()),
        None => program,
    }
}

fn vs_code(url: &str) -> Value {
    json!({ "name": "portico-demo", "type": "http", "url": url })
}

fn cursor(url: &str) -> Value {
    json!({ "mcpServers": { "portico-demo": { "url": url } } })
}
