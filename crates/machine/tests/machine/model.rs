//! A naive model of the machine, and a driver that compares the two.
//!
//! The model keeps the whole map of keys once for every revision. It answers in the API's own messages, so that a
//! difference in any field shows.

use std::collections::BTreeMap;

use bytes::Bytes;
use kvorum_lease::Lease;
use kvorum_machine::stream::Chunks;
use kvorum_machine::{CommandError, Outcome, RangeError, Reply, range, txn, validate};
use kvorum_proto::api::mvccpb;
use kvorum_proto::entry::{CommandKind, LeaseCheckpoints, LeaseExpire};
use kvorum_proto::wire::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse,
    KeyValue, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp,
    TxnRequest, TxnResponse, compare::TargetUnion, request_op::Request, response_op::Response,
};
use kvorum_types::{KeyRange, LeaseId, Position};
use prost::Message;

use crate::fixture::{Fixture, bytes, position, write_checkpoint};
pub use crate::random::Random;

type Map = BTreeMap<Vec<u8>, mvccpb::KeyValue>;

/// The state after each revision; the first is revision 1.
pub struct Model {
    maps: Vec<Map>,
    compacted: i64,
    pub leases: BTreeMap<i64, Lease>,
}

impl Model {
    pub fn new() -> Model {
        Model { maps: vec![Map::new()], compacted: -1, leases: BTreeMap::new() }
    }

    fn revision(&self) -> i64 {
        self.maps.len() as i64
    }

    fn latest(&self) -> &Map {
        self.maps.last().unwrap()
    }

    fn write(&mut self, run: impl FnOnce(&mut Run) -> Result<Reply, CommandError>) -> Outcome {
        let mut run_state = Run {
            model: self,
            map: self.latest().clone(),
            revision: self.revision(),
            wrote: false,
        };
        let reply = run(&mut run_state)?;
        let (map, wrote) = (run_state.map, run_state.wrote);
        if wrote {
            self.maps.push(map);
        }
        Ok(reply)
    }

    /// The keys attached to a lease, in order: those whose records say so.
    pub fn keys(&self, lease: i64) -> Vec<Vec<u8>> {
        let attached = self.latest().values().filter(|kv| kv.lease == lease);
        attached.map(|kv| kv.key.to_vec()).collect()
    }

    pub fn lease_command(&mut self, kind: CommandKind, request: Bytes, at: Position) -> Outcome {
        let header = |model: &Model| header(model.revision());
        match kind {
            CommandKind::LeaseGrant => {
                let LeaseGrantRequest { id, ttl } = LeaseGrantRequest::decode(request).unwrap();
                if id == 0 {
                    return Err(CommandError::LeaseNotFound);
                }
                if ttl > 9_000_000_000 {
                    return Err(CommandError::LeaseTtlTooLarge);
                }
                if self.leases.contains_key(&id) {
                    return Err(CommandError::LeaseExists);
                }
                let lease = Lease { ttl: ttl.max(1), granted: at.index, remaining: 0 };
                self.leases.insert(id, lease);
                let (header, error) = (header(self), String::new());
                Ok(Reply::LeaseGrant(LeaseGrantResponse { header, id, ttl: lease.ttl, error }))
            }
            CommandKind::LeaseRevoke => {
                let id = LeaseRevokeRequest::decode(request).unwrap().id;
                self.leases.remove(&id).ok_or(CommandError::LeaseNotFound)?;
                self.delete_keys(id);
                Ok(Reply::LeaseRevoke(LeaseRevokeResponse { header: header(self) }))
            }
            CommandKind::LeaseExpire => {
                let request = LeaseExpire::decode(request).unwrap();
                for of in request.leases.iter().filter(|_| request.term == at.term) {
                    if self.leases.get(&of.id).is_some_and(|lease| lease.granted == of.granted) {
                        self.leases.remove(&of.id);
                        self.delete_keys(of.id);
                    }
                }
                Ok(Reply::LeaseExpire)
            }
            _ => {
                let request = LeaseCheckpoints::decode(request).unwrap();
                for of in request.leases.iter().filter(|_| request.term == at.term) {
                    let lease = self.leases.get_mut(&of.id);
                    if let Some(lease) = lease.filter(|lease| lease.granted == of.granted) {
                        lease.remaining = of.remaining.min(lease.ttl);
                    }
                }
                Ok(Reply::LeaseCheckpoint)
            }
        }
    }

