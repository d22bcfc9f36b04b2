//! Downgrade: the version that a cluster is to go down to. It is checked and noted as etcd does it, so that tools find what
//! they expect; what kvorum writes does not depend on it.

use bytes::Bytes;
use kvorum_machine::Reply;
use kvorum_proto::api::etcdserverpb::downgrade_request::DowngradeAction;
use kvorum_proto::api::etcdserverpb::{DowngradeRequest, DowngradeResponse};
use kvorum_proto::entry::{CommandKind, Downgrade};
use kvorum_proto::errors::EtcdError;
use prost::Message;

use super::context::Context;
use super::reply::frame;
use crate::errors::CallError;
use crate::version::VERSIONS;

/// Checks, sets or takes back the version to go down to.
pub(super) async fn downgrade(
    context: &Context,
    request: &DowngradeRequest,
) -> Result<Bytes, CallError> {
    let action = DowngradeAction::try_from(request.action);
    let action = action.map_err(|_| CallError::UnknownMethod)?;
    let change = match action {
        DowngradeAction::Validate => {
            check(context, &request.version).await?;
            None
        }
        DowngradeAction::Enable => {
            let target = check(context, &request.version).await?;
            Some(Downgrade { enabled: true, target_version: target.shown() })
        }
        // etcd from 3.6 on answers as if it had succeeded even where it could not be taken back; 3.5 says so.
        DowngradeAction::Cancel => {
            context.read_barrier().await?;
            if context.reader().downgrade().is_none() {
                return Err(EtcdError::NoInflightDowngrade.into());
            }
            Some(Downgrade::default())
        }
    };
    if let Some(change) = change {
        match context.propose(CommandKind::Downgrade, change.encode_to_vec().into()).await? {
            Reply::Downgrade => {}
            _ => return Err(CallError::Internal),
        }
    }
    let header = context.header(context.reader().store().revision());
    frame(&DowngradeResponse { header, version: VERSIONS.cluster.to_owned() })
}

/// A target must be one minor version below the cluster's, and there must be no other yet. The order is etcd's: what is no
/// version is refused even where no leader can be reached. The machine looks again at what there is.
async fn check(context: &Context, version: &str) -> Result<MinorVersion, CallError> {
    let target = MinorVersion::parse(version);
    let target = target.ok_or(EtcdError::WrongDowngradeVersionFormat)?;
    let cluster = MinorVersion::parse(VERSIONS.cluster);
    let cluster = cluster.ok_or(EtcdError::ClusterVersionUnavailable)?;
    context.read_barrier().await?;
    if cluster.minor.checked_sub(1) != Some(target.minor) || cluster.major != target.major {
        return Err(EtcdError::InvalidDowngradeTargetVersion.into());
    }
    if context.reader().downgrade().is_some() {
        return Err(EtcdError::DowngradeInProcess.into());
    }
    Ok(target)
}

/// A version without its patch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct MinorVersion {
    major: u64,
    minor: u64,
}

impl MinorVersion {
    /// Reads `3.6.0` and, as etcd does, `3.6`.
    fn parse(text: &str) -> Option<MinorVersion> {
        let mut parts = text.split('.');
        let mut number = || {
            let part = parts.next()?;
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u64>().ok())?
        };
        let (major, minor) = (number()?, number()?);
        // A patch may come with the name of a pre-release; which one it is does not matter.
        let patch = parts.next().unwrap_or("0");
        let patch = patch.split(['-', '+']).next()?;
        let is_number = !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some(MinorVersion { major, minor })
    }

    fn shown(self) -> String {
        format!("{}.{}.0", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_reads_them() {
        let read = |text| MinorVersion::parse(text).map(|version| (version.major, version.minor));
        assert_eq!(read("3.6.0"), Some((3, 6)));
        assert_eq!(read("3.6"), Some((3, 6)));
        assert_eq!(read("3.6.4-rc.1"), Some((3, 6)));
        for bad in ["", "3", "3.", ".6", "3.x.0", "v3.6.0", "3.6.", "3.6.x", "+3.6", "3.-6"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
