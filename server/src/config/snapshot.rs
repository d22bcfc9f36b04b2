//! The arguments of `kvorum snapshot`, as etcdutl takes them.

use std::path::PathBuf;

use super::error::ConfigError;
use super::model::{Config, Invocation};
use super::parse::{Asked, read_flags};
use super::settings::Settings;
use super::validate;

const USAGE: &str = "\
usage: kvorum snapshot status FILE [-w simple|json|table|fields]
       kvorum snapshot restore FILE [--name NAME] [--data-dir DIR] [--wal-dir DIR] [--initial-cluster NAME=URL,...]
                               [--initial-cluster-token TOKEN] [--initial-advertise-peer-urls URL,...]
                               [--skip-hash-check] [--bump-revision N --mark-compacted]";

/// The flags of a member that a restore takes as well, with the same meaning.
const MEMBER_FLAGS: [&str; 6] = [
    "name",
    "data-dir",
    "wal-dir",
    "initial-cluster",
    "initial-cluster-token",
    "initial-advertise-peer-urls",
];

/// `kvorum snapshot ...`.
#[derive(Clone, Debug)]
pub enum SnapshotCommand {
    /// Show what is in a backup.
    Status {
        /// The backup.
        path: PathBuf,
        /// How to show it.
        output: SnapshotOutput,
    },
    /// Make a member of a new cluster from a backup.
    Restore(RestoreSettings),
}

/// How a status is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SnapshotOutput {
    /// One line.
    Simple,
    /// A JSON object.
    Json,
    /// For people.
    Table,
    /// One line a field.
    Fields,
}

/// `kvorum snapshot restore`.
#[derive(Clone, Debug)]
pub struct RestoreSettings {
    /// The backup.
    pub path: PathBuf,
    /// Who the member is to be, and where.
    pub member: Box<Config>,
    /// Whether the digest of the whole is not looked at.
    pub skip_hash_check: bool,
    /// By how much the revision is raised.
    pub bump_revision: u64,
    /// Whether history up to the revision counts as compacted.
    pub mark_compacted: bool,
}

pub(super) fn parse(arguments: Vec<String>) -> Result<Invocation, ConfigError> {
    let mut arguments = arguments.into_iter().skip(1);
    let command = match arguments.next().as_deref() {
        Some("status") => status(arguments.collect())?,
        Some("restore") => restore(arguments.collect())?,
        Some(_) | None => return Err(ConfigError::Usage(USAGE)),
    };
    Ok(Invocation::Snapshot(command))
}

fn status(arguments: Vec<String>) -> Result<SnapshotCommand, ConfigError> {
    let taken = Taken::of(arguments)?;
    let (path, output) = (taken.path()?, taken.output);
    match taken.rest.is_empty() && !taken.is_for_restore() {
        true => {
            Ok(SnapshotCommand::Status { path, output: output.unwrap_or(SnapshotOutput::Simple) })
        }
        false => Err(ConfigError::Usage(USAGE)),
    }
}

fn restore(arguments: Vec<String>) -> Result<SnapshotCommand, ConfigError> {
    let taken = Taken::of(arguments)?;
    let path = taken.path()?;
    // etcdutl's words.
    if taken.bump_revision.is_some() != taken.mark_compacted {
        let missing = if taken.mark_compacted { "bump-revision" } else { "mark-compacted" };
        return Err(ConfigError::MissingTogether { missing });
    }
    let (skip_hash_check, mark_compacted) = (taken.skip_hash_check, taken.mark_compacted);
    let bump_revision = taken.bump_revision.unwrap_or(0);
    let mut settings = Settings::default();
    match read_flags(taken.rest, &mut settings, |flag| MEMBER_FLAGS.contains(&flag.name))? {
        Asked::Help => return Err(ConfigError::Usage(USAGE)),
        Asked::Nothing => {}
    }
    let member = Box::new(validate::build(&settings)?);
    let settings = RestoreSettings { path, member, skip_hash_check, bump_revision, mark_compacted };
    Ok(SnapshotCommand::Restore(settings))
}

/// What is the subcommands' own, taken out before the flags of members are read.
#[derive(Default)]
struct Taken {
    files: Vec<String>,
    output: Option<SnapshotOutput>,
    skip_hash_check: bool,
    bump_revision: Option<u64>,
    mark_compacted: bool,
    rest: Vec<String>,
}

