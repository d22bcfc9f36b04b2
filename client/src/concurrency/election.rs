//! One leader at a time, and a value from it that all can see.

use std::collections::VecDeque;

use bytes::Bytes;
use kvorum_proto::api::etcdserverpb::request_op::Request;
use kvorum_proto::api::etcdserverpb::{Compare, PutRequest, ResponseHeader, TxnRequest};
use kvorum_proto::api::mvccpb::KeyValue;
use kvorum_proto::api::mvccpb::event::EventType;

use super::queue::{
    First, Place, created_at, first_request, operation, patient_read, prefix, release,
};
use super::session::Session;
use crate::client::Client;
use crate::error::Error;
use crate::watch::{Watch, WatchOptions};

/// An election, by its name.
///
/// See the module [`concurrency`](crate::concurrency) for what being elected does not mean.
#[derive(Clone)]
pub struct Election {
    client: Client,
    prefix: Bytes,
}

/// What it is to be elected. Dropping it resigns nothing: it lasts until [`Leadership::resign`] or the end of the session.
#[derive(Debug)]
#[must_use = "the leadership lasts until it is resigned or its session ends"]
pub struct Leadership {
    session: Session,
    key: Bytes,
    revision: i64,
    header: ResponseHeader,
}

/// A leader as others see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Elected {
    /// Of the answer that told of it.
    pub header: ResponseHeader,
    /// The leader's key, with its value; the create revision is its fencing token.
    pub kv: KeyValue,
}

impl Election {
    /// The election of this name. Its keys are the name, a slash, and the candidates' leases in hexadecimal.
    pub fn new(client: &Client, name: impl AsRef<[u8]>) -> Election {
        Election { client: client.clone(), prefix: prefix(name.as_ref()) }
    }

    /// Waits until the session is elected, with this value. A session that is a candidate or elected already stays so, with
    /// the new value.
    ///
    /// If the future is dropped or fails, the candidacy is given up by a task of its own, as a place in the queue of a
    /// [`Mutex`](super::Mutex) is.
    pub async fn campaign(
        &self,
        session: &Session,
        value: impl Into<Bytes>,
    ) -> Result<Leadership, Error> {
        let value = value.into();
        let place = Place::enter(session, &self.prefix, &value).await?;
        let First { key, revision, header } = place.wait().await?;
        Ok(Leadership { session: session.clone(), key, revision, header })
    }

    /// A leadership of this session that was begun elsewhere, for instance before the program was started anew with the same
    /// lease.
    pub fn resume(&self, session: &Session, revision: i64) -> Leadership {
        let key = session.key(&self.prefix);
        session.claims().hold(&key, revision);
        Leadership { session: session.clone(), key, revision, header: ResponseHeader::default() }
    }

    /// Who is elected now; [`Error::NobodyElected`] if nobody is.
    pub async fn leader(&self) -> Result<Elected, Error> {
        let answer = self.client.range(first_request(&self.prefix)).await?;
        let kv = answer.kvs.into_iter().next().ok_or(Error::NobodyElected)?;
        Ok(Elected { header: answer.header.unwrap_or_default(), kv })
    }

    /// Tells who is elected, and every value the elected proclaim from then on. A leader, or a value, that lasted for a
    /// moment only may be left out.
    pub fn observe(&self) -> Observer {
        Observer { election: self.clone(), state: State::Unknown }
    }
}

impl Leadership {
    /// The key that stands for the leadership.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// A number that is greater for every later leader: the create revision of its key. Whoever acts on behalf of the leader
    /// must refuse a token that is less than one it has seen.
    pub fn fencing_token(&self) -> i64 {
        self.revision
    }

    /// The comparison that makes a transaction fail unless the session still leads.
    pub fn is_leader(&self) -> Compare {
        created_at(self.key(), self.revision)
    }

    /// The session that was elected. When that ends, so does the leadership.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The header of the answer by which it was elected.
    pub fn header(&self) -> ResponseHeader {
        self.header
    }

