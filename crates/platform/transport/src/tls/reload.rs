//! A TLS configuration that follows its files.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use portico_process::Tasks;

use super::TlsError;
use super::files::{Material, TlsFiles};

/// How often the files are looked at. Contents are compared, not times: a mounted secret is a symbolic link.
const POLL: Duration = Duration::from_secs(10);

type Make<C> = Box<dyn Fn(Material) -> Result<C, TlsError> + Send + Sync>;

/// Holds the configuration made from the newest readable files.
pub(super) struct Reloadable<C> {
    files: TlsFiles,
    make: Make<C>,
    current: RwLock<(u64, Arc<C>)>,
}

impl<C> std::fmt::Debug for Reloadable<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloadable").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<C: Send + Sync + 'static> Reloadable<C> {
    pub(super) fn new(
        files: TlsFiles,
        make: impl Fn(Material) -> Result<C, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let material = files.read()?;
        let fingerprint = material.fingerprint;
        let current = RwLock::new((fingerprint, Arc::new(make(material)?)));
        Ok(Self { files, make: Box::new(make), current })
    }

    pub(super) fn current(&self) -> Arc<C> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Returns whether something changed.
    pub(super) fn reload(&self) -> Result<bool, TlsError> {
        let material = self.files.read()?;
        let fingerprint = material.fingerprint;
        if self.current.read().unwrap_or_else(PoisonError::into_inner).0 == fingerprint {
            return Ok(false);
        }
        let made = Arc::new((self.make)(material)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (fingerprint, made);
        Ok(true)
    }

    pub(super) fn watch(self: &Arc<Self>, name: &'static str, tasks: &Tasks) {
        let (this, shutdown) = (self.clone(), tasks.shutdown_token());
        tasks.spawn(name, async move {
            while shutdown.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
                let this = this.clone();
                match tokio::task::spawn_blocking(move || this.reload()).await {
                    Ok(Ok(true)) => tracing::info!("certificates were renewed"),
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "renewed certificates cannot be used: the old ones stay in use"
                        );
                    }
                    Err(error) => tracing::warn!(%error, "reading certificates failed"),
                }
            }
            Ok::<(), Infallible>(())
        });
    }
}
