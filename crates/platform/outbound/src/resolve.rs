//! Turning a name into addresses; a parameter, so that a test decides what a name means and when it changes.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

/// A resolution under way.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Resolves host names.
pub trait Resolve: Send + Sync + Debug {
    /// Returns the addresses of a name, with the port.
    fn resolve(&self, host: &str, port: u16) -> Resolving;
}

/// The system's resolver (`/etc/hosts`, DNS …).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}
