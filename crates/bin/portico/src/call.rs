//! `portico call`: list the tools of an endpoint, or call one, as any agent would.

mod arguments;
mod client;
mod elicitation;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use self::client::McpClient;
use crate::connection::Connection;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The endpoint's name; `mcp` for everything that you may use
    endpoint: String,
    /// The tool; without one, the endpoint's tools are listed
    tool: Option<String>,
    /// key=value (read by the tool's schema) or key:=JSON
    #[arg(value_name = "KEY=VALUE")]
    words: Vec<String>,
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    let endpoint = (arguments.endpoint != "mcp").then_some(arguments.endpoint.as_str());
    let resource = connection.resource(endpoint);
    let token = connection.mcp_token(&resource).await?;
    let mut client = McpClient::open(connection.http(), &resource, token, output).await?;
    let outcome = match &arguments.tool {
        None => list(&mut client, output).await,
        Some(tool) => call(&mut client, tool, &arguments.words, output).await,
    };
    client.close().await;
    outcome
}

async fn list(client: &mut McpClient<'_>, output: Output) -> Result<()> {
    let tools = client.tools().await?;
    output.rows(&tools, ["TOOL", "ARGUMENTS", "DESCRIPTION"], |tool| {
        let text = |field: &str| first_line(tool[field].as_str().unwrap_or_default());
        [text("name"), arguments::signature(&tool["inputSchema"]), text("description")]
    });
    Ok(())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

async fn call(client: &mut McpClient<'_>, tool: &str, words: &[String], output: Output) -> Result<()> {
    let tools = client.tools().await?;
    let Some(definition) = tools.iter().find(|definition| definition["name"] == tool) else {
        let known: Vec<&str> = tools.iter().filter_map(|definition| definition["name"].as_str()).collect();
        bail!("there is no tool {tool} here; there are: {}", known.join(", "));
    };
    let arguments = arguments::parse(words, &definition["inputSchema"])?;
    let result = client.call_tool(tool, arguments).await?;
    output.value(&result, || human(&result));
    if result["isError"] == true {
        bail!("the tool {tool} answered with an error");
    }
    Ok(())
}

/// The content of a result as text; what is not text is named.
fn human(result: &Value) -> String {
    let blocks = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<String> = blocks
        .iter()
        .map(|block| match block["type"].as_str() {
            Some("text") => block["text"].as_str().unwrap_or_default().to_owned(),
            Some(kind) => format!(
                "[{kind} {}]",
                block["mimeType"].as_str().or(block["uri"].as_str()).unwrap_or_default()
            ),
            None => "[content without a type]".to_owned(),
        })
        .collect();
    if lines.is_empty() { result["structuredContent"].to_string() } else { lines.join("\n") }
}
