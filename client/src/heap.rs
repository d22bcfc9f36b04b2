//! The allocator of one member, and the limits of its memory. Not of etcd's API: only kvorum answers.

use kvorum_proto::admin::heap_client::HeapClient;
use kvorum_proto::admin::{
    GetPolicyRequest, PolicyResponse, ProfileRequest, ProfileResponse, PurgeRequest, PurgeResponse,
    SetPolicyRequest, SetRequest, StatsRequest, StatsResponse,
};

use crate::client::Client;
use crate::error::Error;
use crate::retry::Class;

/// The longest profile that is taken.
const PROFILE_BYTES_MAX: usize = 256 << 20;

impl Client {
    /// The figures of the answering member's allocator; of each arena too, if `arenas`.
    pub async fn heap_stats(&self, arenas: bool) -> Result<StatsResponse, Error> {
        self.call(Class::Repeatable, StatsRequest { arenas }, |channel, request| async move {
            HeapClient::new(channel).stats(request).await
        })
        .await
    }

    /// What holds of the answering member's memory, and what outlives its restart.
    pub async fn heap_policy(&self) -> Result<PolicyResponse, Error> {
        self.call(Class::Repeatable, GetPolicyRequest {}, |channel, request| async move {
            HeapClient::new(channel).get_policy(request).await
        })
        .await
    }

    /// Has the answering member take a policy on, for good if `persist`.
    pub async fn heap_set_policy(
        &self,
        policy: impl Into<String>,
        persist: bool,
    ) -> Result<PolicyResponse, Error> {
        let request = SetPolicyRequest { policy: policy.into(), persist };
        self.call(Class::Once, request, |channel, request| async move {
            HeapClient::new(channel).set_policy(request).await
        })
        .await
    }

    /// Sets what is named of the answering member's memory, all of it or nothing.
    pub async fn heap_set(&self, request: SetRequest) -> Result<PolicyResponse, Error> {
        self.call(Class::Once, request, |channel, request| async move {
            HeapClient::new(channel).set(request).await
        })
        .await
    }

    /// Has the answering member give freed memory back, of one arena or of all.
    pub async fn heap_purge(&self, arena: Option<u32>) -> Result<PurgeResponse, Error> {
        self.call(Class::Once, PurgeRequest { arena }, |channel, request| async move {
            HeapClient::new(channel).purge(request).await
        })
        .await
    }

    /// Who holds what of the answering member's memory, as a pprof file.
    pub async fn heap_profile(&self) -> Result<ProfileResponse, Error> {
        self.call(Class::Once, ProfileRequest {}, |channel, request| async move {
            let client = HeapClient::new(channel);
            client.max_decoding_message_size(PROFILE_BYTES_MAX).profile(request).await
        })
        .await
    }
}
