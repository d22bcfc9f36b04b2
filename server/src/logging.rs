//! Where log lines go and what they look like.

use std::io::{self, IsTerminal};
use std::panic;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogOptions};

/// Libraries that report at `info` and `warn` what is of no interest to an operator, such as every attempt to reach a
/// peer that is down. What matters of it is logged where it is handled.
const TALKATIVE: [&str; 6] = ["h2", "hyper", "hyper_util", "openraft", "sled", "tower"];

/// Sends log lines to standard error from now on, panics among them. Once in a process.
pub(crate) fn start(options: LogOptions) {
    let level = options.level.filter();
    let talkative = if level == LevelFilter::DEBUG { level } else { LevelFilter::ERROR };
    let filter = TALKATIVE.iter().fold(Targets::new().with_default(level), |filter, library| {
        filter.with_target(*library, talkative)
    });
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let lines = match options.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Console => lines.compact().boxed(),
    };
    // An embedding program may have set up its own; it keeps it.
    if tracing_subscriber::registry().with(lines.with_filter(filter)).try_init().is_ok() {
        panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(ToString::to_string).unwrap_or_default();
            let message = panic.payload_as_str().unwrap_or("no message");
            tracing::error!(location, message, "panic");
        }));
    }
}
