//! Directories: the names that are seen, and those that are durable.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::content::Loss;

/// What a name stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Node {
    Directory,
    /// A file, by its number.
    File(u64),
}

/// The names of a [`super::FaultyDisk`]. The root and the empty path are directories that are always there.
#[derive(Clone, Debug, Default)]
pub struct Names {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
}

impl Names {
    pub fn get(&self, path: &Path) -> Option<Node> {
        if path.parent().is_none() {
            return Some(Node::Directory);
        }
        self.live.get(path).copied()
    }

    /// The number of the file of this name.
    pub fn file(&self, path: &Path) -> io::Result<u64> {
        match self.get(path) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The numbers of all files that have a name, seen or durable.
    pub fn files(&self) -> impl Iterator<Item = u64> {
        self.live.values().chain(self.durable.values()).filter_map(|node| match node {
            Node::File(file) => Some(*file),
            Node::Directory => None,
        })
    }

    /// Gives a new file a name, which is not yet durable.
    pub fn create(&mut self, path: &Path, file: u64) -> io::Result<()> {
        self.check_parent(path)?;
        self.live.insert(path.to_owned(), Node::File(file));
        Ok(())
    }

    pub fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = path.ancestors().filter(|p| p.parent().is_some()).collect();
        missing.reverse();
        for directory in missing {
            match self.get(directory) {
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                _ => drop(self.live.insert(directory.to_owned(), Node::Directory)),
            }
            self.durable.insert(directory.to_owned(), Node::Directory);
        }
        Ok(())
    }

    /// Renames a file or a whole directory, and syncs both directories.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.get(from).ok_or(io::ErrorKind::NotFound)?;
        self.check_parent(to)?;
        if self.get(to) == Some(Node::Directory) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        for names in [&mut self.live, &mut self.durable] {
            let moved: Vec<(PathBuf, Node)> =
                names.extract_if(.., |path, _| path.starts_with(from)).collect();
            for (path, node) in moved {
                let below = path.strip_prefix(from).expect("every path taken out starts with it");
                // Joining an empty path would add a separator.
                let target = if below == Path::new("") { to.to_owned() } else { to.join(below) };
                names.insert(target, node);
            }
        }
        // A file that was not yet durable under its old name is so under the new one.
        self.sync_names(to.parent());
        self.sync_names(from.parent());
        Ok(())
    }

    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.live.remove(path);
        self.durable.remove(path);
        Ok(())
    }

    pub fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        self.check_dir(path)?;
        self.live.retain(|name, _| !name.starts_with(path));
        self.durable.retain(|name, _| !name.starts_with(path));
        Ok(())
    }

    pub fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.check_dir(dir)?;
        let inside = self.live.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    pub fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.check_dir(dir)?;
        self.sync_names(Some(dir));
        Ok(())
    }

    /// The names after the power was lost: those of each directory that were not synced are kept or lost together,
    /// as a journal would.
    pub fn lose(&mut self, loss: &mut Loss) {
        if let Loss::Chosen(random) = loss {
            let mut directories: Vec<PathBuf> = self
                .live
                .keys()
                .chain(self.durable.keys())
                .filter_map(|path| path.parent().map(Path::to_owned))
                .collect();
            directories.sort();
            directories.dedup();
            for directory in directories {
                if random.coin() {
                    self.sync_names(Some(&directory));
                }
            }
        }
        self.live = self.durable.clone();
    }

    fn sync_names(&mut self, dir: Option<&Path>) {
        let in_dir = |path: &PathBuf| path.parent() == dir;
        self.durable.retain(|path, _| !in_dir(path) || self.live.contains_key(path));
        let seen = self.live.iter().filter(|(path, _)| in_dir(path));
        self.durable.extend(seen.map(|(path, node)| (path.clone(), *node)));
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |parent| self.check_dir(parent))
    }

    fn check_dir(&self, path: &Path) -> io::Result<()> {
        match self.get(path) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
