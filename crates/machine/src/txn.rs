//! Transactions.
//!
//! A transaction is turned into a plan before anything is written:
//!
//! 1. **Plan.** All compares, those of nested transactions included, are evaluated against the state before the
//!    transaction. That decides every branch, and the operations on the way come out as one flat list of steps.
//! 2. **Check.** What could make a step fail is looked at: leases, keys whose value is to be kept, revisions of ranges.
//!    These checks, too, see the state before the transaction.
//! 3. **Execute.** The steps run in order in one write transaction and see what earlier steps wrote. Should one fail
//!    after all, the write transaction is dropped with all it has written: half a transaction is never applied.
//!
//! A worked example, with `a = 1` in the store:
//!
//! ```text
//! if value(a) = "1"   then   put a 2
//!                            txn: if value(a) = "1" then get a else put b 1
//! ```
//!
//! plans `enter(true), put a 2, enter(true), get a, leave, leave`: the inner compare still sees `1`. The `get` runs after
//! the put and answers `2`.
//!
//! Nothing here recurses: how deep transactions nest is the client's choice.

use kvorum_lease::Table;
use kvorum_mvcc as mvcc;
use kvorum_mvcc::{Read, WriteTxn};
use kvorum_proto::wire::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
    request_op::Request, response_op::Response,
};

use crate::command::Failure;
use crate::leases::Attachments;
use crate::outcome::CommandError;
use crate::range::{self, RangeError};
use crate::validate::RequestError;
use crate::{compare, delete_range, put};

/// Whether a transaction can write nothing, and so needs no entry in the log. A nested one counts as writing.
pub fn is_read_only(request: &TxnRequest) -> bool {
    all_ranges(request, |_| true)
}

/// Whether a read-only transaction may be answered from this member's state as it is. One without any operation may,
/// whatever it compares: that is etcd's way.
pub fn is_serializable(request: &TxnRequest) -> bool {
    all_ranges(request, |range| range.serializable)
}

/// Whether a transaction may need room, in whichever branch. As in etcd, transactions within it are not looked at.
pub fn has_put(request: &TxnRequest) -> bool {
    let is_put = |operation: &RequestOp| matches!(operation.request, Some(Request::RequestPut(_)));
    request.success.iter().chain(&request.failure).any(is_put)
}

/// Answers a transaction for which [`is_read_only`] holds.
///
/// Panics if it does not hold.
pub fn read_only(read: &impl Read, request: &TxnRequest) -> Result<TxnResponse, RangeError> {
    let steps = plan(read, request)?;
    let mut answer = Answer::default();
    for step in &steps {
        if let Step::Range(request) = step {
            check_revision(read, request).map_err(|error| match error {
                CommandError::FutureRevision => RangeError::FutureRevision,
                _ => RangeError::Compacted,
            })?;
        }
    }
    for step in steps {
        match step {
            Step::Enter { succeeded, operation_count } => answer.enter(succeeded, operation_count),
            Step::Range(request) => {
                answer.add(Response::ResponseRange(range::range(read, request)?));
            }
            Step::Leave => answer.leave(),
            Step::Put(_) | Step::DeleteRange(_) => panic!("a read-only transaction writes"),
        }
    }
    Ok(answer.finish(read.revision()))
}

/// Runs a transaction inside `txn`, which the caller commits if this succeeds and drops if not. The header of the
/// answer is the caller's to fill in, once it has committed.
pub(crate) fn execute(
    txn: &mut WriteTxn<'_>,
    leases: &Table,
    attachments: &mut Attachments,
    request: &TxnRequest,
    answers: bool,
) -> Result<Option<TxnResponse>, Failure> {
    let steps = plan(txn, request).map_err(Failure::store)?;
    for step in &steps {
        match step {
            Step::Range(_) if kvorum_types::mutants::is_on("etcd-18667") => {}
            Step::Range(request) => check_revision(txn, request)?,
            Step::Put(_) if kvorum_types::mutants::is_on("etcd-18799") => {}
            Step::Put(request) => put::check(txn, leases, request)?,
            Step::DeleteRange(_) | Step::Enter { .. } | Step::Leave => {}
        }
    }
    let mut answer = Answer::default();
    for step in steps {
        match step {
            Step::Enter { succeeded, operation_count } => answer.enter(succeeded, operation_count),
            Step::Range(_) if !answers => {}
            Step::Range(request) => {
                // A range that was checked can fail by the store's fault alone.
                let response = range::range(txn, request).map_err(Failure::range)?;
                answer.add(Response::ResponseRange(response));
            }
            Step::Put(request) => {
                if kvorum_types::mutants::is_on("etcd-18799") {
                    put::check(txn, leases, request)?;
                }
                if let Some(response) = put::execute(txn, attachments, request, answers)? {
                    answer.add(Response::ResponsePut(response));
                }
            }
            Step::DeleteRange(request) => {
                if let Some(response) = delete_range::execute(txn, attachments, request, answers)? {
                    answer.add(Response::ResponseDeleteRange(response));
                }
            }
            Step::Leave => answer.leave(),
        }
    }
    Ok(answers.then(|| answer.finish(0)))
}

