//! The scripts in `testscripts/`: one folder a topic, one file a case.
//!
//! Requests are checked as the server checks them, and applied as one entry each, unless a script says otherwise.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use goldenscript::{Context, Runner};
use kvorum_machine::stream::Chunks;
use kvorum_machine::{
    BackendKind, MemberSeed, Origin, Outcome, Payload, RequestError, range, txn, validate,
};
use kvorum_mvcc::Read;
use kvorum_proto::entry::{CommandKind, MemberAttributes};
use kvorum_proto::wire::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};
use kvorum_types::{MemberId, Position};
use prost::Message;

use crate::fixture::{self, Fixture, member_dir};
use crate::show;

#[derive(goldenscript::Command)]
enum Command {
    /// Puts a key, or adds a put to the open transaction.
    Put {
        key: String,
        value: Option<String>,
        #[arg(key, optional)]
        lease: i64,
        #[arg(key, optional)]
        prev_kv: bool,
        #[arg(key, optional)]
        ignore_value: bool,
        #[arg(key, optional)]
        ignore_lease: bool,
    },
    /// Deletes a key or a range.
    Del {
        key: String,
        end: Option<String>,
        #[arg(key, optional)]
        prev_kv: bool,
    },
    /// Reads a key or a range.
    Get {
        key: String,
        end: Option<String>,
        #[arg(key, optional)]
        revision: i64,
        #[arg(key, optional)]
        limit: i64,
        #[arg(key)]
        order: Option<String>,
        #[arg(key)]
        target: Option<String>,
        #[arg(key, optional)]
        keys_only: bool,
        #[arg(key, optional)]
        count_only: bool,
        #[arg(key, optional)]
        min_mod: i64,
        #[arg(key, optional)]
        max_mod: i64,
        #[arg(key, optional)]
        min_create: i64,
        #[arg(key, optional)]
        max_create: i64,
        #[arg(key, optional)]
        serializable: bool,
        /// Answer in chunks of about this size, and show each.
        #[arg(key)]
        chunk_bytes: Option<usize>,
    },
    /// Opens a transaction, or one within the open one.
    Txn,
    /// Adds a compare to the open transaction.
    If {
        key: String,
        target: String,
        result: String,
        given: String,
        #[arg(key, optional)]
        end: String,
        /// Give the operand as that of another target.
        #[arg(key)]
        given_as: Option<String>,
    },
    /// Adds an operation with nothing in it.
    Nothing,
    /// Closes the open transaction; the outermost is run.
    End {
        #[arg(key)]
        max_ops: Option<usize>,
    },
    /// Puts `COUNT` keys under a prefix.
    Fill {
        prefix: String,
        count: u64,
        #[arg(key, optional)]
        value_bytes: usize,
    },
    Compact(i64),
    /// Sets the membership: `ID`, or `ID:learner`, for each member.
    Membership(#[arg(optional)] Vec<String>),
    Attributes {
        id: u64,
        name: String,
    },
    Members,
    /// Runs the store's background work, as far as the log is durable.
    Maintain {
        #[arg(key)]
        durable: Option<u64>,
    },
    Checkpoint,
    /// Forgets the log up to an index.
    Purge(u64),
    /// Kills the member and starts it again: memory is lost, what was handed to the kernel is not.
    Restart,
    /// Like `restart`, but the log has lost its entries from an index on.
    RestartWithLogCut(u64),
    PowerLoss,
    /// Changes a byte of a file of the member.
    Flip {
        path: String,
        offset: u64,
    },
    /// Removes the stores behind the member's back.
    RemoveStores,
    /// Runs the member on a store that does not outlive it.
    InMemory,
    /// Lists the member's files.
    Files,
    /// Begins to list what is done to the disk, or shows it.
    Ops,
}

/// A transaction being written down.
#[derive(Default)]
struct OpenTxn {
    request: TxnRequest,
    /// Which branch of the enclosing transaction it goes to.
    branch: String,
}

struct Script {
    fixture: Option<Fixture>,
    open: Vec<OpenTxn>,
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        let branch = context.prefix.clone().unwrap_or_default();
        let raw = context.tags.contains("raw");
        match command {
            Command::Put { .. } | Command::Del { .. } | Command::Get { .. } | Command::Nothing
                if !self.open.is_empty() =>
            {
                let operation = RequestOp { request: operation(command)? };
                self.add(&branch, operation)
            }
            Command::Txn => {
                self.open.push(OpenTxn { branch, ..OpenTxn::default() });
                Ok(String::new())
            }
            Command::If { .. } => {
                let open = self.open.last_mut().ok_or("no transaction is open")?;
                open.request.compare.push(compare(command)?);
                Ok(String::new())
            }
            Command::End { max_ops } => self.end(max_ops.unwrap_or(128), raw),
            Command::Put { .. } | Command::Del { .. } => self.write(command, raw),
            Command::Get { .. } => self.read(command),
            _ => self.drive(command),
        }
    }
}

