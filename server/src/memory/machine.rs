//! What the system says: how much memory there is for this process, and how much of it the process has.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::param::page_size;

/// Where the files of the system are, which in tests is elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    root: PathBuf,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine { root: PathBuf::from("/") }
    }
}

impl Machine {
    /// The bytes of memory that this process may have in the end: the machine's, or what its control group is limited to.
    /// None if the system does not tell.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        let group = self.group_limits().into_iter().min();
        match (self.total_bytes(), group) {
            (Some(total), Some(group)) => Some(total.min(group)),
            (total, group) => total.or(group),
        }
    }

    /// The bytes of memory that this process has.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        let pages = self.read("proc/self/statm")?;
        let pages: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
        pages.checked_mul(page_size() as u64)
    }

    fn total_bytes(&self) -> Option<u64> {
        let text = self.read("proc/meminfo")?;
        let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        kib.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    }

    /// The limits of this process's control group and of those around it, of both versions.
    fn group_limits(&self) -> Vec<u64> {
        let text = self.read("proc/self/cgroup").unwrap_or_default();
        let mut limits = Vec::new();
        for line in text.lines() {
            // `number:controllers:path`; version 2 has no controllers.
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            if controllers.is_empty() {
                limits.extend(self.limits_along("sys/fs/cgroup", path, "memory.max"));
            } else if controllers.split(',').any(|controller| controller == "memory") {
                let file = "memory.limit_in_bytes";
                limits.extend(self.limits_along("sys/fs/cgroup/memory", path, file));
            }
        }
        limits
    }

    /// What `file` says in the group at `path` and in all around it. Within a container the group itself is often what is
    /// mounted, so that its own path is not found and the top is what counts.
    fn limits_along(&self, mount: &str, path: &str, file: &str) -> Vec<u64> {
        let names = Path::new(path).components();
        let names = names.filter(|name| matches!(name, Component::Normal(_)));
        let mut dir = PathBuf::from(mount);
        let mut dirs = vec![dir.clone()];
        for name in names {
            dir.push(name);
            dirs.push(dir.clone());
        }
        // No limit is `max`, or a number beyond all memory.
        dirs.iter().filter_map(|dir| self.read(dir.join(file))?.trim().parse().ok()).collect()
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let machine = Machine { root: dir.path().to_owned() };
        (dir, machine)
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       1048576 kB\nMemFree:  1 kB\n");

    #[test]
    fn the_machine_is_the_limit_where_no_group_is() {
        let (_dir, plain) = machine(&[MEMINFO]);
        assert_eq!(plain.memory_bytes(), Some(1024 * MIB));
        let (_dir, unlimited) = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
        ]);
        assert_eq!(unlimited.memory_bytes(), Some(1024 * MIB));
        let (_dir, nothing) = machine(&[]);
        assert_eq!(nothing.memory_bytes(), None);
    }

    #[test]
    fn the_narrowest_group_around_is_the_limit() {
        let (_dir, machine) = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "268435456\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ]);
        assert_eq!(machine.memory_bytes(), Some(256 * MIB));
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_top() {
        let (_dir, second) = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "134217728\n"),
        ]);
        assert_eq!(second.memory_bytes(), Some(128 * MIB));
        let (_dir, first) = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "11:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "134217728\n"),
        ]);
        assert_eq!(first.memory_bytes(), Some(128 * MIB));
        let (_dir, first) = machine_of_version_1_without_limit();
        assert_eq!(first.memory_bytes(), Some(1024 * MIB));
    }

    fn machine_of_version_1_without_limit() -> (tempfile::TempDir, Machine) {
        machine(&[
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ])
    }

    #[test]
    fn this_process_has_memory() {
        let machine = Machine::default();
        let resident = machine.resident_bytes().unwrap();
        assert!(resident > MIB && resident < machine.memory_bytes().unwrap());
    }
}
