//! The loopback listener that the browser comes back to (RFC 8252 §7.3).

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// The longest request line that is read.
const MOST_BYTES: u64 = 8 * 1024;

/// A listener on a free loopback port.
#[derive(Debug)]
pub(super) struct Callback {
    listener: TcpListener,
    port: u16,
}

/// What the authorization server sent with the browser.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) code: String,
    pub(super) state: String,
}

impl Callback {
    pub(super) async fn listen() -> Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("no loopback port is free for the sign-in")?;
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    pub(super) fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}/callback", self.port)
    }

    /// Waits for the browser. Requests for anything else (a favicon, a probe) are answered and forgotten.
    pub(super) async fn wait(self) -> Result<Granted> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if let Some(outcome) = answer(stream).await {
                return outcome;
            }
        }
    }
}

async fn answer(stream: TcpStream) -> Option<Result<Granted>> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    tokio::io::AsyncReadExt::take(&mut stream, MOST_BYTES).read_line(&mut line).await.ok()?;
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let url = Url::parse("http://127.0.0.1").ok()?.join(target).ok()?;
    if url.path() != "/callback" {
        respond(stream, "404 Not Found", "There is nothing here.").await;
        return None;
    }
    let mut parameters: HashMap<String, String> = url.query_pairs().into_owned().collect();
    let outcome = match (parameters.remove("code"), parameters.remove("state")) {
        (Some(code), Some(state)) => Ok(Granted { code, state }),
        _ => refused(&parameters),
    };
    let text = match &outcome {
        Ok(_) => "You are signed in. You can close this window and go back to the terminal.",
        Err(_) => "The sign-in did not succeed. The terminal says why.",
    };
    respond(stream, "200 OK", text).await;
    Some(outcome)
}

fn refused(parameters: &HashMap<String, String>) -> Result<Granted> {
    let text = |name: &str| crate::output::printable(parameters.get(name).map_or("", String::as_str));
    bail!("the authorization server refused: {} {}", text("error"), text("error_description"))
}

/// Answers in plain text: what the server said is never put into a page.
async fn respond(mut stream: BufReader<TcpStream>, status: &str, text: &str) {
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    drop(stream.write_all(answer.as_bytes()).await);
    drop(stream.shutdown().await);
}
