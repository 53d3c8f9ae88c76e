//! `portico` as a process.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::Plan;
use crate::{DEADLINE, eventually, within};

/// How long a verb of the command line may take: some wait as long as they are told to.
const PATIENCE: Duration = Duration::from_mins(1);

/// A `portico dev`. It is killed when it is dropped.
#[derive(Debug)]
pub struct Child {
    process: Mutex<Option<tokio::process::Child>>,
    id: u32,
    log: PathBuf,
    /// Where its own output begins: all processes of a plan write to one log.
    begin: u64,
    ready_file: PathBuf,
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    pub code: Option<i32>,
    pub output: String,
}

impl Child {
    /// Starts it and waits for the ready file.
    pub async fn start(plan: &Plan) -> Self {
        let child = Self::spawn(plan, &[]);
        let ready = async || {
            let ended = child.process.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "portico dev ended with {ended:?}:\n{}", child.output());
            // It is written in one step.
            child.ready_file.exists().then_some(())
        };
        eventually(DEADLINE, "the ready file", ready).await;
        child
    }

    /// Starts it with further arguments and does not wait.
    #[must_use]
    pub fn spawn(plan: &Plan, arguments: &[&str]) -> Self {
        let ready_file = plan.ready_file();
        let _ = std::fs::remove_file(&ready_file);
        let log = plan.data.path().join("log");
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let begin = output.metadata().unwrap().len();
        let mut command = portico();
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
            .arg(plan.data_dir())
            .arg("--ready-file")
            .arg(&ready_file)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        for (key, value) in &plan.settings {
            command.env(format!("PORTICO_{}", key.to_uppercase().replace('.', "__")), value);
        }
        let process = command.spawn().expect("portico starts");
        let id = process.id().unwrap();
        Self { process: Mutex::new(Some(process)), id, log, begin, ready_file }
    }

    #[must_use]
    pub fn ready_file(&self) -> Vec<u8> {
        std::fs::read(&self.ready_file).unwrap()
    }

    /// Everything that it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        let mut log = std::fs::File::open(&self.log).unwrap();
        log.seek(SeekFrom::Start(self.begin)).unwrap();
        let mut output = Vec::new();
        log.read_to_end(&mut output).unwrap();
        String::from_utf8_lossy(&output).into_owned()
    }

    /// How long its threads have stood ready while others had the processors: what a busy machine adds to all that it does.
    #[must_use]
    pub fn kept_waiting(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id)).unwrap();
        let waits = threads.filter_map(|thread| {
            let times = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            times.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        Duration::from_nanos(waits.sum())
    }

    pub fn signal(&self, name: &str) {
        let sent =
            std::process::Command::new("kill").args([&format!("-{name}"), &self.id.to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end.
    pub async fn exit(&self) -> Exit {
        let mut process = self.process.lock().unwrap().take().expect("a process that nobody has waited for");
        let status = within(DEADLINE, "the end of portico dev", process.wait()).await.unwrap();
        Exit { code: status.code(), output: self.output() }
    }
}

/// The binary lies beside the test binaries: Cargo builds it for them.
fn portico() -> Command {
    let test = std::env::current_exe().unwrap();
    let mut command = Command::new(test.ancestors().nth(2).unwrap().join("portico-under-test"));
    command.kill_on_drop(true).env_remove("PORTICO_READY_FILE");
    command
}

/// A person's home directory, where the command line saves a sign-in.
#[derive(Debug)]
pub struct Home(tempfile::TempDir);

impl Default for Home {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Home {
    fn portico(&self) -> Command {
        let mut command = portico();
        command.env("XDG_CONFIG_HOME", self.0.path()).current_dir(self.0.path());
        command
    }

    /// Runs a command as the person.
    pub async fn run(&self, arguments: &[&str]) -> Exit {
        run(self.portico(), arguments, "").await
    }

    /// Runs `portico login`; `browser` is given the address that it prints and comes back when the person is done.
    pub async fn login(&self, origin: &str, browser: impl AsyncFnOnce(String)) -> Exit {
        self.sign_in(&["login", origin, "--no-browser"], browser).await
    }

    /// Runs a command that has the person sign in.
    pub async fn sign_in(&self, arguments: &[&str], browser: impl AsyncFnOnce(String)) -> Exit {
        let mut login = self.portico();
        login.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = login.spawn().expect("portico starts");
        let mut printed = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut output = String::new();
        let address = async {
            loop {
                let line = printed.next_line().await.unwrap().expect("an address to open");
                if let Some(at) = line.find("http") {
                    return line[at..].trim().to_owned();
                }
            }
        };
        let address = within(DEADLINE, "the address to open", address).await;
        browser(address).await;
        process.stdout.take().unwrap().read_to_string(&mut output).await.unwrap();
        while let Ok(Some(line)) = printed.next_line().await {
            output += &line;
        }
        let status = within(DEADLINE, "the end of the sign-in", process.wait()).await.unwrap();
        Exit { code: status.code(), output }
    }

    /// The file of the saved sign-in.
    #[must_use]
    pub fn login_file(&self) -> PathBuf {
        self.0.path().join("portico/login.json")
    }
}

/// Runs a command of `portico` to its end.
pub async fn command(arguments: &[&str], input: &str) -> Exit {
    run(portico(), arguments, input).await
}

/// Runs a verb whose answer nobody reads: the pipe is closed, as it is after `portico … | head`.
pub async fn unread(arguments: &[&str]) -> Exit {
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let process =
        portico().args(arguments).stdout(closed).stderr(Stdio::piped()).spawn().expect("portico starts");
    let ended = within(PATIENCE, "a command", process.wait_with_output()).await.unwrap();
    Exit { code: ended.status.code(), output: String::from_utf8_lossy(&ended.stderr).into_owned() }
}

async fn run(mut portico: Command, arguments: &[&str], input: &str) -> Exit {
    let mut process = portico
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("portico starts");
    process.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let (mut out, mut err) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
    let (mut output, mut errors) = (String::new(), String::new());
    let run = async {
        let (out, err) = tokio::join!(out.read_to_string(&mut output), err.read_to_string(&mut errors));
        out.and(err).unwrap();
        process.wait().await.unwrap()
    };
    let status = within(PATIENCE, "a command", run).await;
    Exit { code: status.code(), output: output + &errors }
}
