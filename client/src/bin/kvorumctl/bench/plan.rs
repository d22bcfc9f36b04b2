//! What a run does: the flags of `bench`, checked.

use std::time::Duration;

use clap::{Arg, ArgMatches, Command};

use super::keys::{KeySpace, Values};
use super::watch::ledger::MARK_BYTES;
use super::work::{ListOptions, Work};
use crate::commands::get::is_serializable;
use crate::failure::{BAD_ARGUMENTS, Failure};
use crate::flags::{self, Flags};

const CLIENTS: u64 = 1;
const CONNECTIONS: u64 = 1;
const TOTAL: u64 = 10_000;
const KEY_BYTES: u64 = 16;
const VALUE_BYTES: u64 = 256;
const KEY_COUNT: u64 = 10_000;
const TXN_OPERATIONS: u64 = 1;
const READ_PERCENT: u64 = 50;
const WATCHERS: u64 = 100;
const STREAMS: u64 = 1;
const PREFIX: &str = "bench/";
/// Seconds: no lease shall end during a run.
const LEASE_TTL: u64 = 3600;
const LEASES: u64 = 10_000;

/// Keys written in one transaction when the key space is filled: below every server's limit.
const FILL_OPERATIONS: usize = 100;
/// Bytes written in one such transaction, unless a single key has more.
const FILL_BYTES: usize = 1024 * 1024;

/// More than anyone has the file descriptors and memory for; it keeps slips of the pen from bringing the machine down.
const CLIENTS_MAX: u64 = 1_000_000;

/// The kinds of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One key written.
    Put,
    /// A comparison and some keys written.
    Txn,
    /// One key read.
    Range,
    /// The whole key space read.
    List,
    /// Some puts, some ranges.
    Mixed,
    /// Puts, and watchers who are told of them.
    Watch,
    /// Leases granted.
    Grant,
    /// Leases renewed, on streams.
    KeepAlive,
}

impl Kind {
    /// The kind that the subcommand of this name does.
    fn of(name: &str) -> Kind {
        match name {
            "put" => Kind::Put,
            "txn" => Kind::Txn,
            "range" => Kind::Range,
            "list" => Kind::List,
            "watch" => Kind::Watch,
            "lease" => Kind::Grant,
            _ => Kind::Mixed,
        }
    }

    /// What it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Put => "put",
            Kind::Txn => "txn",
            Kind::Range => "range",
            Kind::List => "list",
            Kind::Mixed => "mixed",
            Kind::Watch => "watch",
            Kind::Grant => "grant",
            Kind::KeepAlive => "keep-alive",
        }
    }
}

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub kind: Kind,
    /// Each has one request under way at a time.
    pub clients: usize,
    /// The clients share them.
    pub connections: usize,
    pub keys: KeySpace,
    pub value_bytes: usize,
    /// Operations, unless `duration` says how long.
    pub total: u64,
    pub duration: Option<Duration>,
    /// Operations a second that are begun at most; `None` for as many as can be.
    pub rate: Option<u64>,
    /// How long to run before measuring.
    pub warm_up: Duration,
    /// Write every key once before anything else.
    pub fill: bool,
    /// Processes to watch.
    pub pids: Vec<u32>,
    pub seed: u64,
    pub serializable: bool,
    pub txn_operations: usize,
    /// Of a hundred operations of mixed work.
    pub read_percent: u64,
    pub list: ListOptions,
    pub watch: WatchPlan,
    pub leases: LeasePlan,
}

/// The leases that are granted, or granted first and then renewed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeasePlan {
    /// Seconds.
    pub ttl: i64,
    /// How many are renewed.
    pub count: u64,
    /// Keys put for each of them.
    pub keys_each: u64,
    /// The ids of those that are renewed begin here, and are new for each run.
    pub first_id: i64,
}

/// Who watches, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchPlan {
    /// Each watches all keys that begin with `prefix`.
    pub watchers: usize,
    pub prefix: String,
    /// Each watches a key of its own that nobody writes.
    pub idle_watchers: usize,
    /// The watchers share them.
    pub streams: usize,
    /// The streams share them.
    pub connections: usize,
    /// Whether the puts are to keys that are watched.
    pub puts_are_watched: bool,
}

