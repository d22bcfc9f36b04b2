//! etcd's v3 API as plain structs, with a client and a service trait for each service. One module a protobuf package.

/// Users, roles and permissions.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unused_qualifications)]
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// The services KV, Watch, Lease, Cluster, Maintenance and Auth, and their messages.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unused_qualifications)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// Key-values and events.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unused_qualifications)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// The Election service.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unused_qualifications)]
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// The Lock service.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unused_qualifications)]
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}
