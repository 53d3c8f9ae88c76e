//! `portico endpoint`: publish routes, one server or a virtual server of several.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use portico_proto_registry::{
    CreateEndpointRequest, DeleteEndpointRequest, Endpoint, EndpointMember, GetEndpointRequest,
    GetServerRequest, ListEndpointsRequest, Names,
};
use serde_json::json;

use crate::connection::Connection;
use crate::output::Output;
use crate::server::Reach;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Publish /NAME/mcp
    Create(Create),
    /// List the endpoints that you may see
    List,
    /// Stop publishing an endpoint; its servers stay
    Delete { name: String },
}

#[derive(Debug, Args)]
struct Create {
    name: String,
    /// A server behind it; give several for a virtual server. SERVER=ALIAS chooses the prefix of its names
    #[arg(long = "server", required = true, value_name = "SERVER[=ALIAS]")]
    servers: Vec<String>,
    /// Names as the servers have them, or `alias__name`; one server: plain, several: prefixed
    #[arg(long, value_enum)]
    names: Option<Naming>,
    #[arg(long, default_value = "")]
    description: String,
    #[arg(long, value_enum, default_value_t = Reach::Private)]
    visibility: Reach,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Naming {
    Plain,
    Prefixed,
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    match arguments.verb {
        Verb::Create(create) => self::create(create, connection, output).await,
        Verb::List => list(connection, output).await,
        Verb::Delete { name } => delete(name, connection, output).await,
    }
}

async fn create(arguments: Create, connection: &Connection, output: Output) -> Result<()> {
    let mut members = Vec::with_capacity(arguments.servers.len());
    for member in &arguments.servers {
        let (name, alias) = member.split_once('=').unwrap_or((member, ""));
        let request = GetServerRequest { id: String::new(), name: name.to_owned() };
        let found = connection.api().await?.servers().get_server(request).await?.into_inner();
        let server_id = found.server.context("the registry answered without the server")?.id;
        members.push(EndpointMember { server_id, alias: alias.to_owned(), ..EndpointMember::default() });
    }
    let mut endpoint =
        Endpoint { name: arguments.name, description: arguments.description, members, ..Endpoint::default() };
    endpoint.set_visibility(arguments.visibility.into());
    endpoint.set_names(match arguments.names {
        None => Names::Unspecified,
        Some(Naming::Plain) => Names::Plain,
        Some(Naming::Prefixed) => Names::Prefixed,
    });
    let request = CreateEndpointRequest { endpoint: Some(endpoint), request_id: String::new() };
    let answer = connection.api().await?.endpoints().create_endpoint(request).await?.into_inner();
    let endpoint = answer.endpoint.context("the registry answered without the endpoint")?;
    output.value(&describe(&endpoint), || format!("published {}", endpoint.url));
    Ok(())
}

async fn list(connection: &Connection, output: Output) -> Result<()> {
    let mut endpoints = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEndpointsRequest { page_size: 500, page_token };
        let answer = connection.api().await?.endpoints().list_endpoints(request).await?.into_inner();
        endpoints.extend(answer.endpoints.iter().map(describe));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    output.rows(&endpoints, ["NAME", "NAMES", "VISIBILITY", "URL"], |endpoint| {
        ["name", "names", "visibility", "url"]
            .map(|field| endpoint[field].as_str().unwrap_or_default().to_owned())
    });
    Ok(())
}

async fn delete(name: String, connection: &Connection, output: Output) -> Result<()> {
    let request = GetEndpointRequest { id: String::new(), name: name.clone() };
    let found = connection.api().await?.endpoints().get_endpoint(request).await?.into_inner();
    let endpoint = found.endpoint.context("the registry answered without the endpoint")?;
    let request = DeleteEndpointRequest { id: endpoint.id, expected_revision: endpoint.revision };
    connection.api().await?.endpoints().delete_endpoint(request).await?;
    output.value(&json!({ "deleted": name }), || format!("{name} is no longer published"));
    Ok(())
}

fn describe(endpoint: &Endpoint) -> serde_json::Value {
    json!({
        "id": endpoint.id,
        "name": endpoint.name,
        "description": endpoint.description,
        "names": endpoint.names().as_str_name().trim_start_matches("NAMES_").to_lowercase(),
        "visibility": endpoint.visibility().as_str_name().trim_start_matches("VISIBILITY_").to_lowercase(),
        "members": endpoint.members.iter().map(|member| json!({ "server_id": member.server_id, "alias": member.alias })).collect::<Vec<_>>(),
        "url": endpoint.url,
        "revision": endpoint.revision,
    })
}