impl Script {
    fn fixture(&mut self) -> &mut Fixture {
        self.fixture.as_mut().expect("the machine did not open")
    }

    fn add(&mut self, branch: &str, operation: RequestOp) -> Result<String, Box<dyn Error>> {
        let open = self.open.last_mut().ok_or("no transaction is open")?;
        match branch {
            "then" => open.request.success.push(operation),
            "else" => open.request.failure.push(operation),
            other => return Err(format!("{other:?} is neither then nor else").into()),
        }
        Ok(String::new())
    }

    fn end(&mut self, max_ops: usize, raw: bool) -> Result<String, Box<dyn Error>> {
        let OpenTxn { request, branch } = self.open.pop().ok_or("no transaction is open")?;
        if !self.open.is_empty() {
            return self.add(&branch, RequestOp { request: Some(Request::RequestTxn(request)) });
        }
        if !raw && let Err(error) = validate::txn(&request, max_ops) {
            return Ok(show::request_error(&error));
        }
        if !raw && txn::is_read_only(&request) {
            let kind = if txn::is_serializable(&request) { "serializable" } else { "read-only" };
            let answer = txn::read_only(&self.fixture().view(), &request);
            return Ok(match answer {
                Ok(response) => format!("{kind}: {}", show::txn(&response)),
                Err(error) => format!("{kind}: {}", show::range_error(&error)),
            });
        }
        let outcome = self.fixture().txn(&request);
        Ok(show::outcome(&outcome))
    }

    fn write(&mut self, command: &Command, raw: bool) -> Result<String, Box<dyn Error>> {
        let (kind, checked, bytes) = match operation(command)? {
            Some(Request::RequestPut(put)) => {
                (CommandKind::Put, validate::put(&put), put.encode_to_vec())
            }
            Some(Request::RequestDeleteRange(delete)) => {
                let checked = validate::delete_range(&delete);
                (CommandKind::DeleteRange, checked, delete.encode_to_vec())
            }
            _ => return Err("not a write".into()),
        };
        Ok(self.submit(kind, checked, bytes.into(), raw))
    }

    fn submit(
        &mut self,
        kind: CommandKind,
        checked: Result<(), RequestError>,
        request: Bytes,
        raw: bool,
    ) -> String {
        match checked {
            Err(error) if !raw => show::request_error(&error),
            _ => {
                let outcome: Outcome = self.fixture().command(kind, request);
                show::outcome(&outcome)
            }
        }
    }

    fn read(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        let Some(Request::RequestRange(request)) = operation(command)? else {
            return Err("not a read".into());
        };
        let view = self.fixture().view();
        let Command::Get { chunk_bytes: Some(chunk_bytes), .. } = command else {
            let answer = validate::range(&request)
                .map_err(Into::into)
                .and_then(|()| range::range(&view, &request));
            return Ok(match answer {
                Ok(response) => show::range(&response),
                Err(error) => show::range_error(&error),
            });
        };
        Ok(show_chunks(view, request, *chunk_bytes))
    }

    fn drive(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        match command {
            Command::Fill { prefix, count, value_bytes } => {
                let value = "v".repeat(*value_bytes);
                for number in 0..*count {
                    self.fixture().put(&format!("{prefix}{number:04}"), &value)?;
                }
            }
            Command::Compact(revision) => {
                return Ok(show::outcome(&self.fixture().compact(*revision)));
            }
            Command::Membership(members) => {
                let members = members.iter().map(|text| seed(text)).collect::<Result<_, _>>()?;
                let encoded = Bytes::from_static(b"engine");
                self.fixture().apply(Payload::Membership { encoded, members });
            }
            Command::Attributes { id, name } => {
                let client_urls = vec![format!("http://{name}:2379")];
                let attributes =
                    MemberAttributes { member_id: *id, name: name.clone(), client_urls };
                let request = attributes.encode_to_vec().into();
                return Ok(self.submit(CommandKind::MemberAttributes, Ok(()), request, false));
            }
            Command::Members => return Ok(self.members()),
            Command::Maintain { durable } => {
                let durable = durable.or(fixture::last_index(&self.fixture().log));
                self.fixture().maintain_up_to(durable);
            }
            Command::Checkpoint => return Ok(self.checkpoint()),
            Command::Purge(index) => self.fixture().purged = Some(*index),
            _ => return self.damage(command),
        }
        Ok(String::new())
    }

