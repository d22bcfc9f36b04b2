//! The requests of a run, ready to be sent.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use kvorum_client::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kvorum_client::api::etcdserverpb::request_op::Request;
use kvorum_client::api::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use kvorum_client::prefix_end;
use prost::Message;

use super::keys::{Chooser, KeySpace, Values};
use super::watch::ledger::{self, Ledger, PutNumber};

/// The gRPC methods that are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Put,
    Txn,
    Range,
    RangeStream,
    Watch,
    Grant,
    KeepAlive,
}

impl Method {
    /// Its HTTP path.
    pub fn path(self) -> &'static str {
        match self {
            Method::Put => "/etcdserverpb.KV/Put",
            Method::Txn => "/etcdserverpb.KV/Txn",
            Method::Range => "/etcdserverpb.KV/Range",
            Method::RangeStream => "/etcdserverpb.KV/RangeStream",
            Method::Watch => "/etcdserverpb.Watch/Watch",
            Method::Grant => "/etcdserverpb.Lease/LeaseGrant",
            Method::KeepAlive => "/etcdserverpb.Lease/LeaseKeepAlive",
        }
    }

    /// Under which name its latencies are kept.
    pub fn name(self) -> &'static str {
        match self {
            Method::Put => "put",
            Method::Txn => "txn",
            Method::Range | Method::RangeStream => "range",
            Method::Watch => "watch",
            Method::Grant => "grant",
            Method::KeepAlive => "keep-alive",
        }
    }
}

/// A request as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub method: Method,
    /// The gRPC message with its five bytes in front.
    pub frame: Bytes,
    /// Which put it is, if someone watches for it.
    pub put: Option<PutNumber>,
}

impl Call {
    pub fn new(method: Method, message: &impl Message) -> Call {
        Call { method, frame: frame(message), put: None }
    }
}

/// A message with the five bytes in front of it that gRPC wants.
pub fn frame(message: &impl Message) -> Bytes {
    let bytes = message.encoded_len();
    let length = u32::try_from(bytes).expect("values are smaller than 4 GiB");
    let mut frame = BytesMut::with_capacity(5 + bytes);
    // Not compressed.
    frame.put_u8(0);
    frame.put_u32(length);
    message.encode(&mut frame).expect("the buffer has room");
    frame.freeze()
}

/// How the whole key space is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    pub limit: i64,
    pub keys_only: bool,
    pub count_only: bool,
    pub stream: bool,
}

/// Makes the requests of a run, one after the other. All clients draw from the same one.
#[derive(Debug)]
pub enum Work {
    Put {
        keys: Chooser,
        values: Values,
    },
    Txn {
        keys: Chooser,
        values: Values,
        operations: usize,
    },
    Range {
        keys: Chooser,
        serializable: bool,
    },
    /// Always the same request.
    List(Call),
    Mixed {
        keys: Chooser,
        values: Values,
        serializable: bool,
        read_percent: u64,
    },
    /// Puts that are told apart when they come back as events.
    Watched {
        keys: Chooser,
        values: Values,
        ledger: Rc<RefCell<Ledger>>,
    },
    /// New leases: with ids that count up, or that the server chooses.
    Grant {
        ttl: i64,
        next_id: Option<i64>,
    },
    /// Keys of leases, so many for each.
    Attach {
        prefix: String,
        values: Values,
        first_id: i64,
        keys_each: u64,
        sent: u64,
    },
    /// Renewals of so many leases in turn.
    KeepAlive {
        first_id: i64,
        count: u64,
        sent: u64,
    },
}

impl Work {
    /// Whether each client sends its requests on one stream.
    pub fn is_streamed(&self) -> bool {
        matches!(self, Work::KeepAlive { .. })
    }

    pub fn put(keys: KeySpace, values: Values, seed: u64) -> Work {
        Work::Put { keys: Chooser::new(keys, seed), values }
    }

    pub fn txn(keys: KeySpace, values: Values, seed: u64, operations: usize) -> Work {
        // A transaction may write a key only once.
        let operations = operations.min(usize::try_from(keys.count()).unwrap_or(usize::MAX));
        Work::Txn { keys: Chooser::new(keys, seed), values, operations }
    }