    fn delete_keys(&mut self, lease: i64) {
        if !self.keys(lease).is_empty() {
            let mut map = self.latest().clone();
            map.retain(|_, kv| kv.lease != lease);
            self.maps.push(map);
        }
    }

    pub fn put(&mut self, request: &PutRequest) -> Outcome {
        validate::put(request)?;
        self.write(|run| {
            run.check_put(request)?;
            Ok(Reply::Put(run.put(request)))
        })
    }

    pub fn delete(&mut self, request: &DeleteRangeRequest) -> Outcome {
        validate::delete_range(request)?;
        self.write(|run| Ok(Reply::DeleteRange(run.delete(request))))
    }

    pub fn txn(&mut self, request: &TxnRequest) -> Outcome {
        validate::txn(request, usize::MAX)?;
        self.write(|run| {
            let before = run.map.clone();
            run.check(request, &before)?;
            let mut response = run.txn(request, &before)?;
            response.header = header(run.now());
            Ok(Reply::Txn(response))
        })
    }

    pub fn compact(&mut self, revision: i64) -> Outcome {
        if revision <= self.compacted {
            return Err(CommandError::Compacted);
        }
        if revision > self.revision() {
            return Err(CommandError::FutureRevision);
        }
        self.compacted = revision;
        Ok(Reply::Compaction(CompactionResponse { header: header(self.revision()) }))
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, CommandError> {
        self.range_in(request, self.latest(), self.revision())
    }

    fn range_in(
        &self,
        request: &RangeRequest,
        current: &Map,
        now: i64,
    ) -> Result<RangeResponse, CommandError> {
        if request.revision > now {
            return Err(CommandError::FutureRevision);
        }
        if request.revision > 0 && request.revision < self.compacted {
            return Err(CommandError::Compacted);
        }
        let map = match request.revision {
            revision if revision <= 0 || revision == now => current,
            revision => &self.maps[revision as usize - 1],
        };
        let mut found: Vec<_> = in_range(map, &request.key, &request.range_end);
        let count = found.len() as i64;
        let header = header(now);
        if request.count_only {
            return Ok(RangeResponse { header, count, ..RangeResponse::default() });
        }
        let limit = request.limit.max(0) as usize;
        let bounds = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let (order, target) = (request.sort_order, request.sort_target);
        let in_key_order = order == 0 || (order == 1 && target == 0);
        if in_key_order && bounds == [0; 4] && limit > 0 {
            found.truncate(limit + 1);
        }
        let [min_mod, max_mod, min_create, max_create] = bounds;
        found.retain(|kv| {
            (min_mod == 0 || kv.mod_revision >= min_mod)
                && (max_mod == 0 || kv.mod_revision <= max_mod)
                && (min_create == 0 || kv.create_revision >= min_create)
                && (max_create == 0 || kv.create_revision <= max_create)
        });
        sort(&mut found, order, target);
        let more = limit > 0 && found.len() > limit;
        if more {
            found.truncate(limit);
        }
        if request.keys_only && target != 4 {
            found.iter_mut().for_each(|kv| kv.lease = 0);
        }
        let kvs = found.into_iter().map(|kv| wire_kv(kv, request.keys_only)).collect();
        Ok(RangeResponse { header, kvs, more, count })
    }
}

fn sort(found: &mut [mvccpb::KeyValue], order: i32, target: i32) {
    let number = |kv: &mvccpb::KeyValue| match target {
        1 => kv.version,
        2 => kv.create_revision,
        3 => kv.mod_revision,
        _ => 0,
    };
    let value = |kv: &mvccpb::KeyValue| if target == 4 { kv.value.clone() } else { bytes("") };
    let key = |kv: &mvccpb::KeyValue| if target == 0 { kv.key.clone() } else { bytes("") };
    let sort_key = |kv: &mvccpb::KeyValue| (number(kv), value(kv), key(kv));
    match order {
        2 => found.sort_by_key(|kv| std::cmp::Reverse(sort_key(kv))),
        _ => found.sort_by_key(sort_key),
    }
}

/// One write on the way.
struct Run<'a> {
    model: &'a Model,
    map: Map,
    revision: i64,
    wrote: bool,
}

