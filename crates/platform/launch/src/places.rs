//! Checks of addresses, directories and files that several programs name.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use portico_transport::{ServerTls, TlsFiles};
use url::{Host, Url};

use crate::problems::Problems;

/// Reads the origin that everybody uses, or notes what is wrong with it.
pub fn check_origin(problems: &mut Problems, origin: Option<Url>) -> Option<Url> {
    const KEY: &str = "public_origin";
    let what = "give the exact origin that agents and browsers use, e.g. https://portico.example";
    let origin = problems.need(KEY, origin, what)?;
    let bare = origin.path() == "/" && origin.query().is_none() && origin.fragment().is_none();
    let nobody = origin.username().is_empty() && origin.password().is_none();
    if !bare || !nobody || !matches!(origin.scheme(), "http" | "https") {
        problems.add(KEY, "must be scheme, host and port only, such as https://portico.example");
        return None;
    }
    if origin.scheme() == "http" && !is_loopback(&origin) {
        problems.add(KEY, "must be https: http is for 127.0.0.1, [::1] and localhost only");
        return None;
    }
    Some(origin)
}

fn is_loopback(origin: &Url) -> bool {
    match origin.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        None => false,
    }
}

/// Notes if a directory is missing from the settings or cannot be written. One that does not exist yet is made at the
/// start.
pub fn check_directory(problems: &mut Problems, key: &str, directory: Option<PathBuf>) -> Option<PathBuf> {
    let what = "give a directory that this program may write, e.g. /var/lib/portico";
    let directory = problems.need(key, directory, what)?;
    let place = directory.ancestors().find(|place| place.exists()).unwrap_or(Path::new("."));
    match probe(place) {
        Ok(()) => Some(directory),
        Err(error) => {
            let place = place.display();
            problems.add(key, format_args!("cannot write to {place}: {error}; give this user the right to"));
            None
        }
    }
}

/// Writes and removes an empty file: only that tells whether a directory can be written.
///
/// In containers every program has the same process id: the file may be another one's, or left by one that was killed.
fn probe(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(format!(".portico-check-{}", std::process::id()));
    OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Notes what is wrong with the certificate of the public listener; there need not be one.
pub fn check_public_tls(problems: &mut Problems, files: Option<TlsFiles>) -> Option<ServerTls> {
    problems.accept("public_tls", ServerTls::public(files?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Result<Url, Problems> {
        let mut problems = Problems::new();
        let origin = check_origin(&mut problems, Some(Url::parse(text).unwrap()));
        problems.finish(origin)
    }

    #[test]
    fn a_public_origin_is_https_unless_it_is_this_machine() {
        for good in ["https://portico.example", "https://portico.example:8443", "http://127.0.0.1:8080"] {
            origin(good).unwrap();
        }
        for bad in
            ["http://portico.example", "https://portico.example/x", "ftp://x", "https://u@portico.example"]
        {
            let told = origin(bad).unwrap_err().to_string();
            assert!(told.starts_with("setting `public_origin`: must be"), "{bad}: {told}");
        }
    }

    #[test]
    fn what_a_killed_program_left_of_its_check_hinders_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(format!(".portico-check-{}", std::process::id()));
        std::fs::write(&left, "").unwrap();
        let mut problems = Problems::new();
        check_directory(&mut problems, "data_dir", Some(dir.path().to_owned()));
        assert_eq!(problems.to_string(), "");
        assert!(!left.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut problems = Problems::new();
        assert!(check_directory(&mut problems, "data_dir", Some(dir.path().join("a/b"))).is_some());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(check_directory(&mut problems, "data_dir", Some(dir.path().join("file"))).is_none());
        assert!(check_directory(&mut problems, "data_dir", None).is_none());
        let told = problems.to_string();
        assert!(told.contains("setting `data_dir`: cannot write to"), "{told}");
        assert!(told.contains("setting `data_dir`: is not set"), "{told}");
    }
}
