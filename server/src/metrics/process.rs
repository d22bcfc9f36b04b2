//! What the system says of this process.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What a second has of the ticks in which Linux tells when a process was started, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Readings of this process. What cannot be read is `None`, and then not changed on the page.
#[derive(Debug, Default)]
pub(super) struct ProcessReadings {
    pub(super) cpu_seconds: f64,
    /// Since 1970.
    pub(super) start_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) threads: Option<u64>,
}

impl ProcessReadings {
    pub(super) fn take() -> ProcessReadings {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = |name| status_field(&status, name).map(|kilobytes| kilobytes << 10);
        ProcessReadings {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            start_seconds: start_seconds(),
            resident_bytes: kilobytes("VmRSS:"),
            virtual_bytes: kilobytes("VmSize:"),
            threads: status_field(&status, "Threads:"),
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current,
        }
    }
}

/// The number of one line of `/proc/self/status`.
fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn start_seconds() -> Option<f64> {
    let ticks = start_ticks(&fs::read_to_string("/proc/self/stat").ok()?)?;
    Some(boot_seconds()? as f64 + ticks as f64 / TICKS_PER_SECOND)
}

/// When the process was started, in ticks since the machine was.
fn start_ticks(stat: &str) -> Option<u64> {
    // The name stands in brackets and may hold anything; behind it begins the third field.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(22 - 3)?.parse().ok()
}

/// When the machine was started, in seconds since 1970.
fn boot_seconds() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Newer kernels say it at once; with others each one is counted.
fn open_fds() -> Option<u64> {
    let told = fs::metadata("/proc/self/fd").ok()?.len();
    if told > 0 {
        return Some(told);
    }
    let listed = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // The directory that is read is one of them.
    Some(listed.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 400 200 13 14 20 0 12 18 999 1048576 77 x\n";
        assert_eq!(start_ticks(stat), Some(999));
        assert_eq!((start_ticks("7 (a"), start_ticks("7 (a) S 1")), (None, None));
        let status = "Name:\ta\nVmRSS:\t  2048 kB\nThreads:\t12\n";
        assert_eq!(status_field(status, "VmRSS:"), Some(2048));
        assert_eq!(status_field(status, "Threads:"), Some(12));
        assert_eq!(status_field(status, "VmSize:"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let found = ProcessReadings::take();
        assert!(found.resident_bytes > Some(0) && found.threads > Some(0), "{found:?}");
        assert!(found.open_fds > Some(2) && found.max_fds >= found.open_fds, "{found:?}");
        // Between 2020 and 2100.
        let start = found.start_seconds.unwrap();
        assert!((1.57e9..4.11e9).contains(&start), "{found:?}");
    }
}
