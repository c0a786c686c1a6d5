//! The folder of checkpoint files: write the next, load the newest, drop what is no longer needed.

use super::file::{self, Header};
use crate::commit::Changes;
use crate::env::{Disk, OpenMode};
use crate::ids::Sequence;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Deltas on one base before they are merged.
const DELTAS_MAX: usize = 16;
/// Deltas smaller than this in all are not merged for their size.
const DELTA_BYTES_MIN: u64 = 256 << 10;
/// Bytes written at a time.
const PIECE: usize = 1 << 20;

#[derive(Clone, Debug)]
struct Name {
    number: u64,
    /// For people, and for a repair when the file cannot be read.
    through: u64,
    is_base: bool,
    path: PathBuf,
}

/// What a folder of checkpoints says.
pub struct Loaded {
    pub header: Header,
    pub state: Changes,
    /// Files that should follow but cannot be used. No crash leaves such a file under its final name: it is damage.
    pub unusable: Option<String>,
    pub lost: Lost,
}

/// What the names of unusable files tell.
#[derive(Clone, Debug, Default)]
pub struct Lost {
    /// Checkpoints that were written after the one that was loaded. Each run writes at least one, so no more runs are lost.
    pub checkpoints: u64,
    /// The greatest sequence that one of them covers.
    pub through: Sequence,
    pub paths: Vec<PathBuf>,
}

/// The folder.
pub struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    number: u64,
    crc: u32,
    base_bytes: u64,
    delta_bytes: u64,
    /// Files of the newest base and its deltas.
    current: Vec<Name>,
    /// Files of the base before.
    previous: Vec<Name>,
}

fn parse_name(dir: &Path, name: &str) -> Option<Name> {
    let path = dir.join(name);
    let (stem, extension) = name.rsplit_once('.')?;
    let is_base = match extension {
        "base" => true,
        "delta" => false,
        _ => return None,
    };
    let (number, through) = stem.split_once('-')?;
    let number = u64::from_str_radix(number, 16).ok()?;
    Some(Name { number, through: u64::from_str_radix(through, 16).unwrap_or_default(), is_base, path })
}

fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Lays the changes of a delta over a state; a base stays free of keys that are gone.
fn merge(state: &mut Changes, changes: Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => state.insert(key, Some(value)),
            None => state.remove(&key),
        };
    }
}

impl Store {
    /// An empty folder.
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Store {
        Store { disk, dir, number: 0, crc: 0, base_bytes: 0, delta_bytes: 0, current: Vec::new(), previous: Vec::new() }
    }