    fn damage(&mut self, command: &Command) -> Result<String, Box<dyn Error>> {
        match command {
            Command::RestartWithLogCut(index) => {
                self.fixture().log.truncate(*index as usize);
                return self.restart();
            }
            Command::Restart => return self.restart(),
            Command::PowerLoss => {
                self.fixture().disk.power_loss_taking_all();
                return self.restart();
            }
            Command::InMemory => {
                self.fixture().backend = BackendKind::Memory;
                return self.restart();
            }
            Command::RemoveStores => {
                let stores = self.fixture().stores.clone();
                stores.numbers().into_iter().for_each(|number| stores.remove(number));
            }
            Command::Flip { path, offset } => {
                self.fixture().disk.flip(&member_dir().join(path), *offset, 0x10)?;
            }
            Command::Files => {
                let mut out = String::new();
                let fixture = self.fixture();
                for (name, length) in fixture::files(&fixture.disk, &member_dir()) {
                    writeln!(out, "{name} ({length} bytes)")?;
                }
                writeln!(out, "stores in memory: {:?}", fixture.stores.numbers())?;
                return Ok(out);
            }
            Command::Ops => {
                let disk = self.fixture().disk.clone();
                let ops = disk.take_ops();
                disk.list_ops();
                return Ok(ops.iter().map(|op| format!("{op}\n")).collect());
            }
            _ => return Err("not handled".into()),
        }
        Ok(String::new())
    }

    fn restart(&mut self) -> Result<String, Box<dyn Error>> {
        let fixture = self.fixture.take().expect("the machine did not open");
        let Fixture { disk, stores, backend, log, purged, .. } = fixture;
        match Fixture::with(disk, stores, backend, log, purged) {
            Ok(mut fixture) => {
                let mut out = String::new();
                for refusal in &fixture.refused {
                    writeln!(out, "refused: {refusal}")?;
                }
                let shown = |position: Option<Position>| match position {
                    Some(position) => position.to_string(),
                    None => "nothing".to_owned(),
                };
                let origin = match fixture.origin {
                    Origin::Store => "the store".to_owned(),
                    Origin::Checkpoint(position) => format!("the checkpoint at {position}"),
                    Origin::Nothing => "nothing".to_owned(),
                };
                writeln!(out, "from {origin}, applied {}", shown(fixture.machine.applied()))?;
                fixture.replay();
                let (revision, applied) = (fixture.view().revision(), fixture.machine.applied());
                writeln!(out, "after the log: revision {revision}, applied {}", shown(applied))?;
                self.fixture = Some(fixture);
                Ok(out)
            }
            // The script ends here: there is no machine to go on with.
            Err(error) => Ok(format!("error: {error}\n")),
        }
    }

    fn checkpoint(&mut self) -> String {
        match self.fixture().checkpoint() {
            Ok(info) => {
                let name = info.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                format!(
                    "{name}: position {}, revision {}, compacted {}\n",
                    info.position, info.revision, info.compact_revision
                )
            }
            Err(error) => format!("error: {error}\n"),
        }
    }

    fn members(&mut self) -> String {
        let reader = self.fixture().machine.reader();
        let mut out = String::new();
        for member in reader.members().iter() {
            let learner = if member.is_learner { ", learner" } else { "" };
            writeln!(
                out,
                "{} {:?} peers {:?} clients {:?}{learner}",
                member.id, member.name, member.peer_urls, member.client_urls
            )
            .unwrap();
        }
        let removed: Vec<String> = reader.removed().iter().map(MemberId::to_string).collect();
        writeln!(out, "removed: {}", removed.join(" ")).unwrap();
        out
    }
}

fn show_chunks(view: kvorum_mvcc::View, request: RangeRequest, chunk_bytes: usize) -> String {
    let mut chunks = match Chunks::new(view, request, chunk_bytes) {
        Ok(chunks) => chunks,
        Err(error) => return show::range_error(&error),
    };
    let mut out = String::new();
    loop {
        match chunks.next_chunk() {
            Ok(None) => return out,
            Ok(Some(chunk)) => {
                let chunk = chunk.range_response.unwrap_or_default();
                let keys = chunk.kvs.len();
                match &chunk.header {
                    None => writeln!(out, "{keys} keys").unwrap(),
                    Some(header) => writeln!(
                        out,
                        "{keys} keys, count {}{}, revision {}",
                        chunk.count,
                        if chunk.more { ", more" } else { "" },
                        header.revision
                    )
                    .unwrap(),
                }
            }
            Err(error) => {
                out.push_str(&show::range_error(&error));
                return out;
            }
        }
    }
}

