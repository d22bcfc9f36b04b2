//! Who waits in the queues of locks and elections.

use kvorum_proto::api::etcdserverpb::RangeRequest;
use kvorum_testkit::{Endpoint, eventually};

/// Waits until so many keys are below `name`.
pub async fn has_waiting(endpoint: &Endpoint, name: &str, count: i64) {
    let request = RangeRequest {
        key: format!("{name}/").into(),
        range_end: format!("{name}0").into(),
        count_only: true,
        ..Default::default()
    };
    eventually("those who wait", async || {
        let found = endpoint.range(request.clone()).await.map_err(|status| status.to_string())?;
        if found.count == count { Ok(()) } else { Err(format!("{}", found.count)) }
    })
    .await;
}
