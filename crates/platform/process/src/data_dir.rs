//! One process per data directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

const LOCK_FILE: &str = "portico.lock";

/// Holds a data directory for this process; the operating system lets go of it when the process ends, however
/// it ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process uses it.
    #[error(
        "another portico{} already uses the data directory {}; stop it, or choose another one: \
         the setting data_dir, or --data-dir of `portico dev`",
        .process.map(|id| format!(" (process {id})")).unwrap_or_default(), .dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other process, if it wrote its id.
        process: Option<u32>,
    },
    /// It cannot be made or written.
    #[error(
        "cannot write to the data directory {}: give this user the right to, or choose another one: \
         the setting data_dir, or --data-dir of `portico dev`",
        .dir.display()
    )]
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
}

impl DataDirLock {
    /// Makes the directory (readable by its owner only) if needed and takes it for this process.
    pub fn acquire(dir: &Path) -> Result<Self, DataDirError> {
        let unwritable = |source| DataDirError::Unwritable { dir: dir.to_owned(), source };
        make_private_dir(dir).map_err(unwritable)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(dir.join(LOCK_FILE)).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let process = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(DataDirError::InUse { dir: dir.to_owned(), process });
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        write_id(&mut file).map_err(unwritable)?;
        Ok(Self { _file: file })
    }
}

/// Leaves a note for whoever finds the directory taken.
fn write_id(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    file.sync_all()
}

fn make_private_dir(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_on_the_same_data_directory_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = DataDirLock::acquire(&path).unwrap();
        let refused = DataDirLock::acquire(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        assert!(refused.ends_with("the setting data_dir, or --data-dir of `portico dev`"), "{refused}");
        drop(first);
        DataDirLock::acquire(&path).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_new_data_directory_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let _lock = DataDirLock::acquire(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::metadata(path.join(LOCK_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_unusable_data_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDirLock::acquire(&file.join("data")).unwrap_err();
        assert!(matches!(error, DataDirError::Unwritable { .. }));
        assert!(error.to_string().contains(&file.display().to_string()));
    }
}
