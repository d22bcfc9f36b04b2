//! Which versions a member says it has.

/// The versions a member reports.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    /// The etcd whose API is spoken.
    pub server: &'static str,
    /// The version at which the whole cluster works, with a patch of 0 as etcd has it.
    pub cluster: &'static str,
    /// The version whose storage features are used, likewise.
    pub storage: &'static str,
    /// kvorum's own.
    pub kvorum: &'static str,
}

/// What `Status`, `/version` and `--version` say.
pub const VERSIONS: Versions = Versions {
    server: "3.7.1",
    cluster: "3.7.0",
    storage: "3.7.0",
    kvorum: env!("CARGO_PKG_VERSION"),
};

/// The text of `--version`.
pub fn text() -> String {
    format!(
        "kvorum Version: {}\netcd API Version: {}\nOS/Arch: {}/{}\n",
        VERSIONS.kvorum,
        VERSIONS.server,
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}