/// What is to be done, in order, once all compares are decided.
enum Step<'a> {
    /// A transaction begins, the outermost or a nested one.
    Enter {
        succeeded: bool,
        operation_count: usize,
    },
    Range(&'a RangeRequest),
    Put(&'a PutRequest),
    DeleteRange(&'a DeleteRangeRequest),
    /// The transaction that began last ends.
    Leave,
}

fn plan<'a>(read: &impl Read, request: &'a TxnRequest) -> Result<Vec<Step<'a>>, mvcc::ReadError> {
    let mut steps = Vec::with_capacity(request.success.len() + 2);
    let mut branches = vec![enter(read, request, &mut steps)?.iter()];
    while let Some(branch) = branches.last_mut() {
        match branch.next().map(|operation| &operation.request) {
            Some(Some(Request::RequestRange(request))) => steps.push(Step::Range(request)),
            Some(Some(Request::RequestPut(request))) => steps.push(Step::Put(request)),
            Some(Some(Request::RequestDeleteRange(request))) => {
                steps.push(Step::DeleteRange(request));
            }
            Some(Some(Request::RequestTxn(nested))) => {
                branches.push(enter(read, nested, &mut steps)?.iter());
            }
            // Validation refuses an operation with nothing in it.
            Some(None) => {}
            None => {
                steps.push(Step::Leave);
                branches.pop();
            }
        }
    }
    Ok(steps)
}

/// Decides which branch of a transaction is taken.
fn enter<'a>(
    read: &impl Read,
    request: &'a TxnRequest,
    steps: &mut Vec<Step<'a>>,
) -> Result<&'a [RequestOp], mvcc::ReadError> {
    let succeeded = compare::all_hold(read, &request.compare)?;
    let operations = if succeeded { &request.success } else { &request.failure };
    steps.push(Step::Enter { succeeded, operation_count: operations.len() });
    Ok(operations)
}

/// Checks the revision of a range before anything is written. Unlike outside a transaction, one below zero may be
/// compacted.
fn check_revision(read: &impl Read, request: &RangeRequest) -> Result<(), CommandError> {
    if request.revision == 0 {
        Ok(())
    } else if request.revision > read.revision() {
        Err(CommandError::FutureRevision)
    } else if request.revision < read.compact_revision() {
        Err(CommandError::Compacted)
    } else {
        Ok(())
    }
}

fn all_ranges(request: &TxnRequest, accepts: impl Fn(&RangeRequest) -> bool) -> bool {
    request.success.iter().chain(&request.failure).all(|operation| {
        matches!(&operation.request, Some(Request::RequestRange(range)) if accepts(range))
    })
}

/// An answer under construction: the transactions entered and not yet left, and the one that was left last.
#[derive(Default)]
struct Answer {
    open: Vec<TxnResponse>,
    finished: TxnResponse,
}

impl Answer {
    fn enter(&mut self, succeeded: bool, operation_count: usize) {
        let responses = Vec::with_capacity(operation_count);
        self.open.push(TxnResponse { header: range::header(0), succeeded, responses });
    }

    fn add(&mut self, response: Response) {
        let txn = self.open.last_mut().expect("operations stand between enter and leave");
        txn.responses.push(ResponseOp { response: Some(response) });
    }

    fn leave(&mut self) {
        let txn = self.open.pop().expect("a transaction is left once for each time it is entered");
        match self.open.is_empty() {
            true => self.finished = txn,
            false => self.add(Response::ResponseTxn(txn)),
        }
    }

    /// The whole answer. Only its own header carries a revision, those of nested transactions do not.
    fn finish(self, revision: i64) -> TxnResponse {
        TxnResponse { header: range::header(revision), ..self.finished }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Failure {
        Failure::Command(CommandError::Invalid(error))
    }
}
