//! Which crate may depend on which, and where versions stand.
//!
//! Dependencies point one way. The table of workspace arrows and the lists of third-party crates below are the whole of
//! what is allowed; `docs/architecture.md` explains them. A new crate of either kind is added here on purpose or not at
//! all.

use toml::{Table, Value};

use crate::Finding;

/// A package of the workspace, and what it may use.
struct Package {
    folder: &'static str,
    /// Packages of the workspace, without their prefix.
    workspace: &'static [&'static str],
    /// Third-party lists of its layer.
    layers: &'static [&'static [&'static str]],
}

/// Third-party crates of the stepped crates: data and errors, no runtime.
const CORE: &[&str] = &["bytes", "crc32c", "parking_lot", "thiserror"];
const PROTOBUF: &[&str] = &["prost", "prost-types", "tonic", "tonic-prost"];
const PROTOBUF_BUILD: &[&str] = &["protox", "tonic-prost-build"];
/// Crates that run things: tokio and what speaks its language.
const RUNTIME: &[&str] = &["futures-util", "tokio", "tokio-stream", "tracing"];
/// The allocator and its knobs.
const JEMALLOC: &[&str] = &["tikv-jemalloc-ctl", "tikv-jemalloc-sys", "tikv-jemallocator"];
const OPENRAFT: &[&str] = &["openraft", "openraft-macros", "openraft-rt", "openraft-rt-tokio"];
const SERVER: &[&str] = &[
    "arc-swap",
    "axum",
    "clap",
    "http",
    "http-body",
    "hyper",
    "hyper-util",
    "indicatif",
    "rand",
    "rustix",
    "serde_json",
    "sha1",
    "socket2",
    "strsim",
    "tempfile",
    "tikv-jemallocator",
    "tonic-health",
    "tonic-reflection",
    "tower",
    "tracing-subscriber",
];
const CLIENT: &[&str] = &[
    "base64",
    "clap",
    "clap_complete",
    "comfy-table",
    "console",
    "h2",
    "hdrhistogram",
    "http",
    "indicatif",
    "rand",
    "rustix",
    "serde",
    "serde_json",
    "sha2",
];
/// Crates that tests of any package may use.
const TESTING: &[&str] = &[
    "goldenscript",
    "loom",
    "peak_alloc",
    "proc-macro2",
    "proptest",
    "prost",
    "rand",
    "serde_json",
    "syn",
    "tempfile",
    "tikv-jemalloc-ctl",
    "tikv-jemallocator",
    "tokio",
    "toml",
    "tracing-subscriber",
    "walkdir",
];

