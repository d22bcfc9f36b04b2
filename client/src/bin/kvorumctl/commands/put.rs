//! `put`: writes a key.

use std::io::Read;

use bytes::Bytes;
use clap::{ArgMatches, Command};
use kvorum_client::api::etcdserverpb::PutRequest;

use super::{bytes, output};
use crate::failure::{BAD_ARGUMENTS, Failure};
use crate::flags::{self, Flags};
use crate::go::number::{Base, parse_int};
use crate::session::Session;

pub fn command() -> Command {
    Command::new("put")
        .about("Puts the given key into the store")
        .long_about(
            "Puts the given key into the store.\n\n\
             Without a value (and without --ignore-value) the value is read from standard input.\n\
             A key or value that begins with a dash comes after two: put -- -key -value",
        )
        .override_usage(
            "kvorumctl put [options] <key> <value>\n       kvorumctl put [options] <key> < value",
        )
        .arg(flags::arguments("KEY [VALUE]"))
        .arg(flags::switch("ignore-lease", "keep the lease the key has"))
        .arg(flags::switch("ignore-value", "keep the value the key has"))
        .arg(flags::text("lease", "id of the lease to attach the key to, in hexadecimal (0)"))
        .arg(flags::switch("prev-kv", "print what the key was before"))
}

pub async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let request = request(matches, &mut std::io::stdin())?;
    let session = Session::open(matches).await?;
    let answer = session.client.put_with(request).await?;
    session.printer.put(&mut output(), &answer)
}

/// The request that the flags describe. A value that is not an argument is read from `input`.
pub fn request(matches: &ArgMatches, input: &mut dyn Read) -> Result<PutRequest, Failure> {
    let arguments = matches.arguments();
    let ignore_value = matches.is_on("ignore-value");
    if ignore_value && arguments.len() > 1 {
        let text = "put command needs only 1 argument when 'ignore-value' is set";
        return Err(Failure::new(BAD_ARGUMENTS, text));
    }
    let mut arguments = arguments.into_iter().map(bytes);
    let key = arguments.next().ok_or_else(missing)?;
    let value = match arguments.next() {
        _ if ignore_value => Bytes::new(),
        Some(value) => value,
        None => read_value(input)?,
    };
    Ok(PutRequest {
        key,
        value,
        lease: lease(matches.text("lease"))?,
        prev_kv: matches.is_on("prev-kv"),
        ignore_value,
        ignore_lease: matches.is_on("ignore-lease"),
    })
}

/// All of `input`, which must be something.
fn read_value(input: &mut dyn Read) -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    match input.read_to_end(&mut value) {
        Ok(bytes) if bytes > 0 => Ok(value.into()),
        _ => Err(missing()),
    }
}

fn lease(text: &str) -> Result<i64, Failure> {
    if text.is_empty() {
        return Ok(0);
    }
    parse_int(text, Base::Hexadecimal).map_err(|error| {
        Failure::new(BAD_ARGUMENTS, format!("bad lease ID ({error}), expecting ID in Hex"))
    })
}

fn missing() -> Failure {
    let text = "put command needs 1 argument and input from stdin or 2 arguments";
    Failure::new(BAD_ARGUMENTS, text)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kvorum_client::api::etcdserverpb::PutRequest;

    use super::{command, request};
    use crate::failure::{BAD_ARGUMENTS, Failure};

    fn put(arguments: &[&str], input: &str) -> Result<PutRequest, Failure> {
        let matches = command().try_get_matches_from([&["put"], arguments].concat()).unwrap();
        request(&matches, &mut input.as_bytes())
    }

    fn refused(text: &str) -> Result<PutRequest, Failure> {
        Err(Failure::new(BAD_ARGUMENTS, text))
    }

    #[test]
    fn a_value_is_an_argument_or_the_input() {
        let both = put(&["k", "v"], "").unwrap();
        assert_eq!((both.key, both.value), (Bytes::from("k"), Bytes::from("v")));
        assert_eq!(put(&["k"], "from input\n").unwrap().value, "from input\n");
        assert_eq!(put(&["--", "-k", "-v"], "").unwrap().key, "-k");
        assert_eq!(put(&["k", "--", "-v"], "").unwrap().value, "-v");
        assert_eq!(put(&["k", "", "surplus"], "").unwrap().value, "");
        let missing = "put command needs 1 argument and input from stdin or 2 arguments";
        assert_eq!(put(&["k"], ""), refused(missing));
        assert_eq!(put(&[], "v"), refused(missing));
    }

    #[test]
    fn flags_are_in_the_request() {
        let request = put(&["k", "--ignore-value", "--lease=1f", "--prev-kv=true"], "x").unwrap();
        let expected = PutRequest {
            key: "k".into(),
            lease: 31,
            prev_kv: true,
            ignore_value: true,
            ..Default::default()
        };
        assert_eq!(request, expected);
        assert!(put(&["k", "v", "--ignore-lease"], "").unwrap().ignore_lease);
        assert_eq!(
            put(&["k", "v", "--ignore-value"], ""),
            refused("put command needs only 1 argument when 'ignore-value' is set")
        );
        assert_eq!(
            put(&["k", "v", "--lease", "zz"], ""),
            refused(
                r#"bad lease ID (strconv.ParseInt: parsing "zz": invalid syntax), expecting ID in Hex"#
            )
        );
    }
}
