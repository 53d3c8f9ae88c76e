//! What tests of programs start from: keys, certificates, and no Redis.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "for tests only, where a panic is the answer"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portico_clock::SystemClock;
use portico_coordination::CoordinationSettings;
use portico_ids::{SeededRng, SystemRng};
use portico_process::{Readiness, Tasks};
use portico_sealing::{KeyRing, KeyRingSettings};
use portico_settings::Secret;
use portico_telemetry::Metrics;
use portico_transport::{ClientTls, Link, PeerIdentity, ServiceAddress, TestCa, TlsFiles};
use tempfile::TempDir;

use crate::program::{Failure, Ground, Program, Started, start};

/// A deployment of nothing but its files.
#[derive(Debug)]
pub struct TestDeployment {
    directory: TempDir,
    /// Signs the services' certificates.
    pub ca: TestCa,
}

impl TestDeployment {
    /// Makes keys and a CA.
    #[expect(clippy::new_without_default, reason = "it writes files")]
    pub fn new() -> Self {
        portico_process::install_crypto_provider();
        let deployment = Self { directory: tempfile::tempdir().unwrap(), ca: TestCa::new() };
        KeyRing::generate_file(&deployment.path("keys.json"), &SeededRng::new(7)).unwrap();
        deployment
    }

    /// Names a file of the deployment.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The section `keys`.
    pub fn keys(&self) -> KeyRingSettings {
        KeyRingSettings { file: Some(self.path("keys.json")) }
    }

    /// The section `tls` of a service.
    pub fn tls(&self, service: &str) -> TlsFiles {
        self.ca.issue(self.directory.path(), service)
    }

    /// The section `coordination`: a Redis that is down.
    pub fn no_redis(&self) -> CoordinationSettings {
        let url = "redis://127.0.0.1:1/".to_owned();
        CoordinationSettings { redis_url: Some(Secret::inline(url.into())), ca: None }
    }

    /// Makes a link to a service with a certificate, whoever it is for.
    pub fn link(&self, address: SocketAddr, service: &str, files: TlsFiles) -> Link {
        let tls = ClientTls::mutual(files, PeerIdentity::new(service)).unwrap();
        ServiceAddress::parse(&address.to_string()).unwrap().dial(tls)
    }
}

/// An address of this machine with a port that the system chooses.
pub fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// What a service stands on, with nothing on it.
pub fn ground() -> Ground {
    let tasks = Tasks::new();
    Ground {
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng),
        metrics: Metrics::new(),
        readiness: Readiness::new().draining_with(tasks.drain_token()),
        tasks,
        admin: any_port(),
    }
}

/// Plans and starts a program in this process.
pub async fn launch<P: Program>(settings: P::Settings) -> Result<(Ground, Started), Failure> {
    start::<P>(P::plan(settings)?, any_port(), Metrics::new(), Tasks::new()).await
}

/// Stops what [`launch`] started, which has to finish by itself.
pub async fn stop(ground: &Ground) {
    ground.tasks.trigger_shutdown();
    let outcome = ground.tasks.wait(Duration::from_secs(10)).await;
    assert!(outcome.is_clean() && outcome.aborted.is_empty(), "{outcome:?}");
}
