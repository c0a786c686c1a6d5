//! One file per partition, written with plain positioned writes, and three ways to make them durable.

use super::load::Record;
use crate::sys;
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// When segment bytes are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the background, by a `syncfs` for every so many bytes, with writeback started early; a WAL holds what is acked.
    Checkpoint {
        /// Bytes between two checkpoints.
        every_bytes: u64,
        /// Bytes that the WAL can hold: writing waits when a checkpoint has not freed them.
        wal_bytes: u64,
        /// A file's dirty bytes are pushed towards the device in pieces of this size.
        writeback_bytes: u64,
    },
    /// By one `syncfs` in each round.
    SyncfsPerRound,
    /// By one `fdatasync` for each file that the round touched.
    FdatasyncEach,
}

/// The most parts that one vectored write takes.
const PARTS_MAX: usize = 1024;

struct Segment {
    position: u64,
    allocated: u64,
    written_back: u64,
}

/// The segments of a run.
pub struct Segments {
    durability: Durability,
    files: Arc<Vec<File>>,
    state: Vec<Segment>,
    chunk_bytes: u64,
    /// Held open, so that `syncfs` needs no path.
    dir: Arc<File>,
    path: PathBuf,
    written: u64,
    checkpoint_asked: u64,
    background: Option<Background>,
}

enum Work {
    Writeback { file: usize, position: u64, len: u64 },
    Checkpoint { covers: u64 },
}

struct Background {
    work: Sender<Work>,
    covered: Receiver<io::Result<u64>>,
    covered_until: u64,
    thread: JoinHandle<()>,
}

impl Segments {
    /// Makes `count` files in a new folder `path`.
    pub fn create(path: &Path, count: usize, durability: Durability) -> io::Result<Self> {
        fs::create_dir(path)?;
        // Space is reserved in chunks, small ones where there are many files.
        let chunk_bytes = ((1u64 << 30) / count as u64).clamp(128 << 10, 64 << 20).next_power_of_two();
        let files = (0..count)
            .map(|at| OpenOptions::new().read(true).write(true).create_new(true).open(path.join(format!("{at}.log"))))
            .collect::<io::Result<Vec<_>>>()?;
        for file in &files {
            sys::fallocate(file, 0, chunk_bytes, true)?;
        }
        let dir = Arc::new(File::open(path)?);
        sys::syncfs(&dir)?;
        let state = (0..count).map(|_| Segment { position: 0, allocated: chunk_bytes, written_back: 0 }).collect();
        let files = Arc::new(files);
        let background = if matches!(durability, Durability::Checkpoint { .. }) {
            Some(Background::start(files.clone(), dir.clone())?)
        } else {
            None
        };
        let path = path.to_owned();
        let (written, checkpoint_asked) = (0, 0);
        Ok(Self { durability, files, state, chunk_bytes, dir, path, written, checkpoint_asked, background })
    }

    /// Writes a round, one call per partition, and makes it durable when that is this way's habit.
    pub fn write(&mut self, round: &mut [Record], payload: &[u8]) -> io::Result<()> {
        round.sort_by_key(|record| record.partition);
        for records in round.chunk_by(|a, b| a.partition == b.partition) {
            let partition = records[0].partition as usize;
            let (file, segment) = (&self.files[partition], &mut self.state[partition]);
            let len = (records.len() * payload.len()) as u64;
            while segment.position + len > segment.allocated {
                sys::fallocate(file, segment.allocated, self.chunk_bytes, true)?;
                segment.allocated += self.chunk_bytes;
            }
            for part in records.chunks(PARTS_MAX) {
                let parts: Vec<IoSlice<'_>> = part.iter().map(|_| IoSlice::new(payload)).collect();
                sys::write_vectored_at(file, &parts, segment.position)?;
                segment.position += (part.len() * payload.len()) as u64;
            }
            self.written += len;
            if self.durability == Durability::FdatasyncEach {
                file.sync_data()?;
            }
            if let Durability::Checkpoint { writeback_bytes, .. } = self.durability
                && let Some(background) = &self.background
                && segment.position - segment.written_back >= writeback_bytes
            {
                let (position, len) = (segment.written_back, segment.position - segment.written_back);
                segment.written_back = segment.position;
                background.ask(Work::Writeback { file: partition, position, len })?;
            }
        }
        match self.durability {
            Durability::SyncfsPerRound => sys::syncfs(&self.dir),
            Durability::FdatasyncEach => Ok(()),
            Durability::Checkpoint { every_bytes, wal_bytes, .. } => {
                let Some(background) = &mut self.background else { return Ok(()) };
                if self.written - self.checkpoint_asked >= every_bytes {
                    self.checkpoint_asked = self.written;
                    background.ask(Work::Checkpoint { covers: self.written })?;
                }
                background.wait_until(|covered| self.written - covered <= wal_bytes)
            }
        }
    }

    /// Makes all of it durable (so that every way pays for the same bytes) and removes the files.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(background) = self.background.take() {
            background.end()?;
        }
        sys::syncfs(&self.dir)?;
        fs::remove_dir_all(&self.path)
    }
}

impl Background {
    fn start(files: Arc<Vec<File>>, dir: Arc<File>) -> io::Result<Self> {
        // Bounded, so that a slow device slows the committer instead of filling memory.
        let (work, todo) = bounded::<Work>(4096);
        let (covered_sender, covered) = unbounded();
        let thread = Builder::new().name("checkpoint".into()).spawn(move || {
            for work in todo {
                let result = match work {
                    Work::Writeback { file, position, len } => {
                        sys::start_writeback(&files[file], position, len).map(|()| None)
                    }
                    Work::Checkpoint { covers } => sys::syncfs(&dir).map(|()| Some(covers)),
                };
                match result {
                    Ok(None) => {}
                    Ok(Some(covers)) => drop(covered_sender.send(Ok(covers))),
                    Err(error) => return drop(covered_sender.send(Err(error))),
                }
            }
        })?;
        Ok(Self { work, covered, covered_until: 0, thread })
    }

    fn ask(&self, work: Work) -> io::Result<()> {
        self.work.send(work).map_err(|_| io::Error::other("the checkpoint thread ended"))
    }

    /// Takes what checkpoints have covered, and waits for them while `enough` says no.
    fn wait_until(&mut self, enough: impl Fn(u64) -> bool) -> io::Result<()> {
        while let Ok(covered) = self.covered.try_recv() {
            self.covered_until = covered?;
        }
        while !enough(self.covered_until) {
            self.covered_until = self.covered.recv().map_err(io::Error::other)??;
        }
        Ok(())
    }

    fn end(self) -> io::Result<()> {
        drop(self.work);
        self.thread.join().map_err(|_| io::Error::other("the checkpoint thread panicked"))?;
        while let Ok(covered) = self.covered.try_recv() {
            covered?;
        }
        Ok(())
    }
}
