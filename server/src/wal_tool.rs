//! `kvorum wal dump|verify`: reading a log that no member has open.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::process::ExitCode;

use kvorum_disk::RealDisk;
use kvorum_wal::OpenError;
use kvorum_wal::inspect::{self, Summary};

use crate::config::{WalAction, WalCommand};

/// Reads the log and prints what it finds: to standard output the records or what they come to, to standard error what
/// is wrong with it.
pub(crate) fn run(command: &WalCommand) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let read = read(command, &mut out);
    // Records before the damage are of use too. Whoever closed the pipe has seen enough.
    let _ = out.flush();
    match read {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvorum wal: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(command: &WalCommand, out: &mut impl Write) -> Result<(), OpenError> {
    let disk = RealDisk::new();
    match command.action {
        WalAction::Dump => {
            inspect::dump(&disk, &command.dir, &mut |shown| {
                let _ = writeln!(out, "{shown}");
            })?;
        }
        WalAction::Verify => {
            let summary = inspect::verify(&disk, &command.dir)?;
            let _ = write!(out, "{}", Verdict(&summary));
        }
    }
    Ok(())
}

/// What a sound log holds, one fact a line.
struct Verdict<'a>(&'a Summary);

impl Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict(summary) = self;
        let identity = &summary.identity;
        let (first, last) = summary.segments;
        writeln!(f, "cluster      {}", identity.cluster)?;
        writeln!(f, "member       {}", identity.member)?;
        writeln!(f, "incarnation  {}", identity.incarnation.0)?;
        writeln!(f, "segments     {first} to {last}")?;
        writeln!(f, "records      {} in {} bytes", summary.records, summary.bytes)?;
        writeln!(f, "entries      {}", summary.entries)?;
        writeln!(f, "vote         {}", OrNone(summary.vote.as_ref()))?;
        writeln!(f, "committed    {}", OrNone(summary.committed.as_ref()))?;
        writeln!(f, "purged       {}", OrNone(summary.purged.as_ref()))?;
        writeln!(f, "last         {}", OrNone(summary.last.as_ref()))?;
        match &summary.torn {
            Some(torn) => writeln!(
                f,
                "torn         {} bytes at offset {} of segment {}: never acknowledged, cut at the next start",
                torn.bytes, torn.offset, torn.segment
            ),
            None => writeln!(f, "torn         no"),
        }
    }
}

struct OrNone<'a, T>(Option<&'a T>);

impl<T: Display> Display for OrNone<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("none"),
        }
    }
}
