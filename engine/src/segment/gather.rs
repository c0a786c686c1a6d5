//! Gathering: what is appended to a segment that nobody reads waits in memory until it fills a piece, which then goes to the
//! medium past the page cache.
//!
//! A page cache write of a batch costs more CPU time than all else that is done with it. For readers it is worth that: they find
//! the bytes in memory. Where nobody reads, a piece of aligned bytes written directly costs a fifth of it, and pushes nothing
//! out of the page cache that others want. Nothing is at stake meanwhile: acknowledged bytes are in the WAL, and a checkpoint writes
//! what is gathered before it lets the WAL go.
//!
//! Whoever comes to read gathered bytes after all has them written first ([`Gather::settle`]); the file's own methods see to it.
//!
//! Only the committer appends. Pieces are written by whoever comes first: the thread for pieces, a reader, a checkpoint, or
//! the committer itself when too many wait; one at a time for each file, in order.

use super::files::SegmentFile;
use crate::env::{AlignedBuffer, BufferPool, DiskFile};
use crate::ids::FileId;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Direct writes start and end at multiples of this.
const UNIT: usize = 4096;
/// Pieces that are written with one call at most.
const PIECES_PER_WRITE: usize = 4;

/// What bounds gathering.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a piece, a multiple of 4 KiB; the first one of a file may be shorter.
    pub piece: usize,
    /// Files that gather at a time.
    pub files: usize,
    /// Bytes of full pieces that may wait to be written; the committer writes the next ones itself.
    pub waiting: usize,
    /// Who read a partition is expected again for so long: it does not gather.
    pub readers_stay: Duration,
}

/// Bytes on their way to the place in the file where they begin.
struct Piece {
    start: u64,
    /// How many bytes fill it.
    size: usize,
    buffer: AlignedBuffer,
    /// How many of its bytes a checkpoint has written.
    kept: usize,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    fn is_full(&self) -> bool {
        self.buffer.len() == self.size
    }
}

#[derive(Default)]
struct State {
    /// The file, opened for direct writes; while it gathers.
    direct: Option<Arc<dyn DiskFile>>,
    filling: Option<Piece>,
    full: VecDeque<Piece>,
    /// All of it is being written, and nothing is gathered meanwhile.
    settles: bool,
}

impl State {
    fn held_from(&self) -> u64 {
        self.full.front().or(self.filling.as_ref()).map_or(u64::MAX, |piece| piece.start)
    }
}

/// What a file has gathered.
pub struct Gather {
    state: Mutex<State>,
    /// Held while pieces are written.
    writing: Mutex<()>,
    /// Bytes from here on may be in memory alone.
    held_from: AtomicU64,
    pieces: Arc<Pieces>,
}

/// What the gathering files share.
pub struct Pieces {
    bounds: Bounds,
    /// The files that gather. They stay at hand until they have settled.
    files: Mutex<BTreeMap<FileId, Arc<SegmentFile>>>,
    buffers: Arc<BufferPool>,
    waiting: AtomicUsize,
    /// Files with full pieces.
    due: Mutex<VecDeque<Arc<SegmentFile>>>,
    bell: Condvar,
    /// Why a piece could not be written, whoever met it: the engine stops then.
    failure: Mutex<Option<io::Error>>,
}

impl Pieces {
    pub fn new(bounds: Bounds) -> Arc<Pieces> {
        Arc::new(Pieces {
            bounds,
            files: Mutex::default(),
            buffers: BufferPool::new(bounds.piece, usize::MAX),
            waiting: AtomicUsize::new(0),
            due: Mutex::default(),
            bell: Condvar::new(),
            failure: Mutex::default(),
        })
    }

    /// A file that gathers.
    pub fn file(&self, id: FileId) -> Option<Arc<SegmentFile>> {
        self.files.lock().get(&id).cloned()
    }

    /// All of them.
    pub fn files(&self) -> Vec<Arc<SegmentFile>> {
        self.files.lock().values().cloned().collect()
    }

    /// The file is gone: what it gathered is of no use.
    pub fn forget(&self, id: FileId) {
        let file = self.files.lock().remove(&id);
        if let Some(file) = file {
            file.gather().discard();
        }
    }

    /// Forgets all files: they and this hold each other.
    pub fn let_go(&self) {
        for file in self.files() {
            self.forget(file.id());
        }
        let due = std::mem::take(&mut *self.due.lock());
        drop(due);
    }

    /// Writes the full pieces of a file, waiting for one so long. False when none came. Also tells, once, of a write that failed for somebody
    /// else.
    pub fn write_due(&self, at_most: Duration) -> io::Result<bool> {
        let due = self.next_due(at_most);
        self.failure.lock().take().map_or(Ok(()), Err)?;
        due.map_or(Ok(false), |file| file.gather().write_full(&file).map(|()| true))
    }

    /// Ends a wait for full pieces.
    pub fn ring(&self) {
        let _guard = self.due.lock();
        self.bell.notify_all();
    }

