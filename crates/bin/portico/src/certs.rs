//! `portico certs`: the certificates by which the services of one deployment know one another.

mod authority;
mod files;

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Result, bail};
use chrono::{SecondsFormat, TimeDelta};
use clap::{Args, Subcommand};
use portico_clock::{Clock as _, SystemClock};
use portico_ids::SystemRng;
use portico_transport::PeerIdentity;
use serde_json::json;

use self::authority::{Authority, Leaf, Tools};
use self::files::CertificateFiles;
use crate::output::Output;

/// Stem of the CA's files; no service may have this name.
const AUTHORITY: &str = "ca";
const LEAF_DAYS: u32 = 30;
const AUTHORITY_DAYS: u32 = 365;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the CA of a deployment: DIR/ca.pem and DIR/ca-key.pem
    Init(InitArguments),
    /// Issue a service's certificate, or renew it with the same names: OUT/SERVICE.pem and OUT/SERVICE-key.pem
    Issue(IssueArguments),
}

#[derive(Debug, Args)]
struct InitArguments {
    /// Where the CA lives
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// How long the CA is good for
    #[arg(long, value_name = "DAYS", default_value_t = AUTHORITY_DAYS, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Give the CA that is there a new end and keep its key: what it has issued stays good
    #[arg(long)]
    renew: bool,
    /// Leave a CA that is there as it is, and succeed: for jobs that run at every start
    #[arg(long, conflicts_with = "renew")]
    if_missing: bool,
}

#[derive(Debug, Args)]
struct IssueArguments {
    /// The service, such as gateway; its certificate names it and nobody else
    service: String,
    /// Where the CA lives
    #[arg(long, value_name = "DIRECTORY")]
    dir: PathBuf,
    /// A DNS name that the certificate names too; may be repeated
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// An address that the certificate names too; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    ip: Vec<IpAddr>,
    /// How long the certificate is good for
    #[arg(long, value_name = "DAYS", default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=825))]
    days: u32,
    /// How long the certificate is good for, in seconds: for drills that watch one end
    #[arg(long, value_name = "SECONDS", conflicts_with = "days", hide = true)]
    seconds: Option<u32>,
    /// Where certificate and key go, with a copy of the CA's certificate; without it, beside the CA
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments, output: Output) -> Result<()> {
    match arguments.verb {
        Verb::Init(init) => make_authority(&init, output),
        Verb::Issue(issue) => issue_certificate(issue, output),
    }
}

fn make_authority(arguments: &InitArguments, output: Output) -> Result<()> {
    let files = CertificateFiles::new(&arguments.dir, AUTHORITY);
    let tools = Tools { now: SystemClock.now(), rng: &SystemRng };
    let life = TimeDelta::days(arguments.days.into());
    let authority = if arguments.renew {
        let renewed = Authority::read(&files)?.renew(life, &tools)?;
        renewed.replace(&files)?;
        renewed
    } else if arguments.if_missing && files.key.exists() {
        Authority::read(&files)?
    } else {
        let authority = Authority::generate(life, &tools)?;
        authority.create(&files)?;
        authority
    };
    let until = authority.not_after().to_rfc3339_opts(SecondsFormat::Secs, true);
    let answer =
        json!({ "cert": files.cert, "key": files.key, "name": authority.name(), "not_after": until });
    output.value(&answer, || {
        format!(
            "the CA is {} (`{}`, good until {until})\nits key is {}: whoever has it can be any service, keep it off the services' machines",
            files.cert.display(),
            authority.name(),
            files.key.display()
        )
    });
    Ok(())
}

fn issue_certificate(arguments: IssueArguments, output: Output) -> Result<()> {
    let identity = PeerIdentity::parse(&PeerIdentity::new(&arguments.service).spiffe_id());
    if identity.is_err() || arguments.service == AUTHORITY {
        bail!(
            "`{}` cannot be a service's name: use lower-case letters, digits and `-`, such as gateway, auth-server, registry, worker",
            arguments.service.escape_default()
        );
    }
    let authority = Authority::read(&CertificateFiles::new(&arguments.dir, AUTHORITY))?;
    let out = arguments.out.as_ref().unwrap_or(&arguments.dir);
    let files = CertificateFiles::new(out, &arguments.service);
    let renewed = files.cert.exists();
    let (mut dns, mut ip) = (arguments.dns, arguments.ip);
    if renewed && dns.is_empty() && ip.is_empty() {
        // Whoever renews wants the same certificate again.
        (dns, ip) = authority::names_of(&files.cert)?;
    }
    let days = TimeDelta::days(arguments.days.into());
    let leaf = Leaf {
        service: arguments.service,
        dns,
        ip,
        life: arguments.seconds.map_or(days, |seconds| TimeDelta::seconds(seconds.into())),
    };
    let issued = authority.issue(&leaf, &Tools { now: SystemClock.now(), rng: &SystemRng })?;
    // The CA first: a service that finds its certificate finds who signed it.
    if *out != arguments.dir {
        authority.replace(&CertificateFiles::new(out, AUTHORITY))?;
    }
    files.replace(&issued.cert, Some(&issued.key))?;
    if issued.cut_short {
        output.note("it ends with the CA, earlier than asked for: `portico certs init --renew` gives the CA a new end");
    }
    let until = issued.not_after.to_rfc3339_opts(SecondsFormat::Secs, true);
    let answer = json!({
        "service": leaf.service, "cert": files.cert, "key": files.key, "not_after": until, "renewed": renewed,
    });
    output.value(&answer, || {
        let what = if renewed { "renewed" } else { "issued" };
        let running = if renewed { "\nrunning services use it within 10 s, without a restart" } else { "" };
        format!("{what} {} and {} (good until {until}){running}", files.cert.display(), files.key.display())
    });
    Ok(())
}

#[cfg(test)]
mod tests;
