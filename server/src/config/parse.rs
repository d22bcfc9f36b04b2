//! From arguments to an [`Invocation`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::iter::Peekable;
use std::path::PathBuf;
use std::vec::IntoIter;

use super::error::ConfigError;
use super::flags::{Arity, FLAGS, Flag, Kind, find, find_unsupported};
use super::model::{
    DevOptions, Invocation, LogFormat, LogLevel, LogOptions, Parsed, WalAction, WalCommand,
};
use super::settings::Settings;
use super::{help, snapshot, validate};
use crate::version;

/// The most members `kvorum dev` starts: they share one machine.
const DEV_MEMBERS_MAX: u64 = 9;
const DEV_USAGE: &str =
    "usage: kvorum dev [--members N] [--log-level LEVEL] [--log-format FORMAT], N from 1 to 9";
const WAL_USAGE: &str = "usage: kvorum wal dump DIR | kvorum wal verify DIR";

/// Reads the arguments (without the program's name) and the environment.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Parsed, ConfigError> {
    let arguments = arguments
        .into_iter()
        .map(|argument| argument.into_string().map_err(not_unicode))
        .collect::<Result<Vec<_>, _>>()?;
    let without_warnings = |invocation| Parsed { invocation, warnings: Vec::new() };
    match arguments.first().map(String::as_str) {
        Some("dev") => parse_dev(arguments).map(without_warnings),
        Some("snapshot") => snapshot::parse(arguments).map(without_warnings),
        Some("wal") => parse_wal(&arguments).map(without_warnings),
        Some(command @ ("gateway" | "grpc-proxy")) => {
            Err(ConfigError::UnsupportedCommand(command.to_owned()))
        }
        _ => parse_serve(arguments, environment),
    }
}