    fn next_due(&self, at_most: Duration) -> Option<Arc<SegmentFile>> {
        let mut due = self.due.lock();
        if due.is_empty() {
            self.bell.wait_for(&mut due, at_most);
        }
        due.pop_front()
    }

    /// So many full pieces of a file are written at a time. One, as long as few wait: a block of the WAL that is written meanwhile takes as much longer as
    /// they take, and somebody waits for it. The more wait, the more, as that is cheaper; but fewer where many files gather.
    fn per_write(&self) -> usize {
        let files = self.files.lock().len().max(1);
        let share = self.bounds.waiting / 2 / files / self.bounds.piece;
        let pressure = PIECES_PER_WRITE * self.waiting.load(Ordering::Relaxed) / self.bounds.waiting.max(1);
        share.min(1 + pressure).clamp(1, PIECES_PER_WRITE)
    }

    /// How far it is from a position in a file to the end of the piece there. Each file has its ends elsewhere: those of many that fill at the same
    /// pace would all be full at the same moment.
    fn to_boundary(&self, file: FileId, position: u64) -> usize {
        let units = (self.bounds.piece / UNIT).max(1) as u64;
        let shift = (file.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % units * UNIT as u64;
        let into = (position + shift) % self.bounds.piece as u64;
        self.bounds.piece - usize::try_from(into).unwrap_or_default()
    }

    fn is_due(&self, file: &Arc<SegmentFile>) {
        self.due.lock().push_back(file.clone());
        self.bell.notify_one();
    }
}

/// Parts of what is to be written, taken from the front.
struct Parts<'a> {
    parts: &'a [IoSlice<'a>],
    /// Bytes of the first that were taken.
    taken: usize,
    left: usize,
}

impl<'a> Parts<'a> {
    fn new(parts: &'a [IoSlice<'a>]) -> Parts<'a> {
        Parts { parts, taken: 0, left: parts.iter().map(|part| part.len()).sum() }
    }

    /// The next bytes, at most so many.
    fn next(&mut self, at_most: usize) -> Option<&'a [u8]> {
        let first: &'a [u8] = self.parts.first()?;
        let rest = first.get(self.taken..).unwrap_or_default();
        let size = rest.len().min(at_most);
        self.taken += size;
        self.left -= size;
        if self.taken == first.len() {
            (self.parts, self.taken) = (self.parts.get(1..).unwrap_or_default(), 0);
        }
        Some(&rest[..size])
    }

    /// The next bytes in as few slices as can be, at most so many bytes.
    fn next_all(&mut self, mut at_most: usize) -> Vec<IoSlice<'a>> {
        let mut all = Vec::new();
        while at_most > 0
            && let Some(next) = self.next(at_most)
        {
            at_most -= next.len();
            all.push(IoSlice::new(next));
        }
        all
    }
}

impl Gather {
    pub fn new(pieces: Arc<Pieces>) -> Gather {
        Gather { state: Mutex::default(), writing: Mutex::default(), held_from: AtomicU64::new(u64::MAX), pieces }
    }

    /// Whether bytes before `end` may be in memory alone.
    pub fn holds(&self, end: u64) -> bool {
        end > self.held_from.load(Ordering::Acquire)
    }