/// The command and its subcommands.
pub fn command() -> Command {
    let consistency =
        || flags::text("consistency", "l for linearizable, s for serializable: perhaps stale (l)");
    let kinds = [
        Command::new("put").about("Writes keys"),
        Command::new("txn")
            .about("Writes keys in transactions, each with one comparison")
            .arg(flags::integer("txn-ops", "keys written in a transaction (1)")),
        Command::new("range").about("Reads single keys").arg(consistency()),
        Command::new("list")
            .about("Reads the whole key space at once")
            .arg(consistency())
            .arg(flags::integer("limit", "at most so many keys, 0 for all (0)"))
            .arg(flags::switch("keys-only", "leave the values out"))
            .arg(flags::switch("count-only", "only count"))
            .arg(flags::switch("stream", "get the answer in pieces (servers from 3.7)")),
        Command::new("mixed")
            .about("Reads and writes single keys")
            .arg(consistency())
            .arg(flags::integer("read-percent", "reads among a hundred operations (50)")),
        Command::new("watch")
            .about("Writes keys, and measures how soon and how well watchers are told of it")
            .arg(flags::integer("watchers", "watchers of all keys with the prefix (100)"))
            .arg(flags::integer("idle-watchers", "watchers of keys that nobody writes (0)"))
            .arg(flags::integer("streams", "gRPC streams, shared by the watchers (1)"))
            .arg(flags::integer(
                "watch-conns",
                "connections, shared by the streams, spread over the endpoints (1)",
            ))
            .arg(flags::text("put-prefix", "what written keys begin with, if not the prefix")),
        Command::new("lease")
            .about("Grants leases, or renews them")
            .arg(flags::integer("ttl", "seconds of a lease (3600)"))
            .arg(flags::switch(
                "keep-alive",
                "first grant leases, then measure how fast they are renewed; each client has a stream",
            ))
            .arg(flags::integer("leases", "with --keep-alive: leases to renew (10000)"))
            .arg(flags::integer("keys", "with --keep-alive: keys put for each of these leases (0)")),
    ];
    Command::new("bench")
        .about("Measures how fast servers are, and what it costs them")
        .infer_subcommands(true)
        .disable_help_subcommand(true)
        .subcommands(kinds.map(|kind| kind.args(common_flags())))
}

fn common_flags() -> [Arg; 14] {
    [
        flags::integer("clients", "clients, each with one request under way (1)"),
        flags::integer(
            "conns",
            "connections, shared by the clients, spread over the endpoints (1)",
        ),
        flags::integer("total", "operations to do (10000)"),
        flags::time("duration", "how long to run, in place of a number of operations"),
        flags::time("warmup", "how long to run before measuring (0s)"),
        flags::integer("rate", "operations a second at most, 0 for as many as possible (0)"),
        flags::integer("key-size", "bytes of a key, the prefix among them (16)"),
        flags::integer("val-size", "bytes of a value (256)"),
        flags::integer("key-space-size", "different keys (10000)"),
        flags::text("prefix", "what keys begin with (bench/)"),
        flags::switch("sequential-keys", "take the keys one after the other, not at random"),
        flags::integer("seed", "begins the random numbers (1)"),
        flags::switch("fill", "first write every key of the key space once"),
        flags::text(
            "pids",
            "processes whose processor time and memory to report, separated by commas",
        ),
    ]
}

