//! Which call a path names.

use crate::errors::MethodError;

/// A call that is served here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    Range,
    RangeStream,
    Put,
    DeleteRange,
    Txn,
    Compact,
    Member(MemberMethod),
    Status,
    MoveLeader,
    Snapshot,
    Hash,
    HashKv,
    Defragment,
    Alarm,
    Downgrade,
    Watch,
    Lease(LeaseMethod),
    LeaseKeepAlive,
    Concurrency(ConcurrencyMethod),
    Observe,
    Heap(HeapMethod),
    HealthCheck,
    HealthWatch,
    HealthList,
}

/// A call of Cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MemberMethod {
    Add,
    Remove,
    Update,
    List,
    Promote,
}

/// A call of Lease that has one request and one answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LeaseMethod {
    Grant,
    Revoke,
    TimeToLive,
    Leases,
}

/// A call of the allocator's service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeapMethod {
    Stats,
    GetPolicy,
    SetPolicy,
    Set,
    Purge,
    Profile,
}

/// A call of Lock or Election that has one request and one answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ConcurrencyMethod {
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Resign,
}

impl Method {
    /// Whether its clients may send any number of messages, and whether it may answer with any number.
    pub(super) fn streams(self) -> (bool, bool) {
        let asks_many = matches!(self, Method::Watch | Method::LeaseKeepAlive);
        let answers_many = matches!(
            self,
            Method::RangeStream | Method::Snapshot | Method::Observe | Method::HealthWatch
        );
        (asks_many, asks_many || answers_many)
    }

    /// The method of that path. The frequent ones come first.
    pub(super) fn of(path: &str) -> Option<Method> {
        Some(match path {
            "/etcdserverpb.KV/Range" => Method::Range,
            "/etcdserverpb.KV/Put" => Method::Put,
            "/etcdserverpb.KV/Txn" => Method::Txn,
            "/etcdserverpb.KV/DeleteRange" => Method::DeleteRange,
            "/etcdserverpb.KV/RangeStream" => Method::RangeStream,
            "/etcdserverpb.KV/Compact" => Method::Compact,
            "/etcdserverpb.Watch/Watch" => Method::Watch,
            "/etcdserverpb.Lease/LeaseGrant" => Method::Lease(LeaseMethod::Grant),
            "/etcdserverpb.Lease/LeaseRevoke" => Method::Lease(LeaseMethod::Revoke),
            "/etcdserverpb.Lease/LeaseKeepAlive" => Method::LeaseKeepAlive,
            "/etcdserverpb.Lease/LeaseTimeToLive" => Method::Lease(LeaseMethod::TimeToLive),
            "/etcdserverpb.Lease/LeaseLeases" => Method::Lease(LeaseMethod::Leases),
            "/v3lockpb.Lock/Lock" => Method::Concurrency(ConcurrencyMethod::Lock),
            "/v3lockpb.Lock/Unlock" => Method::Concurrency(ConcurrencyMethod::Unlock),
            "/v3electionpb.Election/Campaign" => Method::Concurrency(ConcurrencyMethod::Campaign),
            "/v3electionpb.Election/Proclaim" => Method::Concurrency(ConcurrencyMethod::Proclaim),
            "/v3electionpb.Election/Leader" => Method::Concurrency(ConcurrencyMethod::Leader),
            "/v3electionpb.Election/Observe" => Method::Observe,
            "/v3electionpb.Election/Resign" => Method::Concurrency(ConcurrencyMethod::Resign),
            "/etcdserverpb.Cluster/MemberAdd" => Method::Member(MemberMethod::Add),
            "/etcdserverpb.Cluster/MemberRemove" => Method::Member(MemberMethod::Remove),
            "/etcdserverpb.Cluster/MemberUpdate" => Method::Member(MemberMethod::Update),
            "/etcdserverpb.Cluster/MemberList" => Method::Member(MemberMethod::List),
            "/etcdserverpb.Cluster/MemberPromote" => Method::Member(MemberMethod::Promote),
            "/etcdserverpb.Maintenance/MoveLeader" => Method::MoveLeader,
            "/etcdserverpb.Maintenance/Snapshot" => Method::Snapshot,
            "/etcdserverpb.Maintenance/Status" => Method::Status,
            "/etcdserverpb.Maintenance/Hash" => Method::Hash,
            "/etcdserverpb.Maintenance/HashKV" => Method::HashKv,
            "/etcdserverpb.Maintenance/Defragment" => Method::Defragment,
            "/etcdserverpb.Maintenance/Alarm" => Method::Alarm,
            "/etcdserverpb.Maintenance/Downgrade" => Method::Downgrade,
            "/grpc.health.v1.Health/Check" => Method::HealthCheck,
            "/kvorum.admin.v1.Heap/Stats" => Method::Heap(HeapMethod::Stats),
            "/kvorum.admin.v1.Heap/GetPolicy" => Method::Heap(HeapMethod::GetPolicy),
            "/kvorum.admin.v1.Heap/SetPolicy" => Method::Heap(HeapMethod::SetPolicy),
            "/kvorum.admin.v1.Heap/Set" => Method::Heap(HeapMethod::Set),
            "/kvorum.admin.v1.Heap/Purge" => Method::Heap(HeapMethod::Purge),
            "/kvorum.admin.v1.Heap/Profile" => Method::Heap(HeapMethod::Profile),
            "/grpc.health.v1.Health/Watch" => Method::HealthWatch,
            "/grpc.health.v1.Health/List" => Method::HealthList,
            _ => return None,
        })
    }
}

