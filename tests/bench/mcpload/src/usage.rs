//! CPU time and memory of other processes, from /proc.

use std::fs;

#[derive(Default, Clone, Copy)]
pub(crate) struct Usage {
    /// User system time
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_kib: u64,
    pub(crate) threads: u64,
}

/// The usage of `pids` together; with `tree`, of their descendants too.
pub(crate) fn usage(pids: &[u32], tree: bool) -> Usage {
    if pids.is_empty() {
        return Usage::default();
    }
    let mut all = pids.to_vec();
    if tree {
        add_descendants(&mut all);
    }
    let mut sum = Usage::default();
    for pid in all {
        let Some((fields, rss)) = read(pid) else { continue };
        // Fields after the command name: 0 state, 1 ppid, 11 utime, 12 stime, 17 threads.
        let field = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        // Linux reports these in ticks of 10 ms on every common configuration (USER_HZ = 100).
        sum.cpu_seconds += (field(11) + field(12)) as f64 / 100.0;
        sum.threads += field(17);
        sum.rss_kib += rss;
    }
    sum
}

fn read(pid: u32) -> Option<(Vec<String>, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|v| v.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    Some((rest.split(' ').map(str::to_owned).collect(), rss))
}

fn add_descendants(pids: &mut Vec<u32>) {
    let Ok(dir) = fs::read_dir("/proc") else { return };
    let parents: Vec<(u32, u32)> = dir
        .filter_map(|e| {
            let pid: u32 = e.ok()?.file_name().to_str()?.parse().ok()?;
            let (fields, _) = read(pid)?;
            Some((pid, fields.get(1)?.parse().ok()?))
        })
        .collect();
    loop {
        let found: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| pids.contains(parent) && !pids.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if found.is_empty() {
            return;
        }
        pids.extend(found);
    }
}
