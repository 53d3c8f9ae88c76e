//! How many files and sockets the process may have open at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Returns how many files and sockets this process may have open at once; none if there is no limit.
#[must_use]
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Takes all that the process may have. The usual 1024 are for programs that still use `select`; a server that keeps to
/// them runs out of files when it has a thousand clients, and then cannot even reach its stores.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Where it is forbidden the old limit holds, and listeners take fewer connections.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_all_the_files_that_it_may_have() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let low = maximum.map_or(256, |most| most.min(256));
        setrlimit(Resource::Nofile, Rlimit { current: Some(low), maximum }).unwrap();
        assert_eq!(open_files(), Some(low));
        raise_open_files();
        assert_eq!(open_files(), maximum);
    }
}