/// The paths of all calls that are served, the frequent ones first.
#[rustfmt::skip]
pub(super) static SERVED: &[&str] = &[
    "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Txn",
    "/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.KV/DeleteRange", "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.KV/Compact", "/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseKeepAlive", "/etcdserverpb.Lease/LeaseTimeToLive", "/etcdserverpb.Lease/LeaseLeases",
    "/v3lockpb.Lock/Lock", "/v3lockpb.Lock/Unlock", "/v3electionpb.Election/Campaign",
    "/v3electionpb.Election/Proclaim", "/v3electionpb.Election/Leader", "/v3electionpb.Election/Observe",
    "/v3electionpb.Election/Resign", "/etcdserverpb.Cluster/MemberAdd", "/etcdserverpb.Cluster/MemberRemove",
    "/etcdserverpb.Cluster/MemberUpdate", "/etcdserverpb.Cluster/MemberList", "/etcdserverpb.Cluster/MemberPromote",
    "/etcdserverpb.Maintenance/MoveLeader", "/etcdserverpb.Maintenance/Snapshot", "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Hash", "/etcdserverpb.Maintenance/HashKV", "/etcdserverpb.Maintenance/Defragment",
    "/etcdserverpb.Maintenance/Alarm", "/etcdserverpb.Maintenance/Downgrade", "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/List",
];

/// The RPCs of every service that are not served yet. Of some services all are served.
#[rustfmt::skip]
static UNSERVED: &[(&str, &[&str])] = &[
    ("etcdserverpb.KV", &[]),
    ("grpc.health.v1.Health", &[]),
    ("etcdserverpb.Watch", &[]),
    ("etcdserverpb.Lease", &[]),
    ("etcdserverpb.Cluster", &[]),
    ("etcdserverpb.Maintenance", &[]),
    ("etcdserverpb.Auth", &[
        "AuthEnable", "AuthDisable", "AuthStatus", "Authenticate", "UserAdd", "UserGet", "UserList", "UserDelete",
        "UserChangePassword", "UserGrantRole", "UserRevokeRole", "RoleAdd", "RoleGet", "RoleList", "RoleDelete",
        "RoleGrantPermission", "RoleRevokePermission",
    ]),
    ("v3lockpb.Lock", &[]),
    ("v3electionpb.Election", &[]),
    ("kvorum.admin.v1.Heap", &[]),
];

/// What to answer to a path that names nothing served.
pub(super) fn refusal(path: &str) -> MethodError {
    let Some((service, method)) = path.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'))
    else {
        return MethodError::Malformed(path.to_owned());
    };
    match UNSERVED.iter().find(|(name, _)| *name == service) {
        Some((_, methods)) if methods.contains(&method) => {
            MethodError::NotServed(format!("{service}/{method}"))
        }
        Some(_) => {
            MethodError::UnknownMethod { service: service.to_owned(), method: method.to_owned() }
        }
        None => MethodError::UnknownService(service.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use kvorum_proto::FILE_DESCRIPTOR_SET;
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_rpc_of_etcds_is_served_or_refused_by_its_name() {
        let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
        let mut served_count = 0;
        let mut refused_count = 0;
        for file in &files {
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    let path = format!("/{name}");
                    match Method::of(&path) {
                        Some(found) => {
                            assert!(SERVED.contains(&path.as_str()), "{path} is not counted");
                            let streams = (method.client_streaming(), method.server_streaming());
                            assert_eq!(found.streams(), streams, "{path}");
                            served_count += 1;
                        }
                        None => {
                            assert_eq!(refusal(&path), MethodError::NotServed(name));
                            refused_count += 1;
                        }
                    }
                }
            }
        }
        assert_eq!((served_count, served_count + refused_count), (32, 49));
        let listed_count: usize = UNSERVED.iter().map(|(_, methods)| methods.len()).sum();
        assert_eq!(listed_count, refused_count);
    }

    #[test]
    fn other_paths_are_refused_as_gos_grpc_does() {
        let cases = [
            ("/etcdserverpb.KV/Get", "unknown method Get for service etcdserverpb.KV"),
            ("/grpc.health.v1.Health/Get", "unknown method Get for service grpc.health.v1.Health"),
            ("/etcdserverpb.Kv/Range", "unknown service etcdserverpb.Kv"),
            ("/Range", "malformed method name: \"/Range\""),
            ("/", "malformed method name: \"/\""),
        ];
        for (path, wanted) in cases {
            assert_eq!(refusal(path).to_string(), wanted);
        }
    }
}