fn seed(text: &str) -> Result<MemberSeed, Box<dyn Error>> {
    let (id, is_learner) = match text.strip_suffix("/learner") {
        Some(id) => (id, true),
        None => (text, false),
    };
    let peer_urls = vec![format!("http://peer-{id}:2380")];
    Ok(MemberSeed { id: MemberId(id.parse()?), name: String::new(), peer_urls, is_learner })
}

fn operation(command: &Command) -> Result<Option<Request>, Box<dyn Error>> {
    Ok(match command {
        Command::Put { key, value, lease, prev_kv, ignore_value, ignore_lease } => {
            Some(Request::RequestPut(PutRequest {
                key: fixture::bytes(key),
                value: fixture::bytes(value.as_deref().unwrap_or_default()),
                lease: *lease,
                prev_kv: *prev_kv,
                ignore_value: *ignore_value,
                ignore_lease: *ignore_lease,
            }))
        }
        Command::Del { key, end, prev_kv } => {
            Some(Request::RequestDeleteRange(DeleteRangeRequest {
                key: fixture::bytes(key),
                range_end: fixture::bytes(end.as_deref().unwrap_or_default()),
                prev_kv: *prev_kv,
            }))
        }
        Command::Get { .. } => Some(Request::RequestRange(get(command)?)),
        _ => None,
    })
}

fn get(command: &Command) -> Result<RangeRequest, Box<dyn Error>> {
    let Command::Get {
        key,
        end,
        revision,
        limit,
        order,
        target,
        keys_only,
        count_only,
        min_mod,
        max_mod,
        min_create,
        max_create,
        serializable,
        chunk_bytes: _,
    } = command
    else {
        return Err("not a get".into());
    };
    let by_name = |name: &Option<String>, known: fn(&str) -> Option<i32>| match name.as_deref() {
        None => Ok(0),
        Some(name) => known(&name.to_uppercase())
            .or_else(|| name.parse().ok())
            .ok_or(format!("{name} is not known")),
    };
    Ok(RangeRequest {
        key: fixture::bytes(key),
        range_end: fixture::bytes(end.as_deref().unwrap_or_default()),
        limit: *limit,
        revision: *revision,
        sort_order: by_name(order, |name| SortOrder::from_str_name(name).map(|o| o as i32))?,
        sort_target: by_name(target, |name| SortTarget::from_str_name(name).map(|t| t as i32))?,
        serializable: *serializable,
        keys_only: *keys_only,
        count_only: *count_only,
        min_mod_revision: *min_mod,
        max_mod_revision: *max_mod,
        min_create_revision: *min_create,
        max_create_revision: *max_create,
    })
}

fn compare(command: &Command) -> Result<Compare, Box<dyn Error>> {
    let Command::If { key, target, result, given, end, given_as } = command else {
        return Err("not a compare".into());
    };
    let result = match result.as_str() {
        "eq" => CompareResult::Equal as i32,
        "ne" => CompareResult::NotEqual as i32,
        "gt" => CompareResult::Greater as i32,
        "lt" => CompareResult::Less as i32,
        number => number.parse()?,
    };
    let number = || given.parse::<i64>();
    let target_union = match given_as.as_deref().unwrap_or(target) {
        "version" => Some(TargetUnion::Version(number()?)),
        "create" => Some(TargetUnion::CreateRevision(number()?)),
        "mod" => Some(TargetUnion::ModRevision(number()?)),
        "value" => Some(TargetUnion::Value(fixture::bytes(given))),
        "lease" => Some(TargetUnion::Lease(number()?)),
        _ => None,
    };
    let target = match CompareTarget::from_str_name(&target.to_uppercase()) {
        Some(target) => target as i32,
        None => target.parse()?,
    };
    let (key, range_end) = (fixture::bytes(key), fixture::bytes(end));
    Ok(Compare { result, target, key, range_end, target_union })
}

fn run_topic(topic: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts").join(topic);
    let mut cases: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("a directory entry").path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case in {}", dir.display());
    for case in cases {
        let mut script = Script { fixture: Some(Fixture::new()), open: Vec::new() };
        goldenscript::run(&mut script, &case).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn range() {
    run_topic("range");
}

#[test]
fn put() {
    run_topic("put");
}

#[test]
fn delete_range() {
    run_topic("delete_range");
}

#[test]
fn transactions() {
    run_topic("txn");
}

#[test]
fn compaction() {
    run_topic("compaction");
}

#[test]
fn members() {
    run_topic("members");
}

#[test]
fn restart() {
    run_topic("restart");
}
