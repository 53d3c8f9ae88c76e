//! `portico server`: register and manage MCP servers.

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use portico_proto_registry::{
    DeleteServerRequest, GetServerRequest, Instance, ListInstancesRequest, ListServersRequest,
    RegisterServerRequest, Server, ServerStatus, UpdateInstanceRequest, UpdateServerRequest, Visibility,
};
use prost_types::{FieldMask, Struct, Value, value::Kind};
use serde_json::json;
use tonic::Code;

use crate::connection::Connection;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create a server, its instance and the endpoint /NAME/mcp
    Register(Register),
    /// Show one server with its instances
    Get { name: String },
    /// List the servers that you may see
    List {
        /// Only those with this tag
        #[arg(long, default_value = "")]
        tag: String,
    },
    /// Change a server
    Update(Update),
    /// Delete a server, its instances and its endpoint
    Delete { name: String },
}

#[derive(Debug, Args)]
struct Register {
    /// Its name in URLs: [a-z0-9][a-z0-9-]{0,62}
    name: String,
    /// Address of its MCP endpoint (streamable HTTP)
    #[arg(long)]
    url: String,
    #[arg(long, default_value = "")]
    description: String,
    #[arg(long, default_value = "1.0.0")]
    version: String,
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Reference of the secret that is sent to it as a bearer token (see `portico secret set`)
    #[arg(long, value_name = "REF")]
    bearer_secret: Option<String>,
    /// Who may use it: those with a grant, or every signed-in principal
    #[arg(long, value_enum, default_value_t = Reach::Private)]
    visibility: Reach,
    /// Seconds that it may take to begin an answer
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// It keeps no state between calls: one upstream session may serve everybody
    #[arg(long)]
    stateless: bool,
}

#[derive(Debug, Args)]
struct Update {
    name: String,
    #[arg(long)]
    description: Option<String>,
    #[arg(long)]
    version: Option<String>,
    #[arg(long = "tag")]
    tags: Option<Vec<String>>,
    #[arg(long, value_enum)]
    visibility: Option<Reach>,
    /// Where it is now; for a server with one instance
    #[arg(long)]
    url: Option<String>,
    /// Reference of the secret that is sent to it as a bearer token, at the address that is registered or given here
    #[arg(long, value_name = "REF")]
    bearer_secret: Option<String>,
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Take it out of service without deleting it
    #[arg(long)]
    disable: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Reach {
    Private,
    Public,
}

impl From<Reach> for Visibility {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::Private => Self::Private,
            Reach::Public => Self::Public,
        }
    }
}

pub(crate) async fn run(arguments: Arguments, connection: &Connection, output: Output) -> Result<()> {
    match arguments.verb {
        Verb::Register(register) => self::register(register, connection, output).await,
        Verb::Get { name } => get(name, connection, output).await,
        Verb::List { tag } => list(tag, connection, output).await,
        Verb::Update(update) => self::update(update, connection, output).await,
        Verb::Delete { name } => delete(name, connection, output).await,
    }
}

async fn register(arguments: Register, connection: &Connection, output: Output) -> Result<()> {
    let request = RegisterServerRequest {
        name: arguments.name.clone(),
        description: arguments.description.clone(),
        version: arguments.version.clone(),
        tags: arguments.tags.clone(),
        visibility: Visibility::from(arguments.visibility).into(),
        json_spec: Some(url_spec(&arguments)),
        request_id: String::new(),
        env_schema: Vec::new(),
        docker_image_url: String::new(),
    };
    let answer = connection.api().await?.servers().register_server(request).await?.into_inner();
    let endpoint = answer.endpoint.context("the registry answered without an endpoint")?;
    let document = json!({
        "server_id": answer.server.map(|server| server.id),
        "instance_id": answer.instance.map(|instance| instance.id),
        "endpoint": endpoint.name,
        "url": endpoint.url,
    });
    output.value(&document, || {
        format!(
            "registered {name}: agents reach it at {url}\nnext: portico call {name}",
            name = endpoint.name,
            url = endpoint.url
        )
    });
    Ok(())
}

/// The `json_spec` of an instance of type `url`.
fn url_spec(arguments: &Register) -> Struct {
    let mut fields = vec![("type", text("url")), ("endpoint", text(&arguments.url))];
    if let Some(reference) = &arguments.bearer_secret {
        fields.push(("authentication", bearer(reference)));
    }
    if let Some(seconds) = arguments.timeout {
        fields.push(("timeout", Value { kind: Some(Kind::NumberValue(seconds)) }));
    }
    if arguments.stateless {
        fields.push(("stateless", Value { kind: Some(Kind::BoolValue(true)) }));
    }
    Struct { fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
}

/// The `authentication` of an instance that is sent the secret of that name.
fn bearer(reference: &str) -> Value {
    let reference = reference.strip_prefix("secret_ref:").unwrap_or(reference);
    object([("type", text("bearer")), ("token", text(&format!("secret_ref:{reference}")))])
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Value { kind: Some(Kind::StructValue(Struct { fields })) }
}

/// Answers the server of that name, or none if there is none.
pub(crate) async fn find_if_there(name: &str, connection: &Connection) -> Result<Option<Server>> {
    let request = GetServerRequest { id: String::new(), name: name.to_owned() };
    match connection.api().await?.servers().get_server(request).await {
        Ok(answer) => Ok(answer.into_inner().server),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status.into()),
    }
}

async fn find(name: &str, connection: &Connection) -> Result<Server> {
    let request = GetServerRequest { id: String::new(), name: name.to_owned() };
    let answer = connection.api().await?.servers().get_server(request).await?.into_inner();
    answer.server.context("the registry answered without the server")
}

