//! Where each member is reached, at the moment of asking.

use std::collections::BTreeMap;

use kvorum_machine::MachineReader;
use kvorum_types::MemberId;
use parking_lot::RwLock;

/// The newest known addresses: the state machine's members first, since a member may have moved; else what the engine or
/// the operator said.
pub(crate) struct Addresses {
    reader: Option<MachineReader>,
    told: RwLock<BTreeMap<MemberId, Vec<String>>>,
}

impl Addresses {
    pub(crate) fn new(
        reader: Option<MachineReader>,
        told: BTreeMap<MemberId, Vec<String>>,
    ) -> Addresses {
        Addresses { reader, told: RwLock::new(told) }
    }

    pub(crate) fn tell(&self, id: MemberId, urls: &[String]) {
        if self.told.read().get(&id).is_some_and(|told| told == urls) {
            return;
        }
        self.told.write().insert(id, urls.to_vec());
    }

    /// Every member whose address was told.
    pub(crate) fn known(&self) -> Vec<MemberId> {
        self.told.read().keys().copied().collect()
    }

    pub(crate) fn of(&self, id: MemberId) -> Vec<String> {
        let members = self.reader.as_ref().map(MachineReader::members);
        let member = members.as_ref().and_then(|members| members.iter().find(|m| m.id == id));
        match member {
            Some(member) if !member.peer_urls.is_empty() => member.peer_urls.clone(),
            Some(_) | None => self.told.read().get(&id).cloned().unwrap_or_default(),
        }
    }
}
