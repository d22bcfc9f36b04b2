//! A member as a process of its own, for what only a process can suffer.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::binary::executable;

/// How many lines of its log are shown when a test fails.
const LOG_LINES_SHOWN: usize = 40;

/// A running `kvorum`. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `kvorum` with these arguments and appends what it says to `log`. Variables of the caller's environment that
    /// set flags do not reach it.
    pub fn start<I, S>(arguments: I, log: &Path) -> Process
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        Process::start_under(&[], arguments, log)
    }

    /// The same by way of a program that becomes what it starts, as `ip netns exec NAME` does: given in words.
    pub fn start_under<I, S>(place: &[String], arguments: I, log: &Path) -> Process
    where
        I: IntoIterator<Item = S>,
        S: AsRef<std::ffi::OsStr>,
    {
        let file: File = OpenOptions::new().create(true).append(true).open(log).expect("log opens");
        let mut words = place.iter().map(OsString::from).chain([executable().into_os_string()]);
        let mut command = Command::new(words.next().expect("the executable is one"));
        command.args(words);
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("KVORUM_") || name.starts_with("ETCD_") {
                command.env_remove(&variable);
            }
        }
        let child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("log is shared"))
            .stderr(file)
            .spawn()
            .expect("kvorum starts");
        Process { child, log: log.to_owned() }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGSTOP: the process stands still, its connections stay.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM. How it ended, and how long that took.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal(Signal::TERM);
        (self.wait(Duration::from_secs(30)), begun.elapsed())
    }

    /// Waits until it ends by itself; panics when it does not in time.
    pub fn wait(&mut self, time_max: Duration) -> ExitStatus {
        let deadline = Instant::now() + time_max;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "kvorum still runs\n{}", self.last_log_lines());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Everything it has said so far, in this run and earlier ones with the same log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it said last.
    pub fn last_log_lines(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let shown = lines.len().saturating_sub(LOG_LINES_SHOWN);
        format!("{}:\n{}", self.log.display(), lines[shown..].join("\n"))
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.expect("a child's id is one");
        kill_process(id, signal).expect("a child that was not waited for can be signalled");
    }

    fn end(&mut self) {
        // Both fail only for a child that has been waited for, which then is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            eprintln!("{}", self.last_log_lines());
        }
    }
}
