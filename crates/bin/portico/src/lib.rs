//! `portico`: the command line for people, and `portico dev`, every service in one process.

mod audit;
mod backup;
mod call;
mod certs;
mod config;
mod connection;
mod demo_server;
pub mod dev;
mod endpoint;
mod failure;
mod grant;
mod keys;
mod login;
mod output;
mod restore;
mod role;
mod secret;
mod server;
mod service_account;
mod token;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::connection::Connection;
use crate::output::Output;

/// One front door for every MCP server, agent and team of an organisation.
#[derive(Debug, Parser)]
#[command(name = "portico", version)]
struct Arguments {
    /// The file that a running `portico dev` wrote; without it a `.portico/ready.json` here, then the saved login
    #[arg(long, global = true, env = "PORTICO_READY_FILE", value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run everything in one process, for trying out and for developing
    Dev(dev::Arguments),
    /// Run the demo MCP server by itself
    DemoServer(demo_server::Arguments),
    /// Sign in to a Portico and remember it
    Login(login::LoginArguments),
    /// Forget the saved sign-in and revoke its token
    Logout,
    /// Register and manage MCP servers
    Server(server::Arguments),
    /// Publish routes: one server, or a virtual server of several
    Endpoint(endpoint::Arguments),
    /// Store credentials that servers need
    Secret(secret::Arguments),
    /// Print an access token for an endpoint
    Token(token::Arguments),
    /// Call a tool through the gateway, or list the tools of an endpoint
    Call(call::Arguments),
    /// Read the record of who did what
    Audit(audit::Arguments),
    /// Manage people
    User(user::Arguments),
    /// Manage roles
    Role(role::Arguments),
    /// Manage identities for jobs and agents without a person
    ServiceAccount(service_account::Arguments),
    /// Give a principal a role on an endpoint: PRINCIPAL ROLE ENDPOINT, or list and revoke
    Grant(grant::Arguments),
    /// Make the certificates by which services know one another
    Certs(certs::Arguments),
    /// Make and rotate keys
    Keys(keys::Arguments),
    /// Copy every database into one file, while Portico runs
    Backup(backup::Arguments),
    /// Put the databases of a backup back
    Restore(restore::Arguments),
    /// Check and describe settings
    Config(config::Arguments),
}

/// Reads the process's arguments, does what they say, and answers the exit code.
#[must_use]
pub fn main() -> ExitCode {
    portico_process::install_crypto_provider();
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(&anyhow::Error::new(error).context("the asynchronous runtime does not start"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(Box::pin(run(arguments, output)))
}

async fn run(arguments: Arguments, output: Output) -> ExitCode {
    let outcome = match arguments.verb {
        Verb::Dev(dev) => return dev::run(dev, arguments.ready_file, output).await,
        Verb::DemoServer(demo) => match demo_server::run(demo, output).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Verb::Config(config) => config::run(&config, output),
        Verb::Certs(certs) => certs::run(certs, output),
        Verb::Backup(backup) => backup::run(backup, output).await,
        Verb::Restore(restore) => Box::pin(restore::run(restore, output)).await,
        Verb::Keys(keys) => keys::run(keys, arguments.ready_file.as_deref(), output).await,
        Verb::Login(login) => login::log_in(login, output).await,
        verb => match Connection::find(arguments.ready_file.as_deref()) {
            Ok(connection) => Box::pin(with_connection(verb, connection, output)).await,
            Err(error) => Err(error),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.failure(&error);
            ExitCode::FAILURE
        }
    }
}

async fn with_connection(verb: Verb, connection: Connection, output: Output) -> anyhow::Result<()> {
    match verb {
        Verb::Logout => login::log_out(&connection, output).await,
        Verb::Server(server) => server::run(server, &connection, output).await,
        Verb::Endpoint(endpoint) => endpoint::run(endpoint, &connection, output).await,
        Verb::Secret(secret) => secret::run(secret, &connection, output).await,
        Verb::Token(token) => token::run(token, &connection, output).await,
        Verb::Call(call) => Box::pin(call::run(call, &connection, output)).await,
        Verb::Audit(audit) => audit::run(audit, &connection, output).await,
        Verb::User(user) => user::run(user, &connection, output).await,
        Verb::Role(role) => role::run(role, &connection, output).await,
        Verb::ServiceAccount(account) => service_account::run(account, &connection, output).await,
        Verb::Grant(grant) => grant::run(grant, &connection, output).await,
        Verb::Dev(_)
        | Verb::DemoServer(_)
        | Verb::Config(_)
        | Verb::Certs(_)
        | Verb::Keys(_)
        | Verb::Backup(_)
        | Verb::Restore(_)
        | Verb::Login(_) => {
            unreachable!("these verbs need no running Portico")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_verb_and_option_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