/// Every package of the workspace, lowest first.
const PACKAGES: [Package; 19] = [
    Package { folder: "crates/types", workspace: &[], layers: &[CORE] },
    Package { folder: "crates/proto", workspace: &["types"], layers: &[CORE, PROTOBUF] },
    Package { folder: "crates/pool", workspace: &[], layers: &[CORE, &["object-pool"]] },
    Package {
        folder: "crates/metrics",
        workspace: &[],
        layers: &[CORE, &["arc-swap", "prometheus-client"]],
    },
    Package { folder: "crates/disk", workspace: &["types"], layers: &[CORE, &["rustix"]] },
    Package {
        folder: "crates/heap",
        workspace: &[],
        layers: &[CORE, JEMALLOC, &["flate2", "prost"]],
    },
    Package { folder: "crates/wal", workspace: &["disk", "types"], layers: &[CORE] },
    Package {
        folder: "crates/mvcc",
        workspace: &["types"],
        layers: &[CORE, &["arc-swap", "sled"]],
    },
    Package { folder: "crates/lease", workspace: &["types"], layers: &[CORE, &["imbl"]] },
    Package {
        folder: "crates/watch",
        workspace: &["mvcc", "proto", "types"],
        layers: &[CORE, &["prost"]],
    },
    Package {
        folder: "crates/machine",
        workspace: &["disk", "lease", "mvcc", "proto", "types"],
        layers: &[CORE, &["arc-swap", "prost", "sha2"]],
    },
    Package {
        folder: "crates/consensus",
        workspace: &["disk", "lease", "machine", "mvcc", "pool", "proto", "types", "wal"],
        layers: &[CORE, RUNTIME, OPENRAFT, &["prost", "zstd"]],
    },
    Package {
        folder: "server",
        workspace: &[
            "consensus",
            "disk",
            "heap",
            "lease",
            "machine",
            "metrics",
            "mvcc",
            "pool",
            "proto",
            "types",
            "wal",
            "watch",
        ],
        layers: &[CORE, RUNTIME, PROTOBUF, SERVER],
    },
    Package {
        folder: "client",
        workspace: &["proto", "types"],
        layers: &[CORE, RUNTIME, PROTOBUF, CLIENT],
    },
    Package {
        folder: "crates/testkit",
        workspace: &["client", "disk", "machine", "proto", "server", "types"],
        layers: &[CORE, RUNTIME, PROTOBUF, TESTING, &["rustix"]],
    },
    Package { folder: "tests", workspace: &[], layers: &[] },
    Package {
        folder: "tests/fuzz",
        workspace: &["consensus", "disk", "machine", "mvcc", "proto", "server", "types", "wal"],
        // base64: a source file of the client's tool is part of it.
        layers: &[CORE, RUNTIME, PROTOBUF, TESTING, &["base64", "sha2"]],
    },
    Package { folder: "tests/judges", workspace: &["proto", "types"], layers: &[CORE, &["prost"]] },
    Package {
        folder: "tests/simulation",
        workspace: &[
            "consensus",
            "disk",
            "judges",
            "lease",
            "machine",
            "mvcc",
            "pool",
            "proto",
            "types",
            "wal",
            "watch",
        ],
        layers: &[CORE, RUNTIME, OPENRAFT, TESTING, &["clap"]],
    },
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 4] = ["common", "core", "helpers", "utils"];

/// The feature that plants known bugs, and the packages that may have it or ask for it. None may have it by default: then
/// the programs have none, in whatever build.
const MUTANTS: (&str, [&str; 2]) = ("mutants", ["crates/types", "tests/simulation"]);

/// Packages outside the workspace, which must not be part of its build.
const OUTSIDE_THE_WORKSPACE: [&str; 2] = ["tests/compat/etcd-client", "tests/fuzz/cargo-fuzz"];

/// A parsed `Cargo.toml`.
pub struct Manifest {
    path: String,
    /// Where it stands, without a trailing `/`; empty for the root.
    folder: String,
    text: String,
    table: Table,
}

impl Manifest {
    /// Reads `text`, which stands at `path`.
    pub fn parse(path: &str, text: &str) -> Result<Manifest, Finding> {
        let table =
            text.parse().map_err(|error| Finding::new(path, 0, format!("no manifest: {error}")))?;
        let folder = path.trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned();
        Ok(Manifest { path: path.to_owned(), folder, text: text.to_owned(), table })
    }

    /// The dependencies under `key`, name and requirement.
    fn dependencies(&self, key: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.table.get(key).and_then(Value::as_table).into_iter().flatten()
    }

    /// A finding at the first line that begins with `word`.
    fn finding(&self, word: &str, what: impl Into<String>) -> Finding {
        let line = self.text.lines().position(|line| line.trim_start().starts_with(word));
        Finding::new(&self.path, line.map_or(0, |line| line + 1), what)
    }
}

/// All rules of this module.
pub fn check(manifest: &Manifest) -> Vec<Finding> {
    let mut findings = Vec::from_iter(no_bugs_are_planted(manifest));
    if manifest.folder.is_empty() || OUTSIDE_THE_WORKSPACE.contains(&manifest.folder.as_str()) {
        return findings;
    }
    findings.extend(name_is_its_folder(manifest));
    findings.extend(versions_stand_in_the_root(manifest));
    let Some(package) = PACKAGES.iter().find(|package| package.folder == manifest.folder) else {
        let what =
            "not in the table of tests/tests/tidy/manifests.rs: give it its place among the arrows";
        findings.push(manifest.finding("[package]", what));
        return findings;
    };
    for (name, _) in manifest.dependencies("dependencies") {
        findings.extend(may_use(manifest, package, name, &[]));
    }
    for (name, _) in manifest.dependencies("build-dependencies") {
        findings.extend(may_use(manifest, package, name, PROTOBUF_BUILD));
    }
    for (name, _) in manifest.dependencies("dev-dependencies") {
        findings.extend(may_test_with(manifest, package, name));
    }
    findings
}

