//! Processor time and memory of processes on this machine, as the kernel counts them.

use std::time::Duration;

/// Ticks of `/proc/PID/stat` in a second. The kernel counts in its own units and shows these, 100 on every architecture
/// that Rust's standard library runs on.
const TICKS_PER_SECOND: u64 = 100;

/// Watches processes over the measured part of a run.
pub struct Meter {
    pids: Vec<u32>,
    /// Of this process, at the start.
    own_before: Duration,
    /// Of each process, at the start.
    before: Vec<Duration>,
}

/// What was used between start and stop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time of the load generator itself.
    pub own: Duration,
    /// One for each process that was watched.
    pub servers: Vec<ServerUsage>,
}

/// What one process used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerUsage {
    pub pid: u32,
    /// User and system time of all its threads, those that ended included. `None` if the process has ended.
    pub cpu: Option<Duration>,
    /// Resident memory at the end; 0 if the process has ended.
    pub resident_bytes: u64,
    /// The most resident memory it ever had.
    pub resident_bytes_max: u64,
}

impl Meter {
    /// Fails if a process cannot be watched.
    pub fn of(pids: &[u32]) -> Result<Meter, String> {
        let mut meter =
            Meter { pids: pids.to_vec(), own_before: Duration::ZERO, before: Vec::new() };
        meter.start()?;
        Ok(meter)
    }

    /// Begins to count.
    pub fn start(&mut self) -> Result<(), String> {
        self.own_before = cpu("self").unwrap_or_default();
        self.before = self
            .pids
            .iter()
            .map(|pid| {
                cpu(&pid.to_string()).ok_or_else(|| format!("--pids: there is no process {pid}"))
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    /// What was used since `start`.
    pub fn stop(&self) -> Usage {
        let servers = self.pids.iter().zip(&self.before).map(|(pid, before)| {
            let name = pid.to_string();
            let status = read(&name, "status").unwrap_or_default();
            ServerUsage {
                pid: *pid,
                cpu: cpu(&name).map(|after| after.saturating_sub(*before)),
                resident_bytes: kilobytes(&status, "VmRSS:") * 1024,
                resident_bytes_max: kilobytes(&status, "VmHWM:") * 1024,
            }
        });
        let own = cpu("self").unwrap_or_default().saturating_sub(self.own_before);
        Usage { own, servers: servers.collect() }
    }
}

impl Usage {
    /// The servers' processor time together.
    pub fn server_cpu(&self) -> Duration {
        self.servers.iter().filter_map(|server| server.cpu).sum()
    }

    /// The servers' resident memory together.
    pub fn server_resident_bytes(&self) -> u64 {
        self.servers.iter().map(|server| server.resident_bytes).sum()
    }
}

fn read(pid: &str, file: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()
}

/// User and system time of a process so far.
fn cpu(pid: &str) -> Option<Duration> {
    cpu_of_stat(&read(pid, "stat")?)
}

/// Reads `/proc/PID/stat`: the 14th and 15th fields. The second is the program's name in brackets and may hold anything, so
/// fields are counted from its closing bracket.
fn cpu_of_stat(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let total = ticks()?.checked_add(ticks()?)?;
    Some(Duration::from_millis(total * 1000 / TICKS_PER_SECOND))
}

/// Reads a line such as `VmRSS:     1234 kB` of `/proc/PID/status`.
fn kilobytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Meter, ServerUsage, Usage, cpu_of_stat, kilobytes};

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 125 0 0 20 0 9 0 100 1 2";
        assert_eq!(cpu_of_stat(stat), Some(Duration::from_millis(3750)));
        assert_eq!(cpu_of_stat("42 (short) S 1"), None);
        let status = "Name:\tetcd\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!((kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")), (1024, 2048));
        assert_eq!(kilobytes(status, "VmSwap:"), 0);
    }

    #[test]
    fn this_process_can_be_watched() {
        let meter = Meter::of(&[std::process::id()]).unwrap();
        let usage = meter.stop();
        assert!(usage.server_resident_bytes() > 0);
        assert!(usage.servers[0].cpu.is_some());
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Meter::of(&[u32::MAX]).err();
        assert_eq!(error, Some(format!("--pids: there is no process {}", u32::MAX)));
    }

    #[test]
    fn processes_are_added_up() {
        let server =
            |cpu, resident_bytes| ServerUsage { cpu, resident_bytes, ..Default::default() };
        let servers = vec![
            server(Some(Duration::from_secs(1)), 10),
            server(None, 0),
            server(Some(Duration::from_secs(2)), 5),
        ];
        let usage = Usage { own: Duration::ZERO, servers };
        assert_eq!(usage.server_cpu(), Duration::from_secs(3));
        assert_eq!(usage.server_resident_bytes(), 15);
    }
}
