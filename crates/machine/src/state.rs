//! The small state: all that the machine holds beside the keys and the leases.
//!
//! It is written with every publish of the store, in the same step as the blocks, and stands in the header of every
//! checkpoint. Its bytes are a protobuf message, drawn in `docs/formats/checkpoint.md`. Nearly always only the two
//! indexes differ from the last time, so the rest is kept encoded: two encoded messages written one after the other
//! decode as one.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kvorum_types::{MemberId, Position};
use prost::Message;

use crate::alarm::{Alarm, AlarmKind, Alarms};
use crate::member::{Member, Members};

/// The version of the small state's meaning. One that is newer is refused.
const STATE_FORMAT_VERSION: u32 = 1;

/// The small state at one position of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// The last entry applied.
    pub(crate) applied: Option<Position>,
    /// The last change of membership: where it stands in the log, and the consensus engine's own encoding of it.
    pub(crate) membership: Option<(Position, Bytes)>,
    pub(crate) members: Members,
    pub(crate) alarms: Alarms,
    /// The version the cluster is to go down to, if it is.
    pub(crate) downgrade: Option<Arc<str>>,
    /// The last entry that changed a lease. The leases themselves stand in checkpoints: this says which of those are
    /// new enough.
    pub(crate) lease_index: Option<u64>,
    /// Everything but `applied` and `lease_index`, encoded; empty when it has to be encoded anew.
    settled: Bytes,
}

/// Why bytes are not a small state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// They cannot be decoded.
    #[error("the small state cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A newer version wrote them.
    #[error("the small state has format version {found}, known is {STATE_FORMAT_VERSION}")]
    UnknownFormatVersion {
        /// The version found.
        found: u32,
    },
}

impl State {
    /// Says that something beside the two indexes has changed.
    pub(crate) fn touch(&mut self) {
        self.settled = Bytes::new();
    }

    pub(crate) fn encode(&mut self) -> Bytes {
        if self.settled.is_empty() {
            self.settled = self.to_settled().encode_to_vec().into();
        }
        let applied = EncodedState {
            applied: self.applied.map(EncodedPosition::from),
            lease_index: self.lease_index,
            ..EncodedState::default()
        };
        let mut bytes = BytesMut::with_capacity(self.settled.len() + applied.encoded_len());
        bytes.extend_from_slice(&self.settled);
        applied.encode_raw(&mut bytes);
        bytes.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<State, StateError> {
        let encoded = EncodedState::decode(bytes)?;
        if encoded.format_version != STATE_FORMAT_VERSION {
            return Err(StateError::UnknownFormatVersion { found: encoded.format_version });
        }
        let members = Members {
            current: Arc::new(encoded.members.into_iter().map(Member::from).collect()),
            removed: Arc::new(encoded.removed.into_iter().map(MemberId).collect()),
        };
        Ok(State {
            applied: encoded.applied.map(Position::from),
            membership: encoded
                .membership
                .map(|m| (m.position.unwrap_or_default().into(), m.encoded)),
            members,
            alarms: encoded.alarms.into_iter().filter_map(EncodedAlarm::known).collect(),
            downgrade: encoded.downgrade.map(Arc::from),
            lease_index: encoded.lease_index,
            settled: Bytes::new(),
        })
    }

    fn to_settled(&self) -> EncodedState {
        EncodedState {
            format_version: STATE_FORMAT_VERSION,
            applied: None,
            membership: self.membership.as_ref().map(|(position, encoded)| EncodedMembership {
                position: Some((*position).into()),
                encoded: encoded.clone(),
            }),
            members: self.members.current.iter().map(EncodedMember::from).collect(),
            removed: self.members.removed.iter().map(|id| id.0).collect(),
            lease_index: None,
            alarms: self.alarms.shared().iter().copied().map(EncodedAlarm::from).collect(),
            downgrade: self.downgrade.as_deref().map(str::to_owned),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct EncodedState {
    #[prost(uint32, tag = "1")]
    format_version: u32,
    #[prost(message, optional, tag = "2")]
    applied: Option<EncodedPosition>,
    #[prost(message, optional, tag = "3")]
    membership: Option<EncodedMembership>,
    #[prost(message, repeated, tag = "4")]
    members: Vec<EncodedMember>,
    #[prost(fixed64, repeated, tag = "5")]
    removed: Vec<u64>,
    #[prost(uint64, optional, tag = "6")]
    lease_index: Option<u64>,
    #[prost(message, repeated, tag = "7")]
    alarms: Vec<EncodedAlarm>,
    #[prost(string, optional, tag = "8")]
    downgrade: Option<String>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct EncodedPosition {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EncodedMembership {
    #[prost(message, optional, tag = "1")]
    position: Option<EncodedPosition>,
    #[prost(bytes = "bytes", tag = "2")]
    encoded: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EncodedMember {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    client_urls: Vec<String>,
    #[prost(bool, tag = "5")]
    is_learner: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct EncodedAlarm {
    #[prost(fixed64, tag = "1")]
    member: u64,
    #[prost(int32, tag = "2")]
    kind: i32,
}

impl From<Alarm> for EncodedAlarm {
    fn from(alarm: Alarm) -> EncodedAlarm {
        EncodedAlarm { member: alarm.member.0, kind: alarm.kind.number() }
    }
}

impl EncodedAlarm {
    /// None for a kind that this version does not know, and so does not write.
    fn known(self) -> Option<Alarm> {
        let kind = AlarmKind::from_number(self.kind)?;
        Some(Alarm { member: MemberId(self.member), kind })
    }
}

impl From<Position> for EncodedPosition {
    fn from(position: Position) -> EncodedPosition {
        EncodedPosition { term: position.term, index: position.index }
    }
}

impl From<EncodedPosition> for Position {
    fn from(position: EncodedPosition) -> Position {
        Position::new(position.term, position.index)
    }
}

impl From<&Member> for EncodedMember {
    fn from(member: &Member) -> EncodedMember {
        EncodedMember {
            id: member.id.0,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            is_learner: member.is_learner,
        }
    }
}

impl From<EncodedMember> for Member {
    fn from(member: EncodedMember) -> Member {
        Member {
            id: MemberId(member.id),
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            is_learner: member.is_learner,
        }
    }
}