    pub fn range(keys: KeySpace, seed: u64, serializable: bool) -> Work {
        Work::Range { keys: Chooser::new(keys, seed), serializable }
    }

    pub fn list(keys: &KeySpace, serializable: bool, options: ListOptions) -> Work {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(keys.prefix().as_bytes()),
            range_end: prefix_end(keys.prefix().as_bytes()),
            limit: options.limit,
            serializable,
            keys_only: options.keys_only,
            count_only: options.count_only,
            ..Default::default()
        };
        let method = if options.stream { Method::RangeStream } else { Method::Range };
        Work::List(Call::new(method, &request))
    }

    pub fn mixed(
        keys: KeySpace,
        values: Values,
        seed: u64,
        serializable: bool,
        read_percent: u64,
    ) -> Work {
        Work::Mixed { keys: Chooser::new(keys, seed), values, serializable, read_percent }
    }

    pub fn watched(keys: KeySpace, values: Values, seed: u64, ledger: Rc<RefCell<Ledger>>) -> Work {
        Work::Watched { keys: Chooser::new(keys, seed), values, ledger }
    }

    /// A request was answered without an error.
    pub fn answered(&mut self, put: PutNumber) {
        if let Work::Watched { ledger, .. } = self {
            ledger.borrow_mut().answered(put);
        }
    }

    /// The next request.
    pub fn next(&mut self) -> Call {
        match self {
            Work::Put { keys, values } => put(keys, values),
            Work::Txn { keys, values, operations } => txn(keys, values, *operations),
            Work::Range { keys, serializable } => range(keys, *serializable),
            Work::List(call) => call.clone(),
            Work::Mixed { keys, values, serializable, read_percent } => {
                if keys.random_below(100) < *read_percent {
                    range(keys, *serializable)
                } else {
                    put(keys, values)
                }
            }
            Work::Watched { keys, values, ledger } => {
                let number = ledger.borrow_mut().sent(Instant::now());
                let value = ledger::mark(number, &values.next());
                let request = PutRequest { key: keys.next(), value, ..Default::default() };
                Call { put: Some(number), ..Call::new(Method::Put, &request) }
            }
            Work::Grant { ttl, next_id } => {
                let id = next_id.unwrap_or(0);
                *next_id = next_id.map(|id| id + 1);
                Call::new(Method::Grant, &LeaseGrantRequest { ttl: *ttl, id })
            }
            Work::Attach { prefix, values, first_id, keys_each, sent } => {
                let request = PutRequest {
                    key: format!("{prefix}{sent:010}").into(),
                    value: values.next(),
                    lease: nth(*first_id, *sent / (*keys_each).max(1)),
                    ..Default::default()
                };
                *sent += 1;
                Call::new(Method::Put, &request)
            }
            Work::KeepAlive { first_id, count, sent } => {
                let id = nth(*first_id, *sent % *count);
                *sent += 1;
                Call::new(Method::KeepAlive, &LeaseKeepAliveRequest { id })
            }
        }
    }
}

/// The id of a lease of the run.
fn nth(first_id: i64, number: u64) -> i64 {
    first_id.saturating_add_unsigned(number)
}

fn put(keys: &mut Chooser, values: &mut Values) -> Call {
    let request = PutRequest { key: keys.next(), value: values.next(), ..Default::default() };
    Call::new(Method::Put, &request)
}

fn range(keys: &mut Chooser, serializable: bool) -> Call {
    let request = RangeRequest { key: keys.next(), serializable, ..Default::default() };
    Call::new(Method::Range, &request)
}

