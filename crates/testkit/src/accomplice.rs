//! A client in a process of its own, which can be stopped as a whole: its tasks, its timers, its connections.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::wait::WAIT_MAX;

/// The variable by which the accomplice is told what to do.
const ROLE: &str = "KVORUM_TEST_ROLE";
/// What its words begin with, among what the test harness says.
const MARK: &str = "accomplice says: ";
/// Words that may wait to be heard.
const WORDS_MAX: usize = 64;

/// Another process of the running test executable, which runs one of its tests. Killed when dropped.
///
/// That test is marked `#[ignore]`, begins with [`role`], talks by [`say`] and listens by [`listen`].
#[derive(Debug)]
pub struct Accomplice {
    child: Child,
    hears: ChildStdin,
    said: mpsc::Receiver<String>,
}

impl Accomplice {
    /// Starts the test of this full name and tells it its role.
    pub fn start(test: &str, role: &str) -> Accomplice {
        let executable = std::env::current_exe().expect("a running test knows its executable");
        let mut child = Command::new(executable)
            .args([test, "--exact", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test executable starts");
        let hears = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (says, said) = mpsc::channel(WORDS_MAX);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The harness begins a line of its own and leaves it open.
                if let Some((_, words)) = line.split_once(MARK)
                    && says.blocking_send(words.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Accomplice { child, hears, said }
    }

    /// What it says next. Panics when it says nothing, or has ended.
    pub async fn hear(&mut self) -> String {
        let said = timeout(WAIT_MAX, self.said.recv()).await;
        said.expect("the accomplice says something").expect("the accomplice lives")
    }

    /// Tells it a line.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.hears, "{line}").expect("the accomplice lives");
    }

    /// SIGSTOP: it stands still, its connections stay. What it is told meanwhile it finds when it goes on.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.expect("a child's id is one");
        kill_process(id, signal).expect("a child that was not waited for can be signalled");
    }
}

impl Drop for Accomplice {
    fn drop(&mut self) {
        // Both fail only for a child that has been waited for, which then is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the running test is to do as an accomplice; `None` if it was not started as one.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Says a line to the test that started this one.
pub fn say(words: &str) {
    println!("{MARK}{words}");
}

/// Waits for a line from the test that started this one, while its other tasks go on.
pub async fn listen() -> String {
    let heard = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("the other test lives");
        line.trim_end().to_owned()
    });
    heard.await.expect("reading does not panic")
}