impl Taken {
    fn of(arguments: Vec<String>) -> Result<Taken, ConfigError> {
        let mut taken = Taken::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix('-') else {
                taken.files.push(argument);
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            match name {
                "skip-hash-check" => taken.skip_hash_check = is_on(value)?,
                "mark-compacted" => taken.mark_compacted = is_on(value)?,
                "help" | "h" => return Err(ConfigError::Usage(USAGE)),
                _ => {
                    let value = value.or_else(|| arguments.next());
                    let value = value.ok_or_else(|| ConfigError::MissingValue(name.to_owned()))?;
                    taken.take(name, value)?;
                }
            }
        }
        Ok(taken)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), ConfigError> {
        match name {
            "write-out" | "w" => self.output = Some(output(&value)?),
            "bump-revision" => {
                // The revision is an i64.
                let number = value.parse().ok().filter(|bump| *bump <= i64::MAX as u64 / 2);
                self.bump_revision = Some(number.ok_or(ConfigError::Usage(USAGE))?);
            }
            // Of use to etcd's storage alone.
            "initial-memory-map-size" => {}
            _ => self.rest.extend([format!("--{name}"), value]),
        }
        Ok(())
    }

    fn path(&self) -> Result<PathBuf, ConfigError> {
        match &self.files[..] {
            [path] => Ok(PathBuf::from(path)),
            _ => Err(ConfigError::Usage(USAGE)),
        }
    }

    fn is_for_restore(&self) -> bool {
        self.skip_hash_check || self.bump_revision.is_some() || self.mark_compacted
    }
}

fn is_on(value: Option<String>) -> Result<bool, ConfigError> {
    match value.as_deref() {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(ConfigError::Usage(USAGE)),
    }
}

fn output(value: &str) -> Result<SnapshotOutput, ConfigError> {
    match value {
        "simple" => Ok(SnapshotOutput::Simple),
        "json" => Ok(SnapshotOutput::Json),
        "table" => Ok(SnapshotOutput::Table),
        "fields" => Ok(SnapshotOutput::Fields),
        _ => Err(ConfigError::Usage(USAGE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<SnapshotCommand, ConfigError> {
        let arguments = ["snapshot"].into_iter().chain(line.split(' ')).map(str::to_owned);
        parse(arguments.collect()).map(|invocation| match invocation {
            Invocation::Snapshot(command) => command,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_restore_takes_the_flags_of_a_member_and_its_own_in_any_order() {
        let line = "restore --name a b.db --initial-cluster a=http://1.2.3.4:1,b=http://1.2.3.5:1 \
                    --bump-revision 7 --initial-advertise-peer-urls=http://1.2.3.4:1 --mark-compacted \
                    --initial-cluster-token t --skip-hash-check";
        let Ok(SnapshotCommand::Restore(settings)) = parsed(line) else { panic!("a restore") };
        assert_eq!(settings.path, PathBuf::from("b.db"));
        assert_eq!(settings.member.name, "a");
        assert_eq!(settings.member.data_dir, PathBuf::from("a.kvorum"));
        assert_eq!(settings.member.initial_cluster_token, "t");
        assert!(settings.member.check_bootstrap().is_ok());
        assert!(settings.skip_hash_check && settings.mark_compacted);
        assert_eq!(settings.bump_revision, 7);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let missing = |missing| Some(ConfigError::MissingTogether { missing });
        assert_eq!(parsed("restore f --bump-revision 7").err(), missing("mark-compacted"));
        assert_eq!(parsed("restore f --mark-compacted").err(), missing("bump-revision"));
        for line in [
            "restore",
            "restore a b",
            "status",
            "status f --bump-revision 1",
            "status f --name a",
            "status f -w protobuf",
            "restore f --bump-revision -1 --mark-compacted",
            "save f",
        ] {
            assert_eq!(parsed(line).err(), Some(ConfigError::Usage(USAGE)), "{line}");
        }
        let other = parsed("restore f --listen-client-urls http://1.2.3.4:1");
        assert!(matches!(other, Err(ConfigError::UnknownFlag { .. })), "{other:?}");
        let status = parsed("status f -w json");
        let Ok(SnapshotCommand::Status { output, .. }) = status else { panic!("{status:?}") };
        assert_eq!(output, SnapshotOutput::Json);
    }
}