impl Plan {
    /// Reads the flags of the subcommand called `kind`.
    pub fn read(kind: &str, matches: &ArgMatches) -> Result<Plan, Failure> {
        let given = Given { matches };
        let kind = match Kind::of(kind) {
            Kind::Grant if given.is_on("keep-alive") => Kind::KeepAlive,
            kind => kind,
        };
        let clients = given.positive("clients", CLIENTS)?.min(CLIENTS_MAX);
        let read_percent = given.number("read-percent", READ_PERCENT)?;
        if read_percent > 100 {
            return Err(bad("--read-percent must not be above 100".into()));
        }
        let value_bytes = size("val-size", given.number("val-size", VALUE_BYTES)?)?;
        if kind == Kind::Watch && value_bytes < MARK_BYTES {
            return Err(bad(format!("--val-size must be at least {MARK_BYTES}")));
        }
        Ok(Plan {
            kind,
            clients: size("clients", clients)?,
            connections: size("conns", given.positive("conns", CONNECTIONS)?.min(clients))?,
            watch: given.watch()?,
            leases: given.leases()?,
            keys: given.keys()?,
            value_bytes,
            total: given.positive("total", TOTAL)?,
            duration: matches.time("duration"),
            rate: Some(given.number("rate", 0)?).filter(|rate| *rate > 0),
            warm_up: matches.time("warmup").unwrap_or_default(),
            fill: given.is_on("fill"),
            pids: pids(matches.text("pids"))?,
            seed: given.number("seed", 1)?,
            serializable: is_serializable(given.text("consistency"))?,
            txn_operations: size("txn-ops", given.positive("txn-ops", TXN_OPERATIONS)?)?,
            read_percent,
            list: ListOptions {
                limit: given.integer("limit").unwrap_or(0),
                keys_only: given.is_on("keys-only"),
                count_only: given.is_on("count-only"),
                stream: given.is_on("stream"),
            },
        })
    }

    /// The work to measure.
    pub fn work(&self) -> Work {
        let keys = self.keys.clone();
        let values = Values::new(self.value_bytes, self.seed);
        match self.kind {
            Kind::Put | Kind::Watch => Work::put(keys, values, self.seed),
            Kind::Txn => Work::txn(keys, values, self.seed, self.txn_operations),
            Kind::Range => Work::range(keys, self.seed, self.serializable),
            Kind::List => Work::list(&keys, self.serializable, self.list),
            Kind::Mixed => {
                Work::mixed(keys, values, self.seed, self.serializable, self.read_percent)
            }
            Kind::Grant => Work::Grant { ttl: self.leases.ttl, next_id: None },
            Kind::KeepAlive => Work::KeepAlive {
                first_id: self.leases.first_id,
                count: self.leases.count,
                sent: 0,
            },
        }
    }

    /// The work of granting the leases that are to be renewed, and how many operations it takes.
    pub fn granting(&self) -> (Work, u64) {
        let LeasePlan { ttl, count, first_id, .. } = self.leases;
        (Work::Grant { ttl, next_id: Some(first_id) }, count)
    }

    /// The work of putting these leases' keys, and how many operations it takes.
    pub fn attaching(&self) -> (Work, u64) {
        let LeasePlan { count, keys_each, first_id, .. } = self.leases;
        let values = Values::new(self.value_bytes, self.seed);
        let prefix = self.keys.prefix().to_string();
        (Work::Attach { prefix, values, first_id, keys_each, sent: 0 }, count * keys_each)
    }

    /// The work of writing every key once, and how many operations it takes.
    pub fn filling(&self) -> (Work, u64) {
        let record_bytes = self.keys.key_bytes() + self.value_bytes;
        let each = (FILL_BYTES / record_bytes.max(1)).clamp(1, FILL_OPERATIONS);
        let values = Values::new(self.value_bytes, self.seed);
        let work = Work::txn(self.keys.clone().sequential(), values, self.seed, each);
        (work, self.keys.count().div_ceil(each as u64))
    }
}

/// The flags of a subcommand. One that the subcommand does not have counts as not given.
struct Given<'a> {
    matches: &'a ArgMatches,
}

