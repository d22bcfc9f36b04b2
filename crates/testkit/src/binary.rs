//! Finding the executable `kvorum`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The executable that cargo built beside the running test.
///
/// Cargo tells a test where the executables of its own package are, and of no other. So it is looked for where the
/// test itself lies: `target/<profile>/deps/<test>` and `target/<profile>/kvorum`. Building the whole workspace builds
/// both; a test that was built alone may find none, or one that is older than its sources, and says so.
///
/// `KVORUM_TEST_EXECUTABLE` names another, such as a release build, which then is taken as it is.
pub fn executable() -> PathBuf {
    if let Some(named) = env::var_os("KVORUM_TEST_EXECUTABLE") {
        return PathBuf::from(named);
    }
    const ADVICE: &str =
        "build it with `cargo build --workspace`, as `cargo test --workspace` does";
    let test = env::current_exe().expect("the running test has a path");
    let profile = test
        .ancestors()
        .find(|dir| dir.file_name().is_some_and(|name| name == "deps"))
        .and_then(Path::parent)
        .unwrap_or_else(|| panic!("{} is not where cargo puts tests", test.display()));
    let executable = profile.join(format!("kvorum{}", env::consts::EXE_SUFFIX));
    let Ok(built) = modified(&executable) else {
        panic!("there is no {}: {ADVICE}", executable.display());
    };
    // Beside the executable cargo lists what it was made from.
    let sources = fs::read_to_string(profile.join("kvorum.d")).unwrap_or_default();
    for source in sources.split_whitespace().filter(|path| path.ends_with(".rs")) {
        if modified(Path::new(source)).is_ok_and(|changed| changed > built) {
            panic!("{} is older than {source}: {ADVICE}", executable.display());
        }
    }
    executable
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    fs::metadata(path)?.modified()
}
