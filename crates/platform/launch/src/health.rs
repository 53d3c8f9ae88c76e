//! Asking a running program how it is, for containers without a shell.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long connecting, asking and each wait for a part of the answer may take.
const LIMIT: Duration = Duration::from_secs(2);
/// More than the list of checks ever is.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Why a program is not well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unwell {
    /// Nobody answers.
    #[error("{address} does not answer")]
    Silent {
        /// Where it was asked.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It says what is missing.
    #[error("not ready: {0}")]
    NotReady(String),
}

/// Asks the process that listens on `admin_listen` of this machine whether it is ready, or only whether it lives. Blocks.
pub(crate) fn ask(admin_listen: SocketAddr, live: bool) -> Result<(), Unwell> {
    let address = reachable(admin_listen);
    let silent = |source| Unwell::Silent { address, source };
    let answer = get(address, if live { "/livez" } else { "/readyz" }).map_err(silent)?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
    Err(Unwell::NotReady(body.to_owned()))
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(LONGEST_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

/// An address that means "every interface" is asked on the loopback one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