/// Writes `operations` different keys if the first has a version above -1, which any has: the comparison costs, but never
/// fails.
fn txn(keys: &mut Chooser, values: &mut Values, operations: usize) -> Call {
    let mut chosen: Vec<Bytes> = Vec::with_capacity(operations);
    while chosen.len() < operations {
        let key = keys.next();
        if !chosen.contains(&key) {
            chosen.push(key);
        }
    }
    let compare = Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: chosen.first().cloned().unwrap_or_default(),
        target_union: Some(TargetUnion::Version(-1)),
        ..Default::default()
    };
    let puts = chosen.into_iter().map(|key| {
        let put = PutRequest { key, value: values.next(), ..Default::default() };
        RequestOp { request: Some(Request::RequestPut(put)) }
    });
    let request =
        TxnRequest { compare: vec![compare], success: puts.collect(), failure: Vec::new() };
    Call::new(Method::Txn, &request)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kvorum_client::api::etcdserverpb::request_op::Request;
    use kvorum_client::api::etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, TxnRequest,
    };
    use prost::Message;

    use super::{Call, KeySpace, ListOptions, Method, Values, Work};

    fn keys() -> KeySpace {
        KeySpace::new("k/", 6, 100, false).unwrap()
    }

    /// The message in a call, after checking the bytes in front of it.
    fn message<M: Message + Default>(call: &Call) -> M {
        let (head, body) = call.frame.split_at(5);
        assert_eq!(head[0], 0);
        assert_eq!(head[1..], u32::try_from(body.len()).unwrap().to_be_bytes());
        M::decode(body).unwrap()
    }

    #[test]
    fn puts() {
        let call = Work::put(keys(), Values::new(10, 1), 1).next();
        let request: PutRequest = message(&call);
        assert_eq!((call.method, request.key.len(), request.value.len()), (Method::Put, 6, 10));
    }

    #[test]
    fn transactions_write_different_keys() {
        let mut work = Work::txn(keys(), Values::new(10, 1), 1, 50);
        for _ in 0..20 {
            let request: TxnRequest = message(&work.next());
            let keys: BTreeSet<_> = request
                .success
                .iter()
                .map(|operation| match &operation.request {
                    Some(Request::RequestPut(put)) => put.key.clone(),
                    other => panic!("not a put: {other:?}"),
                })
                .collect();
            assert_eq!((request.compare.len(), keys.len()), (1, 50));
        }
        let Work::Txn { operations, .. } = Work::txn(keys(), Values::new(1, 1), 1, 1000) else {
            panic!("a transaction")
        };
        assert_eq!(operations, 100);
    }

    #[test]
    fn lists_read_the_whole_key_space() {
        let options = ListOptions { limit: 5, keys_only: true, ..Default::default() };
        let call = Work::list(&keys(), true, options).next();
        let request: RangeRequest = message(&call);
        assert_eq!((&request.key[..], &request.range_end[..]), (&b"k/"[..], &b"k0"[..]));
        assert!(request.serializable && request.keys_only && !request.count_only);
        assert_eq!((request.limit, call.method), (5, Method::Range));
        let options = ListOptions { stream: true, ..Default::default() };
        assert_eq!(Work::list(&keys(), false, options).next().method, Method::RangeStream);
    }

    #[test]
    fn leases_are_granted_given_keys_and_renewed_in_turn() {
        let mut grants = Work::Grant { ttl: 9, next_id: Some(100) };
        let ids = [(); 3].map(|()| message::<LeaseGrantRequest>(&grants.next()).id);
        assert_eq!(ids, [100, 101, 102]);
        let chosen = Work::Grant { ttl: 9, next_id: None }.next();
        assert_eq!(message::<LeaseGrantRequest>(&chosen), LeaseGrantRequest { ttl: 9, id: 0 });
        let mut puts = Work::Attach {
            prefix: "k/".into(),
            values: Values::new(1, 1),
            first_id: 100,
            keys_each: 2,
            sent: 0,
        };
        let leases = [(); 4].map(|()| message::<PutRequest>(&puts.next()).lease);
        assert_eq!(leases, [100, 100, 101, 101]);
        let mut renewals = Work::KeepAlive { first_id: 100, count: 2, sent: 0 };
        assert!(renewals.is_streamed() && !grants.is_streamed());
        let ids = [(); 3].map(|()| message::<LeaseKeepAliveRequest>(&renewals.next()).id);
        assert_eq!(ids, [100, 101, 100]);
    }

    #[test]
    fn mixed_work_keeps_its_share_of_reads() {
        let reads = |percent| {
            let mut work = Work::mixed(keys(), Values::new(1, 1), 1, false, percent);
            (0..1000).filter(|_| work.next().method == Method::Range).count()
        };
        assert_eq!((reads(0), reads(100)), (0, 1000));
        assert!((700..900).contains(&reads(80)), "{}", reads(80));
    }
}