impl Run<'_> {
    fn now(&self) -> i64 {
        self.revision + i64::from(self.wrote)
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), CommandError> {
        if request.lease != 0 && !self.model.leases.contains_key(&request.lease) {
            return Err(CommandError::LeaseNotFound);
        }
        let keeps = request.ignore_value || request.ignore_lease;
        match self.model.latest().contains_key(&request.key[..]) || !keeps {
            true => Ok(()),
            false => Err(CommandError::KeyNotFound),
        }
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        self.wrote = true;
        let mod_revision = self.now();
        let old = self.map.get(&request.key[..]).cloned();
        let (create_revision, version) = match &old {
            Some(old) => (old.create_revision, old.version + 1),
            None => (mod_revision, 1),
        };
        let kept = old.as_ref().filter(|_| request.ignore_value);
        let value = kept.map_or(request.value.clone(), |old| old.value.clone());
        let kept = old.as_ref().filter(|_| request.ignore_lease);
        let lease = kept.map_or(request.lease, |old| old.lease);
        let key = request.key.clone();
        let kv = mvccpb::KeyValue { key, create_revision, mod_revision, version, value, lease };
        self.map.insert(request.key.to_vec(), kv);
        let prev_kv = old.filter(|_| request.prev_kv).map(|old| wire_kv(old, false));
        PutResponse { header: header(mod_revision), prev_kv }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let old = in_range(&self.map, &request.key, &request.range_end);
        self.wrote |= !old.is_empty();
        old.iter().for_each(|kv| drop(self.map.remove(&kv.key[..])));
        let deleted = old.len() as i64;
        let prev_kvs = match request.prev_kv {
            true => old.into_iter().map(|kv| wire_kv(kv, false)).collect(),
            false => Vec::new(),
        };
        DeleteRangeResponse { header: header(self.now()), deleted, prev_kvs }
    }

    fn branch<'r>(request: &'r TxnRequest, before: &Map) -> (bool, &'r [RequestOp]) {
        match request.compare.iter().all(|compare| holds(compare, before)) {
            true => (true, &request.success),
            false => (false, &request.failure),
        }
    }

    fn check(&self, request: &TxnRequest, before: &Map) -> Result<(), CommandError> {
        for operation in Run::branch(request, before).1 {
            match operation.request.as_ref().unwrap() {
                Request::RequestRange(range) => {
                    if range.revision != 0 && range.revision < self.model.compacted {
                        return Err(CommandError::Compacted);
                    }
                    if range.revision > self.model.revision() {
                        return Err(CommandError::FutureRevision);
                    }
                }
                Request::RequestPut(put) => self.check_put(put)?,
                Request::RequestDeleteRange(_) => {}
                Request::RequestTxn(nested) => self.check(nested, before)?,
            }
        }
        Ok(())
    }

    fn txn(&mut self, request: &TxnRequest, before: &Map) -> Result<TxnResponse, CommandError> {
        let (succeeded, operations) = Run::branch(request, before);
        let mut responses = Vec::new();
        for operation in operations {
            let response = match operation.request.as_ref().unwrap() {
                Request::RequestRange(range) => {
                    let now = self.now();
                    Response::ResponseRange(self.model.range_in(range, &self.map, now)?)
                }
                Request::RequestPut(put) => {
                    let keeps = put.ignore_value || put.ignore_lease;
                    if keeps && !self.map.contains_key(&put.key[..]) {
                        return Err(CommandError::KeyNotFound);
                    }
                    Response::ResponsePut(self.put(put))
                }
                Request::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(self.delete(delete))
                }
                Request::RequestTxn(nested) => Response::ResponseTxn(self.txn(nested, before)?),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        Ok(TxnResponse { header: header(0), succeeded, responses })
    }
}

