//! `del`: deletes a key or a range.

use clap::{ArgMatches, Command};
use kvorum_client::api::etcdserverpb::DeleteRangeRequest;

use super::{get, output};
use crate::failure::{BAD_ARGUMENTS, Failure};
use crate::flags::{self, Flags};
use crate::session::Session;

pub fn command() -> Command {
    Command::new("del")
        .about("Removes the specified key or range of keys [key, range_end)")
        .override_usage("kvorumctl del [options] <key> [range_end]")
        .arg(flags::arguments("KEY [RANGE_END]"))
        .arg(flags::switch("from-key", "delete the key and every key after it"))
        .arg(flags::switch("prefix", "delete the keys that begin with the key"))
        .arg(flags::switch("prev-kv", "print what was deleted"))
        .arg(flags::switch("range", "accepted for etcdctl 3.6, which asks for it with a range_end"))
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let request = request(matches)?;
    let session = Session::open(matches).await?;
    let answer = session.client.delete_range(request).await?;
    session.printer.delete(&mut output(), &answer)
}

/// The request that the flags describe, for `del` and for the operation of a transaction.
pub fn request(matches: &ArgMatches) -> Result<DeleteRangeRequest, Failure> {
    let arguments = matches.arguments();
    if arguments.is_empty() || arguments.len() > 2 {
        let text = "del command needs one argument as key and an optional argument as range_end";
        return Err(Failure::new(BAD_ARGUMENTS, text));
    }
    let (key, range_end) = get::range(matches, arguments)?;
    Ok(DeleteRangeRequest { key, range_end, prev_kv: matches.is_on("prev-kv") })
}

#[cfg(test)]
mod tests {
    use kvorum_client::api::etcdserverpb::DeleteRangeRequest;

    use super::{command, request};
    use crate::failure::{BAD_ARGUMENTS, Failure};

    fn del(arguments: &[&str]) -> Result<DeleteRangeRequest, Failure> {
        request(&command().try_get_matches_from([&["del"], arguments].concat()).unwrap())
    }

    #[test]
    fn ranges() {
        let cases: [(&[&str], &str, &str); 5] = [
            (&["a"], "a", ""),
            (&["a", "c"], "a", "c"),
            (&["a", "--prefix"], "a", "b"),
            (&["a", "--from-key"], "a", "\0"),
            (&["", "--prefix"], "\0", "\0"),
        ];
        for (arguments, key, range_end) in cases {
            let request = del(arguments).unwrap();
            assert_eq!(
                (&request.key[..], &request.range_end[..]),
                (key.as_bytes(), range_end.as_bytes())
            );
        }
        assert!(del(&["a", "--prev-kv"]).unwrap().prev_kv);
    }

    #[test]
    fn one_argument_or_two() {
        let text = "del command needs one argument as key and an optional argument as range_end";
        for arguments in [&[][..], &["a", "b", "c"]] {
            assert_eq!(del(arguments), Err(Failure::new(BAD_ARGUMENTS, text)));
        }
    }
}