fn no_bugs_are_planted(manifest: &Manifest) -> Option<Finding> {
    let (feature, homes) = MUTANTS;
    let asks = |line: &&str| !line.trim_start().starts_with('#') && line.contains(feature);
    let default = manifest.table.get("features").and_then(|features| features.get("default"));
    let is_default = default.is_some_and(|default| default.to_string().contains(feature));
    let line = manifest.text.lines().find(asks)?;
    let is_allowed = homes.contains(&manifest.folder.as_str()) && !is_default;
    let what =
        "the feature `mutants` plants known bugs: only the simulation asks for it, when told to";
    (!is_allowed).then(|| manifest.finding(line.trim_start(), what))
}

fn name_is_its_folder(manifest: &Manifest) -> Vec<Finding> {
    let folder = manifest.folder.rsplit('/').next().unwrap_or_default();
    let name = manifest.table.get("package").and_then(|package| package.get("name"));
    let name = name.and_then(Value::as_str).unwrap_or_default();
    let mut findings = Vec::new();
    if name != format!("kvorum-{folder}") {
        let what = format!("the package in {folder}/ is called kvorum-{folder}, not {name:?}");
        findings.push(manifest.finding("name", what));
    }
    if EMPTY_NAMES.iter().any(|empty| name.ends_with(empty) || folder == *empty) {
        findings.push(
            manifest.finding("name", "a name that says nothing: call the crate by its one job"),
        );
    }
    findings
}

fn versions_stand_in_the_root(manifest: &Manifest) -> Vec<Finding> {
    let mut findings = Vec::new();
    for key in ["dependencies", "build-dependencies", "dev-dependencies"] {
        for (name, requirement) in manifest.dependencies(key) {
            let is_inherited = requirement.get("workspace").and_then(Value::as_bool) == Some(true);
            if !is_inherited {
                let what = format!(
                    "{name}: versions and paths stand in the root Cargo.toml, write workspace = true"
                );
                findings.push(manifest.finding(name, what));
            }
        }
    }
    for key in ["version", "edition", "rust-version", "license"] {
        let value = manifest.table.get("package").and_then(|package| package.get(key));
        if value.is_some_and(|value| value.get("workspace").is_none()) {
            findings.push(manifest.finding(key, format!("{key} stands in the root Cargo.toml")));
        }
    }
    let lints = manifest.table.get("lints").and_then(|lints| lints.get("workspace"));
    if lints.and_then(Value::as_bool) != Some(true) {
        findings.push(manifest.finding("[lints]", "inherit the lints: [lints] workspace = true"));
    }
    findings
}

fn may_use(manifest: &Manifest, package: &Package, name: &str, also: &[&str]) -> Option<Finding> {
    let folder = package.folder;
    if let Some(ours) = name.strip_prefix("kvorum-") {
        let what = format!(
            "{folder} must not depend on {ours}: that arrow is not in docs/architecture.md"
        );
        return (!package.workspace.contains(&ours)).then(|| manifest.finding(name, what));
    }
    let is_listed =
        package.layers.iter().any(|layer| layer.contains(&name)) || also.contains(&name);
    let what = format!(
        "{name} is not on the list of {folder}'s layer: do without it, or list it with a reason"
    );
    (!is_listed).then(|| manifest.finding(name, what))
}

/// Tests may use the testing crates, the testkit, and all that the package itself may.
fn may_test_with(manifest: &Manifest, package: &Package, name: &str) -> Option<Finding> {
    if package.folder == "tests" {
        return None;
    }
    let is_for_tests = name == "kvorum-testkit" || TESTING.contains(&name);
    if is_for_tests { None } else { may_use(manifest, package, name, &[]) }
}