fn holds(compare: &Compare, map: &Map) -> bool {
    let one = |kv: &mvccpb::KeyValue| {
        let order = match compare.target_union.as_ref().unwrap() {
            TargetUnion::Version(given) => kv.version.cmp(given),
            TargetUnion::CreateRevision(given) => kv.create_revision.cmp(given),
            TargetUnion::ModRevision(given) => kv.mod_revision.cmp(given),
            TargetUnion::Lease(given) => kv.lease.cmp(given),
            TargetUnion::Value(given) => kv.value.cmp(given),
        };
        [order.is_eq(), order.is_gt(), order.is_lt(), order.is_ne()][compare.result as usize]
    };
    match in_range(map, &compare.key, &compare.range_end) {
        kvs if kvs.is_empty() => compare.target != 3 && one(&mvccpb::KeyValue::default()),
        kvs => kvs.iter().all(one),
    }
}

fn in_range(map: &Map, key: &Bytes, range_end: &Bytes) -> Vec<mvccpb::KeyValue> {
    let keys = KeyRange::from_wire(key.clone(), range_end.clone());
    map.values().filter(|kv| keys.contains(&kv.key)).cloned().collect()
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

fn wire_kv(mut kv: mvccpb::KeyValue, drops_value: bool) -> KeyValue {
    if drops_value {
        kv.value.clear();
    }
    KeyValue::from_encoded(kv.encode_to_vec().into()).unwrap()
}

/// Runs one seed: random commands and reads on machine and model, with maintenance, checkpoints and restarts between.
fn drive(seed: u64, steps: usize) {
    let mut random = Random(seed);
    let (mut fixture, mut model) = (Fixture::new(), Model::new());
    for step in 0..steps {
        let revision = model.revision();
        let place = format!("seed {seed}, step {step}");
        let (found, wanted) = match random.below(12) {
            0..=3 => {
                let request = random.put();
                let found = fixture.command(CommandKind::Put, request.encode_to_vec().into());
                (found, model.put(&request))
            }
            4 => {
                let request = random.delete();
                let found =
                    fixture.command(CommandKind::DeleteRange, request.encode_to_vec().into());
                (found, model.delete(&request))
            }
            5..=8 => {
                let request = random.txn(revision, 2);
                (fixture.txn(&request), model.txn(&request))
            }
            9..=10 => {
                let at = position(fixture.log.len() as u64);
                let granted = |id| model.leases.get(&id).map(|lease| lease.granted);
                let (kind, request) = random.lease_command(at.term, granted);
                let found = fixture.command(kind, request.clone());
                (found, model.lease_command(kind, request, at))
            }
            _ => {
                let revision = random.near(revision - 3);
                let request = CompactionRequest { revision, physical: false };
                let found =
                    fixture.command(CommandKind::Compaction, request.encode_to_vec().into());
                (found, model.compact(revision))
            }
        };
        assert_eq!(found, wanted, "{place}");
        compare_leases(&fixture, &model, &place);
        for _ in 0..3 {
            compare_reads(&fixture, &model, &mut random, &place);
        }
        match random.below(60) {
            0..=5 => fixture.maintain(),
            6 => {
                let pin = fixture.machine.pin().unwrap();
                write_checkpoint(&fixture.checkpoints, pin).unwrap();
            }
            7 => fixture = fixture.restart().unwrap(),
            8 => {
                fixture.disk.power_loss(seed);
                fixture = fixture.restart().unwrap();
            }
            _ => {}
        }
        compare_leases(&fixture, &model, &place);
    }
}

fn compare_leases(fixture: &Fixture, model: &Model, place: &str) {
    let view = fixture.machine.reader().leases();
    let wanted = model.leases.iter().map(|(id, lease)| (LeaseId(*id), *lease));
    assert!(view.iter().eq(wanted), "{place}: {:?}", model.leases);
    for id in model.leases.keys() {
        let keys: Vec<_> = view.keys(LeaseId(*id)).map(<[u8]>::to_vec).collect();
        assert_eq!(keys, model.keys(*id), "{place}: lease {id}");
    }
    let attached = model.latest().values().filter(|kv| kv.lease != 0).count();
    assert_eq!(view.key_count(), attached, "{place}");
}

fn compare_reads(fixture: &Fixture, model: &Model, random: &mut Random, place: &str) {
    let view = fixture.view();
    let request = random.range(model.revision());
    let found = range::range(&view, &request);
    let wanted = model.range(&request);
    assert_eq!(found.as_ref().map_err(kind), wanted.as_ref().copied_err(), "{place}: {request:?}");
    if validate::range_stream(&request).is_ok() {
        let streamed = stream(Chunks::new(view.clone(), request.clone(), 200).unwrap());
        assert_eq!(
            streamed.as_ref().map_err(kind),
            wanted.as_ref().copied_err(),
            "{place}: stream"
        );
    }
    let request = random.txn(model.revision(), 0);
    if txn::is_read_only(&request) && validate::txn(&request, 128).is_ok() {
        let found = txn::read_only(&view, &request).map(Reply::Txn);
        let leases = model.leases.clone();
        let mut model = Model { maps: model.maps.clone(), compacted: model.compacted, leases };
        let wanted = model.txn(&request);
        assert_eq!(
            found.as_ref().map_err(kind),
            wanted.as_ref().copied_err(),
            "{place}: {request:?}"
        );
    }
}

trait CopiedErr<'a, T> {
    fn copied_err(self) -> Result<&'a T, CommandError>;
}