impl Given<'_> {
    fn has(&self, name: &str) -> bool {
        self.matches.try_contains_id(name).is_ok()
    }

    fn is_on(&self, name: &str) -> bool {
        self.has(name) && self.matches.is_on(name)
    }

    fn text(&self, name: &str) -> &str {
        if self.has(name) { self.matches.text(name) } else { "" }
    }

    fn integer(&self, name: &str) -> Option<i64> {
        if self.has(name) { self.matches.integer(name) } else { None }
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, Failure> {
        let Some(number) = self.integer(name) else { return Ok(default) };
        u64::try_from(number).map_err(|_| bad(format!("--{name} must not be negative")))
    }

    fn positive(&self, name: &str, default: u64) -> Result<u64, Failure> {
        match self.number(name, default)? {
            0 => Err(bad(format!("--{name} must be at least 1"))),
            number => Ok(number),
        }
    }

    fn watch(&self) -> Result<WatchPlan, Failure> {
        let watchers = self.number("watchers", WATCHERS)?.min(CLIENTS_MAX);
        let idle_watchers = self.number("idle-watchers", 0)?.min(CLIENTS_MAX);
        let all = (watchers + idle_watchers).max(1);
        let streams = self.positive("streams", STREAMS)?.min(all);
        let connections = self.positive("watch-conns", CONNECTIONS)?.min(streams);
        Ok(WatchPlan {
            watchers: size("watchers", watchers)?,
            prefix: self.prefix().into(),
            idle_watchers: size("idle-watchers", idle_watchers)?,
            streams: size("streams", streams)?,
            connections: size("watch-conns", connections)?,
            puts_are_watched: self.put_prefix().starts_with(self.prefix()),
        })
    }

    fn leases(&self) -> Result<LeasePlan, Failure> {
        let ttl = self.positive("ttl", LEASE_TTL)?;
        Ok(LeasePlan {
            ttl: i64::try_from(ttl).map_err(|_| bad("--ttl is too large".into()))?,
            count: self.positive("leases", LEASES)?.min(CLIENTS_MAX),
            keys_each: self.number("keys", 0)?.min(CLIENTS_MAX),
            first_id: i64::from(rand::random::<u32>() >> 1) << 32,
        })
    }

    fn prefix(&self) -> &str {
        Some(self.text("prefix")).filter(|text| !text.is_empty()).unwrap_or(PREFIX)
    }

    /// What the keys begin with that are written.
    fn put_prefix(&self) -> &str {
        Some(self.text("put-prefix")).filter(|text| !text.is_empty()).unwrap_or(self.prefix())
    }

    fn keys(&self) -> Result<KeySpace, Failure> {
        let prefix = self.put_prefix();
        let key_bytes = size("key-size", self.number("key-size", KEY_BYTES)?)?;
        let count = self.positive("key-space-size", KEY_COUNT)?;
        KeySpace::new(prefix, key_bytes, count, self.is_on("sequential-keys")).map_err(bad)
    }
}

fn pids(text: &str) -> Result<Vec<u32>, Failure> {
    text.split(',')
        .map(str::trim)
        .filter(|pid| !pid.is_empty())
        .map(|pid| pid.parse().map_err(|_| bad(format!("--pids: {pid:?} is not a process id"))))
        .collect()
}

fn size(name: &str, number: u64) -> Result<usize, Failure> {
    usize::try_from(number).map_err(|_| bad(format!("--{name} is too large")))
}

