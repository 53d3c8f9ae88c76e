//! The loopback listener that the browser comes back to (RFC 8252 §7.3).

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

/// The longest request line that is read.
const MOST_BYTES: u64 = 8 * 1024;
/// How long one connection may take: browsers open some that they never use.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most connections at the same time.
const MOST_OPEN: usize = 16;

/// A listener on a free loopback port.
#[derive(Debug)]
pub(super) struct Callback {
    listener: TcpListener,
    port: u16,
}

/// What the browser has to bring back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) state: &'a str,
    pub(super) issuer: &'a str,
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

    /// Waits for the browser and gives the code that it brings. Requests for anything else (a favicon, a probe) and
    /// those that do not know this sign-in's state are answered and forgotten: any page can send some.
    pub(super) async fn wait(self, expected: Expected<'_>) -> Result<String> {
        let mut open = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if open.len() < MOST_OPEN => {
                    open.push(tokio::time::timeout(PATIENCE, answer(accepted?.0, expected)));
                }
                Some(answered) = open.next() => {
                    if let Ok(Some(outcome)) = answered {
                        return outcome;
                    }
                }
            }
        }
    }
}

async fn answer(stream: TcpStream, expected: Expected<'_>) -> Option<Result<String>> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    tokio::io::AsyncReadExt::take(&mut stream, MOST_BYTES).read_line(&mut line).await.ok()?;
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let url = Url::parse("http://127.0.0.1").ok()?.join(target).ok()?;
    let mut parameters: HashMap<String, String> = url.query_pairs().into_owned().collect();
    if url.path() != "/callback" || parameters.get("state").map(String::as_str) != Some(expected.state) {
        respond(stream, "404 Not Found", "There is nothing here.").await;
        return None;
    }
    // RFC 9207 §2.4: a code of another server is not taken to this one.
    let from_there = parameters.get("iss").map(String::as_str) == Some(expected.issuer);
    let outcome = match parameters.remove("code") {
        Some(code) if from_there => Ok(code),
        Some(_) => Err(anyhow!("another server than {} answered; nothing was saved", expected.issuer)),
        None => refused(&parameters),
    };
    let text = match &outcome {
        Ok(_) => "You are signed in. You can close this window and go back to the terminal.",
        Err(_) => "The sign-in did not succeed. The terminal says why.",
    };
    respond(stream, "200 OK", text).await;
    Some(outcome)
}

fn refused(parameters: &HashMap<String, String>) -> Result<String> {
    let text = |name: &str| parameters.get(name).map_or("", String::as_str);
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

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected<'static> = Expected { state: "s", issuer: "https://portico.example" };

    /// Sends requests after a connection that never says anything, as browsers open them.
    async fn answered(queries: &[&str]) -> Result<String> {
        let callback = Callback::listen().await.unwrap();
        let address = ("127.0.0.1", callback.port);
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut browser = Vec::new();
        for query in queries {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET /callback?{query} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            browser.push(stream);
        }
        callback.wait(EXPECTED).await
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_holds_up_no_sign_in() {
        assert_eq!(answered(&["code=c&state=s&iss=https%3A%2F%2Fportico.example"]).await.unwrap(), "c");
        assert!(answered(&["error=access_denied&state=s"]).await.is_err());
    }

    #[tokio::test]
    async fn a_page_that_does_not_know_the_state_ends_no_sign_in() {
        let good = "code=c&state=s&iss=https%3A%2F%2Fportico.example";
        assert_eq!(answered(&["error=access_denied&state=x", "code=other", good]).await.unwrap(), "c");
    }

    #[tokio::test]
    async fn cl_02_a_code_of_another_server_is_not_taken() {
        assert!(answered(&["code=c&state=s&iss=https%3A%2F%2Fevil.example"]).await.is_err());
        assert!(answered(&["code=c&state=s"]).await.is_err());
    }
}