impl<'a, T> CopiedErr<'a, T> for Result<&'a T, &'a CommandError> {
    fn copied_err(self) -> Result<&'a T, CommandError> {
        self.map_err(|error| *error)
    }
}

fn kind(error: &RangeError) -> CommandError {
    match error {
        RangeError::Compacted => CommandError::Compacted,
        RangeError::FutureRevision => CommandError::FutureRevision,
        RangeError::Invalid(error) => CommandError::Invalid(*error),
        RangeError::Store(error) => panic!("{error}"),
    }
}

/// Merges the chunks as protobuf merges messages.
fn stream(mut chunks: Chunks<kvorum_mvcc::View>) -> Result<RangeResponse, RangeError> {
    let mut merged = RangeResponse::default();
    while let Some(chunk) = chunks.next_chunk()? {
        let chunk = chunk.range_response.unwrap();
        assert!(merged.header.is_none(), "nothing follows the header");
        merged.kvs.extend(chunk.kvs);
        (merged.header, merged.more, merged.count) = (chunk.header, chunk.more, chunk.count);
    }
    Ok(merged)
}

#[test]
fn random_commands_come_out_as_in_the_model() {
    for seed in 0..seed_count(60) {
        drive(seed, 300);
    }
}

/// How many seeds to try: more, for a longer search, where `KVORUM_TEST_SEEDS` says so.
pub fn seed_count(usual: u64) -> u64 {
    std::env::var("KVORUM_TEST_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// For a seed that failed.
#[test]
fn a_seed_to_look_into() {
    drive(1_000_003, 300);
}
