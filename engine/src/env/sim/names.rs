//! The simulated folder tree: which name leads to which file, now and on the medium.
//!
//! Creating, renaming and removing are each one change, kept or lost as a whole. A change waits in `pending` until its folder is
//! synced. A later change to a name builds on the earlier ones, so when it is kept, they are too.

use super::keep::Keep;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

/// What a name leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Node {
    Folder,
    File(u64),
}

#[derive(Clone)]
enum Change {
    Add(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl Change {
    fn names(&self) -> impl Iterator<Item = &Path> {
        let (first, second) = match self {
            Change::Add(path, _) | Change::Remove(path) => (path, None),
            Change::Rename(from, to) => (from, Some(to)),
        };
        std::iter::once(first).chain(second).map(PathBuf::as_path)
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Change::Add(path, node) => {
                names.insert(path.clone(), *node);
            }
            Change::Remove(path) => {
                names.remove(path);
            }
            Change::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

/// A folder tree with what is durable of it.
#[derive(Clone, Default)]
pub(super) struct Names {
    now: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<(u64, Change)>,
}

/// Drops what does not change where a path leads.
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}

fn error(kind: io::ErrorKind, path: &Path) -> io::Error {
    io::Error::new(kind, path.display().to_string())
}

impl Names {
    /// What a (clean) path leads to. The root and the current folder are always there.
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        if path.parent().is_none() || path.as_os_str().is_empty() {
            return Some(Node::Folder);
        }
        self.now.get(path).copied()
    }

    /// The file that a path leads to.
    pub(super) fn file(&self, path: &Path) -> io::Result<u64> {
        match self.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Folder) => Err(error(io::ErrorKind::IsADirectory, path)),
            None => Err(error(io::ErrorKind::NotFound, path)),
        }
    }

    /// An error unless the path leads to a folder.
    pub(super) fn folder(&self, path: &Path) -> io::Result<()> {
        match self.get(path) {
            Some(Node::Folder) => Ok(()),
            Some(Node::File(_)) => Err(error(io::ErrorKind::NotADirectory, path)),
            None => Err(error(io::ErrorKind::NotFound, path)),
        }
    }

    /// Everything below a folder.
    fn below<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
        let range = (Bound::Excluded(dir), Bound::Unbounded);
        self.now.range::<Path, _>(range).take_while(move |(path, _)| path.starts_with(dir))
    }

    /// Names in a folder, sorted.
    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.folder(dir)?;
        let inside = self.below(dir).filter(|(path, _)| path.parent() == Some(dir));
        Ok(inside.filter_map(|(path, _)| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    /// All files.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.now.iter().filter_map(|(path, node)| match node {
            Node::File(inode) => Some((path.as_path(), *inode)),
            Node::Folder => None,
        })
    }

    fn change(&mut self, number: u64, change: Change) {
        change.apply(&mut self.now);
        self.pending.push((number, change));
    }

    pub(super) fn add(&mut self, number: u64, path: &Path, node: Node) -> io::Result<()> {
        self.folder(path.parent().unwrap_or(Path::new("")))?;
        if self.get(path).is_some() {
            return Err(error(io::ErrorKind::AlreadyExists, path));
        }
        self.change(number, Change::Add(path.to_owned(), node));
        Ok(())
    }

    /// Renames a file; the one that had the new name before.
    pub(super) fn rename(&mut self, number: u64, from: &Path, to: &Path) -> io::Result<Option<u64>> {
        let moved = self.file(from)?;
        self.folder(to.parent().unwrap_or(Path::new("")))?;
        let replaced = match self.get(to) {
            None => None,
            Some(Node::File(inode)) => Some(inode),
            Some(Node::Folder) => return Err(error(io::ErrorKind::IsADirectory, to)),
        };
        if replaced == Some(moved) {
            return Ok(None);
        }
        self.change(number, Change::Rename(from.to_owned(), to.to_owned()));
        Ok(replaced)
    }

    /// Removes a file or an empty folder; the file that lost its name.
    pub(super) fn remove(&mut self, number: u64, path: &Path) -> io::Result<Option<u64>> {
        let node = self.get(path).ok_or_else(|| error(io::ErrorKind::NotFound, path))?;
        if self.below(path).next().is_some() {
            return Err(error(io::ErrorKind::DirectoryNotEmpty, path));
        }
        self.change(number, Change::Remove(path.to_owned()));
        Ok(match node {
            Node::File(inode) => Some(inode),
            Node::Folder => None,
        })
    }

    /// Makes those pending changes durable that `chosen` names, with all that they build on: earlier changes to the same
    /// names, to the folders that they lie in, and to what lay in a folder that was removed.
    fn settle(&mut self, chosen: impl Fn(u64, &Change) -> bool) {
        let mut needed: BTreeSet<&Path> = BTreeSet::new();
        let mut kept = vec![false; self.pending.len()];
        for (kept, (number, change)) in kept.iter_mut().zip(&self.pending).rev() {
            *kept = chosen(*number, change) || change.names().any(|name| is_needed(name, &needed));
            if *kept {
                needed.extend(change.names());
            }
        }
        let mut kept = kept.into_iter();
        let durable = &mut self.durable;
        self.pending.retain(|(_, change)| {
            let keep = kept.next().unwrap_or(false);
            if keep {
                change.apply(durable);
            }
            !keep
        });
    }

    /// Makes the entries of one folder durable.
    pub(super) fn sync(&mut self, dir: &Path) {
        self.settle(|_, change| change.names().any(|name| name.parent() == Some(dir)));
    }

    /// Makes one change durable.
    pub(super) fn sync_change(&mut self, number: u64) {
        self.settle(|other, _| other == number);
    }

    /// Makes all entries durable.
    pub(super) fn sync_all(&mut self) {
        self.settle(|_, _| true);
    }

    /// The tree that a power cut leaves.
    pub(super) fn crashed(&self, keep: &Keep) -> Names {
        let mut names = self.clone();
        names.settle(|number, _| keep.change(number));
        Names { now: names.durable.clone(), durable: names.durable, pending: Vec::new() }
    }

    /// Files that some crash could still bring back.
    pub(super) fn reachable(&self) -> BTreeSet<u64> {
        let added = self.pending.iter().filter_map(|(_, change)| match change {
            Change::Add(_, node) => Some(node),
            _ => None,
        });
        let nodes = self.now.values().chain(self.durable.values()).chain(added);
        nodes.filter_map(|node| if let Node::File(inode) = node { Some(*inode) } else { None }).collect()
    }
}

/// Whether a change to `name` lies under a change to one of `needed`.
fn is_needed(name: &Path, needed: &BTreeSet<&Path>) -> bool {
    let above = name.ancestors().any(|ancestor| needed.contains(ancestor));
    let first_below = needed.range::<Path, _>((Bound::Excluded(name), Bound::Unbounded)).next();
    above || first_below.is_some_and(|below| below.starts_with(name))
}
