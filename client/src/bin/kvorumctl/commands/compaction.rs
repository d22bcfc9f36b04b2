//! `compaction`: forgets old revisions.

use std::io::Write;

use clap::{ArgMatches, Command};
use kvorum_client::api::etcdserverpb::CompactionRequest;

use super::output;
use crate::failure::{BAD_ARGUMENTS, ERROR, Failure};
use crate::flags::{self, Flags};
use crate::go::number::{Base, parse_int};
use crate::session::Session;

pub fn command() -> Command {
    Command::new("compaction")
        .about("Compacts the event history: revisions before the given one can no longer be read")
        .override_usage("kvorumctl compaction [options] <revision>")
        .arg(flags::arguments("REVISION"))
        .arg(flags::switch("physical", "wait until the old revisions are gone from the store"))
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let request = request(matches)?;
    let revision = request.revision;
    let session = Session::open(matches).await?;
    session.client.compact(request).await?;
    writeln!(output(), "compacted revision {revision}")?;
    Ok(())
}

fn request(matches: &ArgMatches) -> Result<CompactionRequest, Failure> {
    let arguments = matches.arguments();
    let [revision] = arguments.as_slice() else {
        return Err(Failure::new(BAD_ARGUMENTS, "compaction command needs 1 argument"));
    };
    let revision = parse_int(&revision.to_string_lossy(), Base::Decimal)
        .map_err(|error| Failure::new(ERROR, error))?;
    Ok(CompactionRequest { revision, physical: matches.is_on("physical") })
}

#[cfg(test)]
mod tests {
    use kvorum_client::api::etcdserverpb::CompactionRequest;

    use super::{command, request};
    use crate::failure::{BAD_ARGUMENTS, ERROR, Failure};

    fn compaction(arguments: &[&str]) -> Result<CompactionRequest, Failure> {
        request(&command().try_get_matches_from([&["compaction"], arguments].concat()).unwrap())
    }

    #[test]
    fn one_revision() {
        let expected = CompactionRequest { revision: 12, physical: true };
        assert_eq!(compaction(&["12", "--physical"]), Ok(expected));
        assert_eq!(
            compaction(&["x"]),
            Err(Failure::new(ERROR, r#"strconv.ParseInt: parsing "x": invalid syntax"#))
        );
        for arguments in [&[][..], &["1", "2"]] {
            let failure = Failure::new(BAD_ARGUMENTS, "compaction command needs 1 argument");
            assert_eq!(compaction(arguments), Err(failure));
        }
    }
}