fn parse_serve(
    arguments: Vec<String>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Parsed, ConfigError> {
    let mut settings = Settings::default();
    let printed = |text| Parsed { invocation: Invocation::Print(text), warnings: Vec::new() };
    match read_flags(arguments, &mut settings, |_| true)? {
        Asked::Help => return Ok(printed(help::serve_text())),
        Asked::Nothing => {}
    }
    if settings.switch("version")? {
        return Ok(printed(version::text()));
    }
    let mut warnings = settings.set_from_environment(&unicode_environment(environment)?)?;
    let config = validate::build(&settings)?;
    warnings.extend(validate::warnings(&settings)?);
    Ok(Parsed { invocation: Invocation::Serve(Box::new(config)), warnings })
}

fn parse_dev(arguments: Vec<String>) -> Result<Invocation, ConfigError> {
    // `--members` is the subcommand's own; it is taken out before the flags are read.
    let mut rest = Vec::new();
    let mut member_count = 1;
    let mut arguments = arguments.into_iter().skip(1);
    while let Some(argument) = arguments.next() {
        let name = argument.trim_start_matches('-');
        let value = match name.split_once('=') {
            Some(("members", value)) => Some(value.to_owned()),
            None if name == "members" => arguments.next(),
            _ => {
                rest.push(argument);
                continue;
            }
        };
        member_count = value
            .and_then(|value| value.parse::<u64>().ok())
            .filter(|count| (1..=DEV_MEMBERS_MAX).contains(count))
            .ok_or(ConfigError::Usage(DEV_USAGE))?;
    }
    let mut settings = Settings::default();
    let taken = |flag: &Flag| matches!(flag.name, "log-level" | "log-format");
    match read_flags(rest, &mut settings, taken) {
        Ok(Asked::Help) => return Ok(Invocation::Print(format!("{DEV_USAGE}\n"))),
        Ok(Asked::Nothing) => {}
        Err(ConfigError::UnknownFlag { .. }) => return Err(ConfigError::Usage(DEV_USAGE)),
        Err(error) => return Err(error),
    }
    let quiet = LogOptions { level: LogLevel::Warn, format: LogFormat::Console };
    let member_count = usize::try_from(member_count).map_err(|_| ConfigError::Usage(DEV_USAGE))?;
    Ok(Invocation::Dev(DevOptions { member_count, log: validate::log_options(&settings, quiet)? }))
}

fn parse_wal(arguments: &[String]) -> Result<Invocation, ConfigError> {
    let [_, action, dir] = arguments else { return Err(ConfigError::Usage(WAL_USAGE)) };
    let action = match action.as_str() {
        "dump" => WalAction::Dump,
        "verify" => WalAction::Verify,
        _ => return Err(ConfigError::Usage(WAL_USAGE)),
    };
    Ok(Invocation::Wal(WalCommand { action, dir: PathBuf::from(dir) }))
}

/// What the flags asked for besides their values.
pub(super) enum Asked {
    Nothing,
    Help,
}

/// Reads flags by Go's rules until there are no more arguments.
///
/// - All flags that kvorum lacks are named at once, so that an operator who moves over from etcd sees the whole list.
pub(super) fn read_flags(
    arguments: Vec<String>,
    settings: &mut Settings,
    is_taken: impl Fn(&Flag) -> bool,
) -> Result<Asked, ConfigError> {
    let mut arguments = arguments.into_iter().peekable();
    let mut unsupported = Vec::new();
    while let Some(argument) = arguments.next() {
        let (name, value) = split_flag(argument, &mut arguments)?;
        let Some(name) = name else { break };
        if matches!(name.as_str(), "help" | "h") {
            return Ok(Asked::Help);
        }
        match find(&name).filter(|flag| is_taken(flag)) {
            Some(flag) => {
                let is_switch = flag.kind == Kind::Switch;
                let value = take_value(&name, value, is_switch, &mut arguments)?;
                settings.set_from_flag(flag, value);
            }
            None => match find_unsupported(&name) {
                Some(arity) => {
                    take_value(&name, value, arity == Arity::Switch, &mut arguments)?;
                    unsupported.push(format!("--{name}"));
                }
                None => return Err(unknown_flag(name)),
            },
        }
    }
    if unsupported.is_empty() {
        Ok(Asked::Nothing)
    } else {
        Err(ConfigError::Unsupported(unsupported))
    }
}

/// Splits `--name=value`. No name: `--` ended the flags, and nothing followed it.
fn split_flag(
    argument: String,
    following: &mut Peekable<IntoIter<String>>,
) -> Result<(Option<String>, Option<String>), ConfigError> {
    let Some(name) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
        return Err(ConfigError::NotAFlag(argument));
    };
    if name == "-" {
        return match following.next() {
            Some(argument) => Err(ConfigError::NotAFlag(argument)),
            None => Ok((None, None)),
        };
    }
    let name = name.strip_prefix('-').unwrap_or(name);
    if name.is_empty() || name.starts_with(['-', '=']) {
        return Err(ConfigError::BadSyntax(argument));
    }
    Ok(match name.split_once('=') {
        Some((name, value)) => (Some(name.to_owned()), Some(value.to_owned())),
        None => (Some(name.to_owned()), None),
    })
}

fn take_value(
    name: &str,
    value: Option<String>,
    is_switch: bool,
    following: &mut Peekable<IntoIter<String>>,
) -> Result<String, ConfigError> {
    match value {
        Some(value) => Ok(value),
        None if is_switch => Ok("true".to_owned()),
        None => following.next().ok_or_else(|| ConfigError::MissingValue(name.to_owned())),
    }
}

fn unknown_flag(flag: String) -> ConfigError {
    let distance = |known: &str| strsim::damerau_levenshtein(&flag, known);
    let known = FLAGS.iter().map(|known| known.name);
    let nearest = known.min_by_key(|known| distance(known)).unwrap_or("help");
    ConfigError::UnknownFlag { flag, nearest }
}

/// Keeps the variables that could set a flag; others may hold what they like.
fn unicode_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut kept = BTreeMap::new();
    for (variable, value) in environment {
        let Ok(variable) = variable.into_string() else { continue };
        if variable.starts_with("KVORUM_") || variable.starts_with("ETCD_") {
            let value = value
                .into_string()
                .map_err(|_| ConfigError::NotUnicode(format!("the value of {variable}")))?;
            kept.insert(variable, value);
        }
    }
    Ok(kept)
}

fn not_unicode(argument: OsString) -> ConfigError {
    ConfigError::NotUnicode(format!("argument {:?}", argument.to_string_lossy()))
}