#[cfg(test)]
mod tests {
    use super::{Manifest, check};

    /// What the findings say on a manifest of the package in `folder` with `dependencies` added.
    fn findings(folder: &str, dependencies: &str) -> Vec<String> {
        let name = folder.rsplit('/').next().expect("a folder has a last part");
        let text = format!(
            "[package]\nname = \"kvorum-{name}\"\nversion.workspace = true\n[lints]\nworkspace = true\n{dependencies}"
        );
        findings_of(&format!("{folder}/Cargo.toml"), &text)
    }

    fn findings_of(path: &str, text: &str) -> Vec<String> {
        let manifest = Manifest::parse(path, text).expect("the sample is a manifest");
        check(&manifest).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_found() {
        let upwards = findings("crates/wal", "[dependencies]\nkvorum-machine.workspace = true\n");
        assert_eq!(upwards.len(), 1);
        assert!(
            upwards[0]
                .starts_with("crates/wal/Cargo.toml:7: crates/wal must not depend on machine")
        );
        assert_eq!(findings("client", "[dependencies]\nkvorum-mvcc.workspace = true\n").len(), 1);
        assert_eq!(
            findings("server", "[dependencies]\nkvorum-testkit.workspace = true\n").len(),
            1
        );
        assert!(
            findings("server", "[dev-dependencies]\nkvorum-testkit.workspace = true\n").is_empty()
        );
        assert!(
            findings("crates/wal", "[dependencies]\nkvorum-disk.workspace = true\n").is_empty()
        );
    }

    #[test]
    fn a_third_party_crate_off_its_layers_list_is_found() {
        assert_eq!(findings("crates/wal", "[dependencies]\ntokio.workspace = true\n").len(), 1);
        assert_eq!(findings("crates/machine", "[dependencies]\nsled.workspace = true\n").len(), 1);
        assert_eq!(findings("server", "[dependencies]\nopenraft.workspace = true\n").len(), 1);
        assert_eq!(
            findings("crates/types", "[build-dependencies]\ncc.workspace = true\n").len(),
            1
        );
        assert!(
            findings("crates/wal", "[dev-dependencies]\ntempfile.workspace = true\n").is_empty()
        );
    }

    #[test]
    fn a_version_outside_the_root_is_found() {
        assert_eq!(findings("crates/wal", "[dependencies]\nbytes = \"1\"\n").len(), 1);
        assert_eq!(
            findings("crates/wal", "[dependencies]\nkvorum-disk = { path = \"../disk\" }\n").len(),
            1
        );
        let text = "[package]\nname = \"kvorum-wal\"\nversion = \"0.2.0\"\n";
        assert_eq!(
            findings_of("crates/wal/Cargo.toml", text).len(),
            2,
            "the version, and no lints"
        );
    }

    #[test]
    fn a_package_that_plants_bugs_is_found() {
        let asks =
            "[dependencies]\nkvorum-types = { workspace = true, features = [\"mutants\"] }\n";
        assert_eq!(findings("server", asks).len(), 1);
        assert_eq!(findings("crates/wal", asks).len(), 1);
        assert_eq!(findings_of("Cargo.toml", asks).len(), 1);
        let has = |default| format!("[features]\ndefault = [{default}]\nmutants = []\n");
        assert!(findings("crates/types", &has("")).is_empty());
        assert_eq!(findings("crates/types", &has("\"mutants\"")).len(), 1);
        assert!(findings("server", "# mutants are not for servers\n").is_empty());
    }

    #[test]
    fn a_crate_without_a_place_or_a_telling_name_is_found() {
        assert_eq!(findings("crates/utils", "").len(), 2);
        assert_eq!(findings("crates/mvcc-helpers", "").len(), 2);
        let text = "[package]\nname = \"kvorum-log\"\n[lints]\nworkspace = true\n";
        assert_eq!(findings_of("crates/wal/Cargo.toml", text).len(), 1);
    }
}
