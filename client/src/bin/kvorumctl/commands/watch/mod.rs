//! `watch`: prints changes as they happen.
//!
//! | file | does |
//! |---|---|
//! | `arguments` | what to watch: from the command line, a typed line, or the environment |
//! | `follow` | prints one watch to its end |
//! | `interactive` | many watches, begun by typed lines |

mod arguments;
mod follow;
mod interactive;

use std::ffi::OsString;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::failure::{Failure, INTERRUPTED};
use crate::flags::{self, Flags};
use crate::session::Session;
use arguments::{Asked, Environment};
use follow::follow;

pub fn command() -> Command {
    Command::new("watch")
        .about("Watches events stream on keys or prefixes")
        .long_about(
            "Prints the changes of a key or a range of keys as they happen, until it is stopped.\n\n\
             A command after two dashes is run for each change, with ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, \
             ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its environment.\n\
             ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END stand in for the key and the range's end.\n\n\
             With --interactive, lines from standard input are read: `watch [options] <key> [range_end] [-- command]` \
             begins another watch, `progress` asks how far all have come.\n\n\
             When the connection or the member is lost, watching goes on at the next endpoint where it stopped.",
        )
        .override_usage(
            "kvorumctl watch [options] <key> [range_end] [-- command [argument]...]\n       \
             kvorumctl watch --interactive",
        )
        .arg(flags::arguments("KEY [RANGE_END]"))
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .help("what to run for each change")
                .last(true)
                .num_args(1..)
                .value_parser(value_parser!(OsString)),
        )
        .arg(flags::switch("interactive", "read what to watch from standard input").short('i'))
        .arg(flags::switch("prefix", "watch the keys that begin with the key"))
        .arg(flags::switch("prev-kv", "print what the key was before"))
        .arg(flags::switch("progress-notify", "print now and then how far the watch has come"))
        .arg(flags::integer("rev", "begin with this revision, 0 for what comes after now (0)"))
        .arg(flags::switch("with-state", "begin with the keys as they are (kvorum's servers only)"))
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let environment = Environment::read(|name| std::env::var_os(name))?;
    if matches.is_on("interactive") {
        let session = Session::open(matches).await?;
        return interactive::run(&session, &environment).await;
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    let asked = Asked::read(matches, &words, &environment)?.checked()?;
    let session = Session::open(matches).await?;
    let watch = session.client.requiring_leader().watch(asked.key, asked.options);
    follow(watch, session.printer, &asked.command).await?;
    Err(Failure::new(INTERRUPTED, "watch is canceled by the server"))
}