    /// Changes the value that others see. Fails with [`Error::NotElected`] if the session leads no more.
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<ResponseHeader, Error> {
        let put = PutRequest {
            key: self.key.clone(),
            value: value.into(),
            lease: self.session.lease(),
            ..Default::default()
        };
        let request = TxnRequest {
            compare: vec![self.is_leader()],
            success: vec![operation(Request::RequestPut(put))],
            failure: Vec::new(),
        };
        let answer = self.session.client().txn(request).await?;
        if answer.succeeded {
            Ok(answer.header.unwrap_or_default())
        } else {
            Err(Error::NotElected)
        }
    }

    /// Makes way for the next candidate. Fails with [`Error::NotElected`] if that has happened already.
    pub async fn resign(&self) -> Result<ResponseHeader, Error> {
        let answer = release(&self.session, &self.key, self.revision).await?;
        if answer.succeeded {
            Ok(answer.header.unwrap_or_default())
        } else {
            Err(Error::NotElected)
        }
    }
}

/// Follows an election: each leader, and each of its values.
pub struct Observer {
    election: Election,
    state: State,
}

enum State {
    /// Who leads is to be read.
    Unknown,
    /// Nobody does: the first key that is put will be the leader's.
    Nobody(Watch),
    /// One does, and these are what it said since.
    Somebody {
        watch: Watch,
        told: VecDeque<Elected>,
        deposed: bool,
    },
    Over,
}

impl Observer {
    /// The next leader or value; an error is the last item. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Elected, Error>> {
        loop {
            let step = match &mut self.state {
                State::Over => return None,
                State::Unknown => self.election.read().await,
                State::Nobody(watch) => first_put(watch)
                    .await
                    .map(|elected| (self.election.follow(&elected), Some(elected))),
                State::Somebody { watch, told, deposed } => match told.pop_front() {
                    Some(elected) => return Some(Ok(elected)),
                    None if *deposed => Ok((State::Unknown, None)),
                    None => match more(watch, told).await {
                        Ok(gone) => {
                            *deposed = gone;
                            continue;
                        }
                        Err(error) => Err(error),
                    },
                },
            };
            match step {
                Ok((state, elected)) => {
                    self.state = state;
                    if let Some(elected) = elected {
                        return Some(Ok(elected));
                    }
                }
                // What happened meanwhile is gone: look how things are.
                Err(Error::Compacted { .. }) => self.state = State::Unknown,
                Err(error) => {
                    self.state = State::Over;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Election {
    /// Who leads, and how to follow from there.
    async fn read(&self) -> Result<(State, Option<Elected>), Error> {
        let answer = patient_read(&self.client, first_request(&self.prefix)).await?;
        let header = answer.header.unwrap_or_default();
        let Some(kv) = answer.kvs.into_iter().next() else {
            let options = WatchOptions::new().prefix().start_revision(header.revision + 1);
            return Ok((State::Nobody(self.watch(self.prefix.clone(), options)), None));
        };
        let elected = Elected { header, kv };
        Ok((self.follow(&elected), Some(elected)))
    }

    fn follow(&self, elected: &Elected) -> State {
        let options = WatchOptions::new().start_revision(elected.header.revision + 1);
        let watch = self.watch(elected.kv.key.clone(), options);
        State::Somebody { watch, told: VecDeque::new(), deposed: false }
    }

    /// A watch at a member that knows of a leader: one that has lost the others tells of nothing any more.
    fn watch(&self, key: Bytes, options: WatchOptions) -> Watch {
        self.client.requiring_leader().watch(key, options)
    }
}

/// The first key that is put.
async fn first_put(watch: &mut Watch) -> Result<Elected, Error> {
    loop {
        let update = watch.next().await.unwrap_or(Err(Error::WatchEnded))?;
        let put = update.events.into_iter().find(|event| event.r#type() == EventType::Put);
        if let Some(kv) = put.and_then(|event| event.kv) {
            // The update may have come further than the put.
            let header = ResponseHeader { revision: kv.mod_revision, ..update.header };
            return Ok(Elected { header, kv });
        }
    }
}

/// Adds what the leader said in the next update. Whether it is leader no more.
async fn more(watch: &mut Watch, told: &mut VecDeque<Elected>) -> Result<bool, Error> {
    let update = watch.next().await.unwrap_or(Err(Error::WatchEnded))?;
    for event in update.events {
        if event.r#type() == EventType::Delete {
            return Ok(true);
        }
        told.extend(event.kv.map(|kv| Elected { header: update.header, kv }));
    }
    Ok(false)
}
