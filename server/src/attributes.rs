//! Telling the cluster what it does not know about this member yet: its name and where clients find it.

use std::time::Duration;

use bytes::Bytes;
use kvorum_consensus::ProposeError;
use kvorum_machine as machine;
use kvorum_proto::entry::{CommandKind, MemberAttributes};
use prost::Message;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::CoreMember;

/// How long after a failure the next attempt begins.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Publishes name and client URLs, however long it takes. Returns once the member is ready: it follows a leader, has
/// applied what was acknowledged before, and everybody can find it. `false` when the member stopped first.
pub(crate) async fn publish(member: CoreMember, name: String, client_urls: Vec<String>) -> bool {
    let id = member.status().id;
    let is_mine = |known: &machine::Member| {
        known.id == id && known.name == name && known.client_urls == client_urls
    };
    let attributes =
        MemberAttributes { member_id: id.0, name: name.clone(), client_urls: client_urls.clone() };
    let request = Bytes::from(attributes.encode_to_vec());
    let mut has_warned = false;
    loop {
        // A member that was only restarted is known already; then being up to date is all that is missing.
        if member.reader().members().iter().any(is_mine) {
            match member.read_barrier().await {
                Ok(()) => return true,
                Err(kvorum_consensus::ReadBarrierError::Stopped) => return false,
                Err(_) => {
                    sleep(RETRY_INTERVAL).await;
                    continue;
                }
            }
        }
        match member.propose(CommandKind::MemberAttributes, request.clone()).await {
            Ok(_) => {
                info!(name, ?client_urls, "published the member's name and client URLs");
                return true;
            }
            Err(ProposeError::Stopped) => return false,
            Err(error) if !has_warned => {
                has_warned = true;
                warn!(%error, "cannot publish the member's name and client URLs yet");
            }
            Err(_) => {}
        }
        sleep(RETRY_INTERVAL).await;
    }
}