fn bad(message: String) -> Failure {
    Failure::new(BAD_ARGUMENTS, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Kind, Plan, command};
    use crate::failure::{BAD_ARGUMENTS, Failure};

    fn plan(arguments: &[&str]) -> Result<Plan, Failure> {
        let arguments = [&["bench"], arguments].concat();
        let matches = command().try_get_matches_from(arguments).expect("flags are known");
        let (kind, matches) = matches.subcommand().expect("a kind is given");
        Plan::read(kind, matches)
    }

    #[test]
    fn every_kind_has_defaults() {
        for (name, kind) in [
            ("put", Kind::Put),
            ("txn", Kind::Txn),
            ("range", Kind::Range),
            ("list", Kind::List),
            ("mixed", Kind::Mixed),
            ("watch", Kind::Watch),
        ] {
            let plan = plan(&[name]).unwrap();
            assert_eq!((plan.kind, plan.kind.name()), (kind, name));
            assert_eq!((plan.clients, plan.connections, plan.total), (1, 1, 10_000));
            assert_eq!(plan.duration, None);
            plan.work();
        }
    }

    #[test]
    fn flags_are_in_the_plan() {
        let plan = plan(&[
            "mixed",
            "--clients=100",
            "--conns",
            "10",
            "--duration=1m",
            "--rate=500",
            "--pids=1, 22",
            "--read-percent=0",
            "--consistency=s",
            "--warmup=2s",
            "--fill",
            "--val-size=0",
        ])
        .unwrap();
        assert_eq!((plan.clients, plan.connections), (100, 10));
        assert_eq!(plan.duration, Some(Duration::from_secs(60)));
        assert_eq!(plan.warm_up, Duration::from_secs(2));
        assert_eq!((plan.rate, plan.read_percent, plan.value_bytes), (Some(500), 0, 0));
        assert_eq!(plan.pids, [1, 22]);
        assert!(plan.serializable && plan.fill);
    }

    #[test]
    fn there_are_no_more_connections_than_clients() {
        assert_eq!(plan(&["put", "--clients=3", "--conns=10"]).unwrap().connections, 3);
    }

    #[test]
    fn watchers_share_streams_and_streams_connections() {
        let watch = |arguments: &[&str]| plan(&[&["watch"], arguments].concat()).unwrap().watch;
        let few = watch(&[]);
        assert_eq!((few.watchers, few.idle_watchers, few.streams, few.connections), (100, 0, 1, 1));
        assert!(few.puts_are_watched && few.prefix == "bench/");
        let many =
            watch(&["--watchers=3", "--idle-watchers=4", "--streams=99", "--watch-conns=98"]);
        assert_eq!((many.streams, many.connections), (7, 7));
        assert!(watch(&["--put-prefix=bench/a/"]).puts_are_watched);
        assert!(!watch(&["--put-prefix=other/"]).puts_are_watched);
        assert_eq!(watch(&["--watchers=0"]).watchers, 0);
    }

    #[test]
    fn leases_are_granted_or_renewed() {
        let grant = plan(&["lease", "--ttl=5"]).unwrap();
        assert_eq!((grant.kind, grant.leases.ttl, grant.kind.name()), (Kind::Grant, 5, "grant"));
        let renew = plan(&["lease", "--keep-alive", "--leases=7", "--keys=3"]).unwrap();
        assert_eq!((renew.kind, renew.kind.name()), (Kind::KeepAlive, "keep-alive"));
        assert_eq!((renew.granting().1, renew.attaching().1, renew.leases.ttl), (7, 21, 3600));
        assert!(renew.leases.first_id >= 0 && grant.leases.count == 10_000);
    }

    #[test]
    fn filling_writes_every_key() {
        let operations = |arguments: &[&str]| plan(arguments).unwrap().filling().1;
        assert_eq!(operations(&["list", "--key-space-size=1000"]), 10);
        assert_eq!(operations(&["list", "--key-space-size=1001"]), 11);
        assert_eq!(operations(&["list", "--key-space-size=7", "--val-size=2000000"]), 7);
        assert_eq!(operations(&["list", "--key-space-size=1"]), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        let cases: [(&[&str], &str); 7] = [
            (&["watch", "--val-size=7"], "--val-size must be at least 8"),
            (&["put", "--clients=0"], "--clients must be at least 1"),
            (&["put", "--total=-1"], "--total must not be negative"),
            (&["put", "--key-space-size=0"], "--key-space-size must be at least 1"),
            (&["put", "--pids=x"], r#"--pids: "x" is not a process id"#),
            (&["mixed", "--read-percent=101"], "--read-percent must not be above 100"),
            (
                &["put", "--key-size=8", "--key-space-size=1000"],
                "a key of 8 bytes has no room for \"bench/\" and 3 digits",
            ),
        ];
        for (arguments, text) in cases {
            let failure = plan(arguments).expect_err("it is nonsense");
            assert_eq!(failure, Failure::new(BAD_ARGUMENTS, text), "{arguments:?}");
        }
    }
}