    /// Loads the newest state: the newest base that can be read and the deltas that follow it without a gap. None when
    /// there never was one.
    pub fn load(disk: Arc<dyn Disk>, dir: PathBuf) -> io::Result<Option<(Store, Loaded)>> {
        let mut names: Vec<_> = disk.list(&dir)?.iter().filter_map(|name| parse_name(&dir, name)).collect();
        names.sort_by_key(|name| (name.number, name.is_base));
        if names.is_empty() {
            return Ok(None);
        }
        let mut store = Store::new(disk.clone(), dir);
        let mut why = String::new();
        for base in names.iter().rev().filter(|name| name.is_base) {
            let bytes = read_file(&*disk, &base.path)?;
            let (mut header, mut state, mut crc) = match file::decode(&bytes) {
                Ok(decoded) => decoded,
                Err(error) => {
                    why = format!("{}: {error}", base.path.display());
                    tracing::error!("an unreadable checkpoint: {why}");
                    continue;
                }
            };
            store.base_bytes = bytes.len() as u64;
            store.current = vec![base.clone()];
            for delta in names.iter().filter(|name| !name.is_base && name.number > base.number) {
                let bytes = read_file(&*disk, &delta.path)?;
                match file::decode(&bytes) {
                    Ok((next, changes, next_crc)) if next.number == header.number + 1 && next.previous == crc => {
                        merge(&mut state, changes);
                        (header, crc) = (next, next_crc);
                        store.delta_bytes += bytes.len() as u64;
                        store.current.push(delta.clone());
                    }
                    // It may belong to a later base that cannot be read; what it claims counts below.
                    Ok(_) => break,
                    Err(error) => {
                        tracing::error!("an unreadable checkpoint: {}: {error}", delta.path.display());
                        break;
                    }
                }
            }
            store.previous = names.iter().filter(|name| name.number < base.number).cloned().collect();
            let unused = names.iter().filter(|name| name.number > header.number);
            let unusable =
                unused.clone().map(|name| name.path.display().to_string()).reduce(|all, one| all + ", " + &one);
            let unusable = unusable.map(|files| format!("checkpoint files that cannot be used: {files}"));
            let lost = Lost {
                checkpoints: unused.clone().map(|name| name.number - header.number).max().unwrap_or_default(),
                through: Sequence(unused.clone().map(|name| name.through).max().unwrap_or_default()),
                paths: unused.clone().map(|name| name.path.clone()).collect(),
            };
            // Numbers go on behind every file there is, so that none is ever written over; a merge then drops them.
            store.number = unused.map(|name| name.number).max().unwrap_or(header.number).max(header.number);
            store.crc = if store.number == header.number { crc } else { 0 };
            return Ok(Some((store, Loaded { header, state, unusable, lost })));
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("no checkpoint can be read; the last: {why}")))
    }

    /// Writes a checkpoint, durably: a delta, or a new base when there is none or enough deltas came together. The number
    /// and the link to the file before are filled in here.
    pub fn write(&mut self, header: Header, changes: Changes) -> io::Result<()> {
        let deltas = self.current.len().saturating_sub(1);
        let is_heavy = self.delta_bytes > self.base_bytes.max(DELTA_BYTES_MIN);
        let has_gap = self.current.last().is_none_or(|last| last.number != self.number);
        let is_base = has_gap || deltas >= DELTAS_MAX || is_heavy;
        let changes = if is_base { self.merged(changes)? } else { changes };
        self.write_file(header, &changes, is_base)
    }

    /// Writes a base that holds `state` and nothing else, durably.
    pub fn write_whole(&mut self, header: Header, state: &Changes) -> io::Result<()> {
        self.write_file(header, state, true)
    }

    fn write_file(&mut self, mut header: Header, changes: &Changes, is_base: bool) -> io::Result<()> {
        header.number = self.number + 1;
        header.previous = if is_base { 0 } else { self.crc };
        let (bytes, crc) = file::encode(&header, changes);
        let extension = if is_base { "base" } else { "delta" };
        let name = format!("{:016x}-{:016x}.{extension}", header.number, header.through.0);
        let path = self.dir.join(&name);
        let new = self.dir.join("new");
        if self.disk.exists(&new)? {
            self.disk.remove(&new)?;
        }
        let file = self.disk.open(&new, OpenMode::Create)?;
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            file.write_at(&[IoSlice::new(piece)], (index * PIECE) as u64)?;
        }
        file.sync()?;
        self.disk.rename(&new, &path)?;
        self.disk.sync_dir(&self.dir)?;
        (self.number, self.crc) = (header.number, crc);
        let name = Name { number: header.number, through: header.through.0, is_base, path };
        if !is_base {
            self.delta_bytes += bytes.len() as u64;
            self.current.push(name);
            return Ok(());
        }
        (self.base_bytes, self.delta_bytes) = (bytes.len() as u64, 0);
        let dropped = std::mem::replace(&mut self.previous, std::mem::replace(&mut self.current, vec![name]));
        for old in dropped {
            self.disk.remove(&old.path)?;
        }
        Ok(())
    }

    /// The state of all files with `changes` over it.
    fn merged(&self, changes: Changes) -> io::Result<Changes> {
        let mut state = Changes::new();
        for name in &self.current {
            let bytes = read_file(&*self.disk, &name.path)?;
            let decoded = file::decode(&bytes);
            let (_, older, _) = decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            merge(&mut state, older);
        }
        merge(&mut state, changes);
        Ok(state)
    }
}
