//! A certificate and its key on disk.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use secrecy::{ExposeSecret as _, SecretString};

/// Anybody may read a certificate, its owner alone a key.
const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

/// The two files of one name.
#[derive(Debug)]
pub(super) struct CertificateFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl CertificateFiles {
    pub(super) fn new(directory: &Path, name: &str) -> Self {
        Self { cert: directory.join(format!("{name}.pem")), key: directory.join(format!("{name}-key.pem")) }
    }

    /// Writes both files where there are none.
    pub(super) fn create(&self, cert: &str, key: &SecretString) -> Result<()> {
        make_directory(&self.cert)?;
        // The key first: where one is, a CA is, even if its certificate is missing.
        for (path, text, mode) in [(&self.key, key.expose_secret(), PRIVATE), (&self.cert, cert, PUBLIC)] {
            let written = write(path, text, OpenOptions::new().create_new(true).mode(mode));
            match written {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(
                    "{} is there already and is never overwritten: every certificate that it has issued would end \
                     at once. `portico certs init --renew` gives it a new end, another --dir makes another CA",
                    path.display()
                ),
                written => written.with_context(|| cannot_write(path))?,
            }
        }
        Ok(())
    }

    /// Replaces the files by new ones, each at once: a reader sees the old or the new text, never a half.
    ///
    /// A service that reads between the two renames sees a key that does not fit, keeps what it has, and reads
    /// again a few seconds later.
    pub(super) fn replace(&self, cert: &str, key: Option<&SecretString>) -> Result<()> {
        make_directory(&self.cert)?;
        let key = key.map(|key| (&self.key, key.expose_secret(), PRIVATE));
        let texts: Vec<_> = key.into_iter().chain([(&self.cert, cert, PUBLIC)]).collect();
        for (path, text, mode) in &texts {
            let next = beside(path);
            remove(&next)
                .and_then(|()| write(&next, text, OpenOptions::new().create_new(true).mode(*mode)))
                .with_context(|| cannot_write(&next))?;
        }
        for (path, ..) in &texts {
            std::fs::rename(beside(path), path).with_context(|| cannot_write(path))?;
        }
        let directory = self.cert.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))
            .and_then(|directory| directory.sync_all())
            .with_context(|| cannot_write(&self.cert))
    }
}

fn make_directory(file: &Path) -> Result<()> {
    let Some(directory) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    std::fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))
}

fn write(path: &Path, text: &str, options: &mut OpenOptions) -> std::io::Result<()> {
    let mut file = options.write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Removes what an interrupted run may have left.
fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("next")
}

fn cannot_write(path: &Path) -> String {
    format!("{} cannot be written", path.display())
}
