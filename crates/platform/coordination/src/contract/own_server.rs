//! A Redis of one test, which it may stop, kill and empty.

use std::{path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    net::TcpSocket,
    process::{Child, Command},
};

use super::in_redis;

/// A server that ends with the test.
pub(crate) struct OwnServer {
    child: Child,
    dir: TempDir,
    port: FreePort,
    options: Vec<String>,
    url: String,
}

impl OwnServer {
    /// Starts a server; nothing, with a notice, where there is no Redis to test with.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(|_| Vec::new()).await
    }

    /// Starts a server with further options, for which files may be written into its directory.
    pub(crate) async fn start_with(options: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        in_redis::url()?;
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        let port = FreePort::find();
        let url = format!("redis://127.0.0.1:{}", port.number);
        let child = run(dir.path(), port.number, &options);
        let mut server = Self { child, dir, port, options, url };
        server.listens().await;
        Some(server)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the server at once; what it held is lost.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        self.child = run(self.dir.path(), self.port.number, &self.options);
        self.listens().await;
    }

    async fn listens(&mut self) {
        let give_up = tokio::time::Instant::now() + Duration::from_secs(10);
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port.number)).await.is_err() {
            assert!(tokio::time::Instant::now() < give_up, "redis-server does not listen");
            assert!(self.child.try_wait().unwrap().is_none(), "redis-server does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets the server hang with its connections open (`STOP`) or go on (`CONT`).
    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid).status().await.unwrap();
        assert!(sent.success());
    }
}

/// A port that nobody else is given, also while no server listens on it: it is bound, and a server may bind it as well as
/// long as nobody listens.
pub(crate) struct FreePort {
    pub(crate) number: u16,
    _bound: TcpSocket,
}

impl FreePort {
    pub(crate) fn find() -> Self {
        let bound = TcpSocket::new_v4().unwrap();
        bound.set_reuseaddr(true).unwrap();
        bound.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self { number: bound.local_addr().unwrap().port(), _bound: bound }
    }
}

/// The first one of the options may be a file with settings; it has to stand before all others.
fn run(dir: &Path, port: u16, options: &[String]) -> Child {
    let file = usize::from(options.first().is_some_and(|option| !option.starts_with("--")));
    let (file, options) = options.split_at(file);
    Command::new("redis-server")
        .args(file)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(dir)
        .args(options)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is in the PATH")
}
