//! Making a connection.

use std::{path::PathBuf, time::Duration};

use portico_settings::Secret;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    PushInfo, TlsCertificates, aio::MultiplexedConnection,
};
use secrecy::ExposeSecret as _;

use super::kind::{self, Unusable};
use crate::{CoordinationSettings, SetupError};

/// The longest that making a connection may take, with name look-up, TLS and authentication.
const CONNECT: Duration = Duration::from_secs(2);
/// How many questions may wait for the socket.
const QUEUE: usize = 1024;
/// How many questions may wait for their answer.
const IN_FLIGHT: usize = 4096;
/// What a PEM file of authorities holds at least once.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Connects to the Redis of the settings. Files are read each time, so that what was rotated is used.
#[derive(Debug)]
pub(crate) struct Dialer {
    url: Secret,
    ca: Option<PathBuf>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("{0}")]
    Redis(#[from] redis::RedisError),
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

impl Dialer {
    /// Checks the settings without connecting.
    pub(crate) fn new(settings: &CoordinationSettings) -> Result<Self, SetupError> {
        let url = settings.redis_url.clone().ok_or(SetupError::NoUrl)?;
        let dialer = Self { url, ca: settings.ca.clone() };
        dialer.client()?;
        Ok(dialer)
    }

    /// Connects; no answer may take longer than `deadline`, and what is published arrives at `push`.
    pub(super) async fn dial(
        &self,
        deadline: Duration,
        push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, DialError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(deadline))
            .set_pipeline_buffer_size(QUEUE)
            .set_concurrency_limit(IN_FLIGHT)
            .set_push_sender(move |info| {
                push(info);
                Ok::<_, redis::aio::SendError>(())
            });
        let mut connection = self.client()?.get_multiplexed_async_connection_with_config(&config).await?;
        kind::check(&mut connection).await?;
        Ok(connection)
    }

    fn client(&self) -> Result<Client, SetupError> {
        let url = self.url.load().map_err(SetupError::Secret)?;
        let info = parse(url.expose_secret().trim())?;
        let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        match &self.ca {
            None => Client::open(info).map_err(|_| SetupError::Malformed),
            Some(_) if !tls => Err(SetupError::CaWithoutTls),
            Some(path) => {
                let pem =
                    std::fs::read(path).map_err(|source| SetupError::Ca { path: path.clone(), source })?;
                if !pem.windows(BEGIN.len()).any(|window| window == BEGIN) {
                    return Err(SetupError::CaMalformed(path.clone()));
                }
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
                Client::build_with_tls(info, certificates).map_err(|_| SetupError::CaMalformed(path.clone()))
            }
        }
    }
}

/// Reads a URL of the two schemes that the settings allow; RESP3 brings answers and messages on one connection.
fn parse(url: &str) -> Result<ConnectionInfo, SetupError> {
    // `insecure` at the end of a rediss:// URL would switch the verification of certificates off.
    if !(url.starts_with("redis://") || url.starts_with("rediss://")) || url.contains('#') {
        return Err(SetupError::Malformed);
    }
    let info = url.into_connection_info().map_err(|_| SetupError::Malformed)?;
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
    // Questions of many callers follow one another closely: none shall wait for the answer to the one before it.
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    Ok(info.set_redis_settings(redis).set_tcp_settings(tcp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialer(url: &str, ca: Option<PathBuf>) -> Result<Dialer, SetupError> {
        let redis_url = Some(Secret::inline(url.into()));
        Dialer::new(&CoordinationSettings { redis_url, ca })
    }

    #[test]
    fn an_unusable_setting_is_refused_before_anything_is_dialled() {
        assert!(matches!(Dialer::new(&CoordinationSettings::default()), Err(SetupError::NoUrl)));
        for url in ["", "localhost", "http://h", "unix:///tmp/s", "redis://", "rediss://h/#insecure"] {
            let refused = dialer(url, None).unwrap_err();
            assert!(matches!(refused, SetupError::Malformed), "{url}: {refused:?}");
        }
        for url in ["redis://h", "redis://u:p@h:1/2", "rediss://:p@h:6380"] {
            dialer(url, None).unwrap();
        }
    }

    #[test]
    fn an_authority_needs_tls_and_a_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(matches!(dialer("redis://h", Some(path.clone())), Err(SetupError::CaWithoutTls)));
        assert!(matches!(dialer("rediss://h", Some(path.clone())), Err(SetupError::Ca { .. })));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(matches!(dialer("rediss://h", Some(path)), Err(SetupError::CaMalformed(_))));
    }

    #[test]
    fn a_refused_url_does_not_show_its_password() {
        let refused = dialer("http://user:hunter2@h", None).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }
}
