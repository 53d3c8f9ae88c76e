//! The first steps of every binary.

use std::{future::Future, io, num::NonZeroUsize, process::ExitCode, time::Duration};

use crate::open_files::raise_open_files;

/// How long the runtime waits for blocking work once the program has ended.
const RUNTIME_WAIT: Duration = Duration::from_secs(2);

/// Runs a binary: crypto provider first, then the runtime with a thread per core, then `main`.
pub fn boot<M, F>(main: M) -> io::Result<ExitCode>
where
    M: FnOnce() -> F,
    F: Future<Output = ExitCode>,
{
    boot_with(None, main)
}

/// Does what [`boot`] does, with a number of threads of the caller's choice.
pub fn boot_with<M, F>(worker_threads: Option<NonZeroUsize>, main: M) -> io::Result<ExitCode>
where
    M: FnOnce() -> F,
    F: Future<Output = ExitCode>,
{
    install_crypto_provider();
    raise_open_files();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = worker_threads {
        builder.worker_threads(threads.get());
    }
    let runtime = builder.enable_all().build()?;
    let code = runtime.block_on(main());
    runtime.shutdown_timeout(RUNTIME_WAIT);
    Ok(code)
}

/// Makes aws-lc-rs the crypto of every TLS connection; the first call counts, later ones change nothing.
pub fn install_crypto_provider() {
    // An error means that a provider stands already, which only another call of this function can have set.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_installs_the_provider_and_returns_the_code_of_main() {
        let code = boot(|| async {
            assert!(rustls::crypto::CryptoProvider::get_default().is_some());
            ExitCode::from(7)
        });
        assert_eq!(format!("{:?}", code.unwrap()), format!("{:?}", ExitCode::from(7)));
    }
}
