//! Why a member is not started.

use super::url::UrlError;

/// What is wrong with the command line, the environment, or what they say.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// An argument that is neither a flag nor a subcommand.
    #[error("{0:?} is not a valid flag")]
    NotAFlag(String),
    /// Dashes without a name.
    #[error("bad flag syntax: {0}")]
    BadSyntax(String),
    /// A name neither kvorum nor etcd knows.
    #[error("flag provided but not defined: --{flag}; the nearest is --{nearest}")]
    UnknownFlag {
        /// As given, without dashes.
        flag: String,
        /// The flag spelled most like it.
        nearest: &'static str,
    },
    /// Flags that some etcd has and kvorum lacks, as they were set: `--auto-tls` or `ETCD_AUTO_TLS`.
    #[error("not supported by kvorum: {}", .0.join(", "))]
    Unsupported(Vec<String>),
    /// A subcommand that etcd has and kvorum lacks.
    #[error("etcd's subcommand {0:?} is not supported by kvorum")]
    UnsupportedCommand(String),
    /// The command line ended where a value was wanted.
    #[error("flag needs an argument: --{0}")]
    MissingValue(String),
    /// An argument or a variable that is not UTF-8.
    #[error("{0} is not valid UTF-8")]
    NotUnicode(String),
    /// A subcommand's own arguments.
    #[error("{0}")]
    Usage(&'static str),
    /// One of two flags of a restore that go together.
    #[error(
        "if any flags in the group [bump-revision mark-compacted] are set they must all be set; missing [{missing}]"
    )]
    MissingTogether {
        /// The one that is missing.
        missing: &'static str,
    },
    /// A value of the wrong kind.
    #[error("invalid value {value:?} for {source_name}: {reason}")]
    BadValue {
        /// The flag or the variable, as it is written.
        source_name: String,
        /// What it was set to.
        value: String,
        /// What would have been right.
        reason: BadValue,
    },
    /// One flag set to two different values.
    #[error("{first} and {second} differ: set only one of them")]
    Conflict {
        /// One place with its value.
        first: String,
        /// The other.
        second: String,
    },
    /// A host name where a socket is to be bound.
    #[error("expected IP in URL for binding ({0})")]
    Unbindable(String),
    /// No host where others are to connect.
    #[error("--{flag} {urls:?} must be \"host:port\" (unexpected empty host ({url}))")]
    NoHost {
        /// Which list.
        flag: &'static str,
        /// The whole list.
        urls: String,
        /// The one without a host.
        url: String,
    },
    /// A URL that asks for TLS.
    #[error("--{flag} has {url}, but TLS is not supported by kvorum yet")]
    Tls {
        /// Which list.
        flag: &'static str,
        /// The URL.
        url: String,
    },
    /// A time of zero.
    #[error("--{0} must be >0 (set to 0ms)")]
    ZeroTime(&'static str),
    /// Elections would start before heartbeats can prevent them.
    #[error(
        "--election-timeout[{election}ms] should be at least as 5 times as \
         --heartbeat-interval[{heartbeat}ms]"
    )]
    ElectionTooShort {
        /// In milliseconds.
        election: u64,
        /// In milliseconds.
        heartbeat: u64,
    },
    /// A dead leader would go unnoticed.
    #[error("--election-timeout[{0}ms] is too long, and should be set less than 50000ms")]
    ElectionTooLong(u64),
    /// Clients would be told of an address nobody serves.
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseUnset,
    /// A number outside what the member can keep to.
    #[error("--{flag}[{value}] is too large, at most {most} is possible")]
    TooLarge {
        /// Which flag.
        flag: &'static str,
        /// Its value.
        value: u64,
        /// The largest possible.
        most: u64,
    },
    /// The first members do not include this one.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NoLocalMember(String),
    /// Two members, or one twice, at one address.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// The first members' list says more than the member's own.
    #[error(
        "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={urls}"
    )]
    NotAdvertised {
        /// What is missing, as `name=url`.
        missing: String,
        /// What is advertised.
        urls: String,
    },
    /// The member's own list says more than that of the first members.
    #[error(
        "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={cluster}"
    )]
    NotInCluster {
        /// What is missing.
        missing: String,
        /// What the first members' list says of this member.
        cluster: String,
    },
}

/// What a value should have been.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadValue {
    /// Not a number, or below zero, or beyond 64 bits.
    #[error("it must be a whole number")]
    Number,
    /// Not a length of time, or below zero.
    #[error("it must be a time such as 10m or 100ms")]
    Time,
    /// A length of time too short to keep to.
    #[error("it must be at least {0:?}")]
    ShortTime(std::time::Duration),
    /// A number outside its range.
    #[error("it must be a whole number from {0} to {1}")]
    NumberRange(u64, u64),
    /// A length of time that is none, or outside its range.
    #[error("it must be a time from {0:?} to {1:?}, such as 10s or 5m{2}")]
    TimeRange(std::time::Duration, std::time::Duration, &'static str),
    /// Not a number of bytes.
    #[error(
        "it must be a number of bytes such as 1073741824, 512MiB or 4GiB, at least 64MiB, or 0 for no limit"
    )]
    Bytes,
    /// Neither true nor false.
    #[error("it must be true or false")]
    Switch,
    /// Not one of the words.
    #[error("it must be one of {0}")]
    Choice(&'static str),
    /// Not a URL.
    #[error(transparent)]
    Url(UrlError),
}

impl ConfigError {
    /// The exit code that etcd would leave: 2 where the command line cannot be read, 1 where what it says cannot be.
    pub fn exit_code(&self) -> i32 {
        match self {
            ConfigError::BadSyntax(_)
            | ConfigError::UnknownFlag { .. }
            | ConfigError::Unsupported(_)
            | ConfigError::MissingValue(_)
            | ConfigError::NotUnicode(_)
            | ConfigError::Usage(_) => 2,
            _ => 1,
        }
    }
}