async fn get(name: String, connection: &Connection, output: Output) -> Result<()> {
    let server = find(&name, connection).await?;
    let instances = instances_of(&server, connection).await?;
    let mut document = describe(&server);
    document["instances"] = instances.iter().map(describe_instance).collect();
    output.value(&document, || serde_json::to_string_pretty(&document).unwrap_or_default());
    Ok(())
}

/// Answers all instances of a server, over all pages.
async fn instances_of(server: &Server, connection: &Connection) -> Result<Vec<Instance>> {
    let mut instances = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListInstancesRequest { page_size: 500, page_token, server_id: server.id.clone() };
        let answer = connection.api().await?.instances().list_instances(request).await?.into_inner();
        instances.extend(answer.instances);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(instances);
        }
    }
}

async fn list(tag: String, connection: &Connection, output: Output) -> Result<()> {
    let mut servers = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListServersRequest { page_size: 500, page_token, tag: tag.clone() };
        let answer = connection.api().await?.servers().list_servers(request).await?.into_inner();
        servers.extend(answer.servers.iter().map(describe));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    output.rows(&servers, ["NAME", "VERSION", "STATUS", "VISIBILITY", "DESCRIPTION"], |server| {
        ["name", "version", "status", "visibility", "description"]
            .map(|field| server[field].as_str().unwrap_or_default().to_owned())
    });
    Ok(())
}

async fn update(arguments: Update, connection: &Connection, output: Output) -> Result<()> {
    let mut server = find(&arguments.name, connection).await?;
    let expected_revision = server.revision;
    let mut paths = Vec::new();
    if let Some(description) = arguments.description {
        server.description = description;
        paths.push("description");
    }
    if let Some(version) = arguments.version {
        server.version = version;
        paths.push("version");
    }
    if let Some(tags) = arguments.tags {
        server.tags = tags;
        paths.push("tags");
    }
    if let Some(reach) = arguments.visibility {
        server.set_visibility(reach.into());
        paths.push("visibility");
    }
    if arguments.enable || arguments.disable {
        server.set_status(if arguments.enable { ServerStatus::Enabled } else { ServerStatus::Disabled });
        paths.push("status");
    }
    let readdressed = arguments.url.is_some() || arguments.bearer_secret.is_some();
    if paths.is_empty() && !readdressed {
        bail!(
            "nothing to change: give at least one of --description, --version, --tag, --visibility, --url, \
             --bearer-secret, --enable, --disable"
        );
    }
    if readdressed {
        readdress(&server, arguments.url.as_deref(), arguments.bearer_secret.as_deref(), connection).await?;
    }
    if !paths.is_empty() {
        let update_mask = Some(FieldMask { paths: paths.into_iter().map(ToOwned::to_owned).collect() });
        let request = UpdateServerRequest { server: Some(server), update_mask, expected_revision };
        let answer = connection.api().await?.servers().update_server(request).await?.into_inner();
        server = answer.server.context("the registry answered without the server")?;
    }
    output.value(&describe(&server), || format!("updated {}", server.name));
    Ok(())
}

/// Gives the one instance of a server another address, another secret, or both.
async fn readdress(
    server: &Server,
    url: Option<&str>,
    reference: Option<&str>,
    connection: &Connection,
) -> Result<()> {
    let mut instances = instances_of(server, connection).await?;
    let Some(mut instance) = instances.pop().filter(|_| instances.is_empty()) else {
        bail!(
            "{} has not exactly one instance: change them by gRPC (InstanceService), with their ids from `portico server get {}`",
            server.name,
            server.name
        );
    };
    let expected_revision = instance.revision;
    let fields = &mut instance.json_spec.get_or_insert_default().fields;
    if let Some(url) = url {
        fields.insert("endpoint".to_owned(), text(url));
    }
    if let Some(reference) = reference {
        fields.insert("authentication".to_owned(), bearer(reference));
    }
    let update_mask = Some(FieldMask { paths: vec!["json_spec".to_owned()] });
    let request = UpdateInstanceRequest { instance: Some(instance), update_mask, expected_revision };
    connection.api().await?.instances().update_instance(request).await?;
    Ok(())
}

async fn delete(name: String, connection: &Connection, output: Output) -> Result<()> {
    let server = find(&name, connection).await?;
    let request = DeleteServerRequest { id: server.id, expected_revision: server.revision };
    connection.api().await?.servers().delete_server(request).await?;
    output.value(&json!({ "deleted": name }), || format!("deleted {name}"));
    Ok(())
}

fn describe(server: &Server) -> serde_json::Value {
    json!({
        "id": server.id,
        "name": server.name,
        "description": server.description,
        "version": server.version,
        "tags": server.tags,
        "status": server.status().as_str_name().trim_start_matches("SERVER_STATUS_").to_lowercase(),
        "visibility": server.visibility().as_str_name().trim_start_matches("VISIBILITY_").to_lowercase(),
        "owner": server.owner,
        "revision": server.revision,
    })
}

fn describe_instance(instance: &Instance) -> serde_json::Value {
    let endpoint = instance.json_spec.as_ref().and_then(|spec| spec.fields.get("endpoint"));
    let url = endpoint.and_then(|endpoint| match &endpoint.kind {
        Some(Kind::StringValue(url)) => Some(url),
        _ => None,
    });
    json!({
        "id": instance.id,
        "name": instance.name,
        "url": url,
        "status": instance.status().as_str_name().trim_start_matches("INSTANCE_STATUS_").to_lowercase(),
        "reason": instance.status_reason,
        "checked_at": instance.checked_at.as_ref().map(ToString::to_string),
        "protocol_versions": instance.protocol_versions,
    })
}
