//! Every flag's value, from wherever it came.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{BadValue, ConfigError};
use super::flags::{FLAGS, Flag, Kind, find, find_unsupported};
use super::time::parse_time;
use super::url::ServerUrl;

/// The prefixes of the variables that set flags, the one that counts more first.
const PREFIXES: [&str; 2] = ["KVORUM", "ETCD"];

/// What was set, and where. A flag that nobody set is not in it.
#[derive(Debug, Default)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, Setting>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Setting {
    value: String,
    /// `--name` or `KVORUM_NAME`.
    source: String,
}

impl Settings {
    /// Takes a value from the command line. As in etcd, the last of several wins.
    pub(super) fn set_from_flag(&mut self, flag: &'static Flag, value: String) {
        let source = format!("--{}", flag.name);
        self.values.insert(flag.name, Setting { value, source });
    }

    /// Takes what the environment sets, and returns a warning for each variable that sets nothing.
    ///
    /// - An empty variable counts as unset.
    /// - All variables of flags that kvorum lacks are named at once, as on the command line: whoever sets
    ///   `ETCD_CLIENT_CERT_AUTH` must not get a member that lets everybody in.
    pub(super) fn set_from_environment(
        &mut self,
        environment: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, ConfigError> {
        for flag in FLAGS.iter().filter(|flag| flag.name != "version") {
            for prefix in PREFIXES {
                let variable = variable_name(prefix, flag.name);
                let Some(value) = environment.get(&variable).filter(|value| !value.is_empty())
                else {
                    continue;
                };
                let found = Setting { value: value.clone(), source: variable };
                match self.values.get(flag.name) {
                    Some(standing) => check_same(flag.kind, standing, &found)?,
                    None => drop(self.values.insert(flag.name, found)),
                }
            }
        }
        let is_set = |(_, value): &(&String, &String)| !value.is_empty();
        let set = environment.iter().filter(is_set).map(|(variable, _)| variable);
        let unsupported = set.filter(|variable| is_unsupported(variable)).cloned();
        let unsupported = unsupported.collect::<Vec<_>>();
        if !unsupported.is_empty() {
            return Err(ConfigError::Unsupported(unsupported));
        }
        Ok(environment.keys().filter_map(|variable| unused_warning(variable)).collect())
    }

    /// Whether anybody set the flag.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The value as it was given. `None`: not set, or set to nothing.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|setting| setting.value.as_str()).filter(|text| !text.is_empty())
    }

    /// The value as a number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, ConfigError> {
        self.read(name, parse_number)
    }

    /// The length of time that is set under either of two names of one flag.
    pub(super) fn time(&self, names: [&str; 2]) -> Result<Option<Duration>, ConfigError> {
        self.read_either(Kind::Time, names, parse_time)
    }

    /// The number that is set under either of two names of one flag.
    pub(super) fn number_of(&self, names: [&str; 2]) -> Result<Option<u64>, ConfigError> {
        self.read_either(Kind::Number, names, parse_number)
    }

    /// Whether the switch of two names is on; off if nobody set it.
    pub(super) fn switch_of(&self, names: [&str; 2]) -> Result<bool, ConfigError> {
        Ok(self.read_either(Kind::Switch, names, parse_switch)?.unwrap_or(false))
    }

    /// Two values under two names of one flag must mean the same.
    fn read_either<T>(
        &self,
        kind: Kind,
        names: [&str; 2],
        parse: fn(&str) -> Result<T, BadValue>,
    ) -> Result<Option<T>, ConfigError> {
        if let [Some(first), Some(second)] = names.map(|name| self.values.get(name)) {
            check_same(kind, first, second)?;
        }
        let [name, former_name] = names;
        let value = self.read(name, parse)?;
        if value.is_some() { Ok(value) } else { self.read(former_name, parse) }
    }

    /// Whether the switch is on; off if nobody set it.
    pub(super) fn switch(&self, name: &str) -> Result<bool, ConfigError> {
        self.switch_or(name, false)
    }

    /// Whether the switch is on.
    pub(super) fn switch_or(&self, name: &str, unset: bool) -> Result<bool, ConfigError> {
        Ok(self.read(name, parse_switch)?.unwrap_or(unset))
    }

    /// The value as a list of URLs, sorted.
    pub(super) fn urls(&self, name: &str) -> Result<Option<Vec<ServerUrl>>, ConfigError> {
        self.read(name, |text| ServerUrl::parse_list(text).map_err(BadValue::Url))
    }

    /// The value as `parse` reads it; its error names where the value came from.
    pub(super) fn read<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, BadValue>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(setting) = self.values.get(name) else { return Ok(None) };
        parse(&setting.value).map(Some).map_err(|reason| ConfigError::BadValue {
            source_name: setting.source.clone(),
            value: setting.value.clone(),
            reason,
        })
    }
}

/// `snapshot-catchup-entries` is set by `KVORUM_SNAPSHOT_CATCHUP_ENTRIES`.
pub(super) fn variable_name(prefix: &str, flag: &str) -> String {
    format!("{prefix}_{}", flag.replace('-', "_").to_ascii_uppercase())
}

fn check_same(kind: Kind, standing: &Setting, found: &Setting) -> Result<(), ConfigError> {
    if meaning(kind, &standing.value) == meaning(kind, &found.value) {
        return Ok(());
    }
    let show = |setting: &Setting| format!("{}={}", setting.source, setting.value);
    Err(ConfigError::Conflict { first: show(standing), second: show(found) })
}

/// The value in the one spelling of its kind, so that `1` and `true` do not differ. What cannot be read is compared as
/// it stands; it is refused later, by name.
fn meaning(kind: Kind, value: &str) -> String {
    let read = match kind {
        Kind::Text => None,
        Kind::Number => parse_number(value).ok().map(|number| number.to_string()),
        Kind::Time => parse_time(value).ok().map(|time| time.as_nanos().to_string()),
        Kind::Switch => parse_switch(value).ok().map(|on| on.to_string()),
        Kind::Urls => ServerUrl::parse_list(value).ok().map(|urls| join(&urls)),
    };
    read.unwrap_or_else(|| value.to_owned())
}

/// URLs as they are written in a flag.
pub(super) fn join(urls: &[ServerUrl]) -> String {
    urls.iter().map(ServerUrl::as_str).collect::<Vec<_>>().join(",")
}

/// The flag that a variable would set if there were one of that name.
fn flag_of(variable: &str) -> Option<String> {
    let (prefix, rest) = variable.split_once('_')?;
    let flag = rest.replace('_', "-").to_ascii_lowercase();
    let is_spelled_so = || variable_name(prefix, &flag) == variable;
    (PREFIXES.contains(&prefix) && is_spelled_so()).then_some(flag)
}

fn is_unsupported(variable: &str) -> bool {
    flag_of(variable).is_some_and(|flag| find_unsupported(&flag).is_some())
}

fn unused_warning(variable: &str) -> Option<String> {
    let flag = flag_of(variable);
    let known = flag.as_deref().and_then(find);
    match known.map(|known| known.name) {
        Some("version") => Some(format!("environment variable {variable} sets nothing")),
        Some(_) => None,
        // It would have been refused, had it been set.
        None if is_unsupported(variable) => None,
        None => Some(format!("unrecognized environment variable {variable}")),
    }
}

fn parse_number(text: &str) -> Result<u64, BadValue> {
    text.parse().map_err(|_| BadValue::Number)
}

/// The spellings that Go knows.
pub(super) fn parse_switch(text: &str) -> Result<bool, BadValue> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(BadValue::Switch),
    }
}