    /// Puts bytes at the end of the file, which is `position`; `open` opens it for direct writes. It gathers them when `gathers` says so and
    /// there is room, else writes them. True when some went to the page cache.
    pub fn put(
        &self,
        file: &Arc<SegmentFile>,
        open: &dyn Fn() -> io::Result<Arc<dyn DiskFile>>,
        parts: &[IoSlice<'_>],
        position: u64,
        gathers: bool,
    ) -> io::Result<bool> {
        if !gathers {
            // What was gathered stands before it in the file.
            self.settle(file)?;
            return file.disk_file().write_at(parts, position).map(|()| true);
        }
        let (mut parts, mut position) = (Parts::new(parts), position);
        let (mut fills, mut is_cached) = (false, false);
        while parts.left > 0 {
            let mut state = self.state.lock();
            let to_boundary = self.pieces.to_boundary(file.id(), position);
            let is_aligned = position.is_multiple_of(UNIT as u64);
            if state.filling.is_none() && is_aligned && self.begin(&mut state, file, open) {
                let buffer = self.pieces.buffers.take(self.pieces.bounds.piece);
                state.filling = Some(Piece { start: position, size: to_boundary, buffer, kept: 0 });
                self.held_from.fetch_min(position, Ordering::Release);
            }
            let Some(filling) = &mut state.filling else {
                drop(state);
                self.settle(file)?;
                let next = parts.next_all(to_boundary);
                let size: usize = next.iter().map(|part| part.len()).sum();
                file.disk_file().write_at(&next, position)?;
                is_cached = true;
                position += size as u64;
                continue;
            };
            while !filling.is_full()
                && let Some(next) = parts.next(filling.size - filling.buffer.len())
            {
                filling.buffer.extend_from_slice(next);
            }
            position = filling.end();
            if filling.is_full() {
                // Its block, however little of it the first piece of a file takes.
                self.pieces.waiting.fetch_add(self.pieces.bounds.piece, Ordering::Relaxed);
                let full = state.filling.take();
                state.full.extend(full);
                fills = true;
            }
        }
        if !fills {
            return Ok(is_cached);
        }
        let waiting = self.pieces.waiting.load(Ordering::Relaxed);
        if waiting > self.pieces.bounds.waiting {
            return self.write_full(file).map(|()| is_cached);
        }
        // One large write costs less than several small ones.
        if self.state.lock().full.len() >= self.pieces.per_write() {
            self.pieces.is_due(file);
        }
        Ok(is_cached)
    }

    /// Whether the file gathers, from now on if need be.
    fn begin(
        &self,
        state: &mut State,
        file: &Arc<SegmentFile>,
        open: &dyn Fn() -> io::Result<Arc<dyn DiskFile>>,
    ) -> bool {
        if state.direct.is_some() {
            return !state.settles;
        }
        let mut files = self.pieces.files.lock();
        if files.len() >= self.pieces.bounds.files {
            return false;
        }
        let Ok(direct) = open() else { return false };
        files.insert(file.id(), file.clone());
        state.direct = Some(direct);
        true
    }

    /// Writes the full pieces.
    pub fn write_full(&self, file: &SegmentFile) -> io::Result<()> {
        let writing = self.writing.lock();
        while self.write_next(file)? {}
        drop(writing);
        Ok(())
    }

    /// Writes the first full pieces; false when there are none. `writing` is held.
    fn write_next(&self, file: &SegmentFile) -> io::Result<bool> {
        let at_most = self.pieces.per_write();
        let mut state = self.state.lock();
        let is_whole = |piece: &Piece| piece.buffer.len().is_multiple_of(UNIT);
        let count = state.full.iter().take(at_most).take_while(|piece| is_whole(piece)).count();
        let taken = count.max(1).min(state.full.len());
        let pieces: Vec<Piece> = state.full.drain(..taken).collect();
        let Some(first) = pieces.first() else { return Ok(false) };
        let direct = state.direct.clone().filter(|_| count > 0);
        drop(state);
        let parts: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece.buffer.as_slice())).collect();
        let written = direct.as_ref().unwrap_or(file.disk_file()).write_at(&parts, first.start);
        drop(parts);
        let mut state = self.state.lock();
        if let Err(error) = written {
            // They are still the only ones beside the WAL.
            for piece in pieces.into_iter().rev() {
                state.full.push_front(piece);
            }
            let told = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            *self.pieces.failure.lock() = Some(told);
            self.pieces.ring();
            return Err(error);
        }
        self.held_from.store(state.held_from(), Ordering::Release);
        drop(state);
        for piece in pieces {
            if piece.is_full() {
                self.pieces.waiting.fetch_sub(self.pieces.bounds.piece, Ordering::Relaxed);
            }
        }
        Ok(true)
    }

    /// Writes all that is gathered, for readers. The file gathers no longer.
    pub fn settle(&self, file: &SegmentFile) -> io::Result<()> {
        if self.held_from.load(Ordering::Acquire) == u64::MAX && self.state.lock().direct.is_none() {
            return Ok(());
        }
        let writing = self.writing.lock();
        loop {
            {
                let mut state = self.state.lock();
                state.settles = true;
                let filling = state.filling.take();
                state.full.extend(filling);
                if state.full.is_empty() {
                    state.direct = None;
                    state.settles = false;
                    self.pieces.files.lock().remove(&file.id());
                    drop(writing);
                    return Ok(());
                }
            }
            self.write_next(file)?;
        }
    }

    /// Writes all that is gathered, so that a sync makes it durable, and goes on gathering; a file that nothing came to since
    /// the last time settles instead.
    pub fn keep(&self, file: &SegmentFile) -> io::Result<()> {
        let writing = self.writing.lock();
        while self.write_next(file)? {}
        let mut state = self.state.lock();
        let is_idle = state.filling.as_ref().is_none_or(|filling| filling.kept == filling.buffer.len());
        if is_idle {
            drop(state);
            drop(writing);
            return self.settle(file);
        }
        let State { direct: Some(direct), filling: Some(filling), .. } = &mut *state else { return Ok(()) };
        let size = filling.buffer.len();
        // Whole units; what follows its bytes in the last is written over when they come, and read by nobody until then. The
        // committer waits for this moment, when it comes to this very file.
        let from = filling.kept / UNIT * UNIT;
        filling.buffer.pad_to(UNIT);
        let padded = filling.buffer.as_slice().get(from..).unwrap_or_default();
        let written = direct.write_at(&[IoSlice::new(padded)], filling.start + from as u64);
        filling.buffer.truncate(size);
        written?;
        filling.kept = size;
        Ok(())
    }

    fn discard(&self) {
        let _writing = self.writing.lock();
        let mut state = self.state.lock();
        let full = state.full.iter().filter(|piece| piece.is_full()).count();
        self.pieces.waiting.fetch_sub(full * self.pieces.bounds.piece, Ordering::Relaxed);
        *state = State::default();
        self.held_from.store(u64::MAX, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
