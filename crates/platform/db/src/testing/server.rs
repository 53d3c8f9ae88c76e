//! A Postgres server of a test's own: to stop it, to restart it, to speak TLS with it.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tokio::net::TcpSocket;

/// A server that runs until it is dropped, on a port of 127.0.0.1 and with the files of a temporary directory.
#[derive(Debug)]
pub struct OwnPostgres {
    dir: TempDir,
    binaries: PathBuf,
    /// Bound, so that nobody else is given it while the server is down. A server may bind it too as long as nobody listens.
    port: TcpSocket,
}

/// What the server shows to those who connect by TLS, as PEM.
#[derive(Clone, Copy, Debug)]
pub struct ServerTls<'a> {
    /// Its certificate.
    pub certificate: &'a str,
    /// The key of that.
    pub key: &'a str,
}

impl OwnPostgres {
    /// Starts a server, if this suite tests with Postgres at all and its programs are installed. With `tls` it lets
    /// nobody in without TLS.
    #[must_use]
    pub fn start(tls: Option<ServerTls<'_>>) -> Option<Self> {
        super::postgres_url()?;
        let binaries = binaries()?;
        let dir = tempfile::Builder::new().prefix("portico-own-postgres-").tempdir().expect("a directory");
        let server = Self { dir, binaries, port: free_port().expect("a port") };
        let port = server.port();
        server.give_to_server();
        let data = server.path("data");
        server.run("initdb", &["-D", &data, "-U", "portico", "--auth=trust", "-E", "UTF8", "--no-sync"]);
        let mut settings = format!(
            "\nport = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n",
            server.path("")
        );
        if let Some(ServerTls { certificate, key }) = tls {
            server.write("server.pem", certificate);
            server.write("server-key.pem", key);
            server.write("hba.conf", "local all all trust\nhostssl all all 127.0.0.1/32 trust\n");
            settings.push_str("ssl = on\nssl_min_protocol_version = 'TLSv1.3'\n");
            let files = [
                ("ssl_cert_file", "server.pem"),
                ("ssl_key_file", "server-key.pem"),
                ("hba_file", "hba.conf"),
            ];
            settings.extend(files.map(|(name, file)| format!("{name} = '{}'\n", server.path(file))));
        }
        let file = server.dir.path().join("data/postgresql.auto.conf");
        fs::write(file, settings).expect("the server's settings are written");
        server.give_to_server();
        server.up();
        Some(server)
    }

    /// Starts it again after [`OwnPostgres::down`], on the same port.
    pub fn up(&self) {
        self.run("pg_ctl", &["-D", &self.path("data"), "-w", "-l", &self.path("server.log"), "start"]);
    }

    /// Ends it as a crash would: nobody is told.
    pub fn down(&self) {
        self.run("pg_ctl", &["-D", &self.path("data"), "-m", "immediate", "-w", "stop"]);
    }

    /// Returns a URL with some parameters, `sslmode=require` for example.
    #[must_use]
    pub fn url(&self, parameters: &str) -> String {
        format!("postgres://portico@127.0.0.1:{}/postgres?{parameters}", self.port())
    }

    fn port(&self) -> u16 {
        self.port.local_addr().expect("a bound socket").port()
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, content).expect("a file of the server is written");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(path, private).expect("a file of the server is made private");
    }

    /// Postgres refuses to run as root, so root lends it the user of the Debian package.
    fn give_to_server(&self) {
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres"]).arg(self.dir.path()));
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.binaries.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        run(command.args(arguments).current_dir(self.dir.path()));
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        // It may be down already.
        let status = self.dir.path().join("data/postmaster.pid");
        if status.exists() {
            self.down();
        }
    }
}

fn free_port() -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    Ok(socket)
}

fn run(command: &mut Command) {
    // Not inherited: a server that outlives a failed test would keep the runner waiting for the end of its output.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "{command:?}: {status:?}");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The newest server that is installed where Debian installs them.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let numbered = versions.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
    });
    numbered.filter(|(_, path)| path.join("initdb").exists()).max().map(|(_, path)| path)
}
