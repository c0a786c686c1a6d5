//! Reading: from an offset to a range of whole batches in one segment file.
//!
//! A read on a socket thread never waits for the medium: when a file is not open, an index not loaded, a page not in memory
//! or a CRC not yet checked since the file was opened, it is handed back as [`Read::Cold`], to be done by a replay thread.
//! So what reaches a reader was checked by this process: when it came in and was written, or when it was first read since its file was opened. What
//! was checked may have left memory since and is not checked again when it comes back; a scrub does that, and clients check CRCs themselves.

use super::{Bounds, Partition, bounds_of};
use crate::ids::{FileId, Offset};
use crate::segment::files::SegmentFile;
use crate::segment::index::{Index, IndexEntry};
use crate::segment::walk::{HeaderWalk, WalkError};
use bytes::Bytes;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// The first record wanted.
    pub from: Offset,
    /// Whole batches up to this many bytes.
    pub bytes_max: usize,
    /// One batch at least, even when it is larger.
    pub at_least_one: bool,
    /// Nothing behind the last stable offset.
    pub stable_only: bool,
}

/// What came of it.
pub enum Read {
    /// Here it is.
    Ready(Batches),
    /// It would block.
    Cold(ColdRead),
}

/// Whole batches.
#[derive(Clone)]
pub struct Batches {
    /// Their bytes. The first may begin before the offset that was asked for. None when there is nothing.
    pub range: Option<FileRange>,
    /// The offset behind the last of them.
    pub next: Offset,
    /// The partition's bounds when it was read.
    pub bounds: Bounds,
}

/// Published bytes of a segment file. They never change; the file stays readable while this is held.
#[derive(Clone)]
pub struct FileRange {
    file: Arc<SegmentFile>,
    position: u64,
    size: usize,
}

impl FileRange {
    /// How many bytes.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Where they begin in the file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The file's descriptor, for `sendfile`; none in simulation.
    pub fn raw_fd(&self) -> Option<RawFd> {
        self.file.raw_fd()
    }

    /// The bytes, mapped: not copied.
    pub fn bytes(&self) -> io::Result<Bytes> {
        self.file.slice(self.position, self.size)
    }
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is outside of what is kept.
    #[error("the offset is out of range")]
    OutOfRange { bounds: Bounds },
    /// The topic is gone.
    #[error("the topic is deleted")]
    Deleted,
    /// Stored bytes were found to be damaged.
    #[error("{0}")]
    Corrupt(String),
    /// The medium failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<WalkError> for ReadError {
    fn from(error: WalkError) -> ReadError {
        match error {
            WalkError::Io(error) => ReadError::Io(error),
            corrupt @ WalkError::Corrupt { .. } => ReadError::Corrupt(corrupt.to_string()),
        }
    }
}

/// The segment that a read begins in, as it was published.
struct Spot {
    file: FileId,
    /// Published end.
    size: u64,
    /// The offset behind the segment's last record.
    end: Offset,
    /// The segment that follows, when this one is sealed.
    next_file: Option<FileId>,
    /// The exact position of the wanted offset, from a recent read.
    known: Option<u64>,
    /// Index entries from memory: the floor of the offset and that of the byte bound.
    floor: Option<IndexEntry>,
    /// Below this the in-memory index knows nothing; the file's own must be asked.
    index_from: u64,
    /// The segment's base offset.
    base: Offset,
}

/// The whole batches that a read gives.
struct Cut {
    start: u64,
    end: u64,
    /// Base offset of the first.
    base: Offset,
    /// The offset behind the last.
    next: Offset,
}

/// So many batches are walked over without an index, to see where a read ends.
const HOPS_MAX: usize = 64;

/// What is read ahead at a time.
const AHEAD_BYTES: usize = 4 << 20;

/// A read that must wait for the medium.
pub struct ColdRead {
    partition: Arc<Partition>,
    request: ReadRequest,
    at_most: u64,
}

impl ColdRead {
    /// No more bytes than these will come, as long as no batch alone is larger than what was asked for.
    pub fn at_most(&self) -> usize {
        self.request.bytes_max.min(usize::try_from(self.at_most).unwrap_or(usize::MAX))
    }

    /// Reads, and waits as long as it takes. For a replay thread.
    pub fn read(self) -> Result<Batches, ReadError> {
        self.partition.shared.stats.cold_reads.fetch_add(1, Ordering::Relaxed);
        self.read_now()
    }

    fn read_now(&self) -> Result<Batches, ReadError> {
        loop {
            // The segment may be deleted, or replaced by a compacted one, between the look and the open: then the look must
            // be repeated.
            let before = self.partition.file_of(self.request.from);
            match self.partition.read_with(&self.request, true) {
                Ok(Some(batches)) => return Ok(batches),
                Ok(None) => return Err(ReadError::Io(io::Error::other("a blocking read would block"))),
                Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                    if before.is_some() && before == self.partition.file_of(self.request.from) {
                        return Err(ReadError::Corrupt(format!("a segment file is missing: {error}")));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Brings what would be read into memory, a little at a time while it `goes_on` and nobody appends. What goes wrong is told to whoever reads.
    pub(crate) fn read_ahead(mut self, goes_on: impl Fn() -> bool) {
        let mut left = self.request.bytes_max;
        let shared = self.partition.shared.clone();
        while left > 0 && goes_on() && !shared.loads.is_beside_appends(shared.env.clock.monotonic()) {
            self.request.bytes_max = left.min(AHEAD_BYTES);
            let Ok(Batches { range: Some(range), next, .. }) = self.read_now() else { return };
            self.request.from = next;
            self.request.at_least_one = false;
            left = left.saturating_sub(range.len());
        }
    }
}

impl Partition {
    /// Reads whole batches from an offset on, without waiting for the medium.
    pub fn read(self: &Arc<Self>, request: &ReadRequest) -> Result<Read, ReadError> {
        self.note_read();
        Ok(match self.read_with(request, false)? {
            Some(batches) => Read::Ready(batches),
            None => {
                let spot = self.spot(request)?.0;
                let left = |spot: Spot| {
                    let from = spot.known.or(spot.floor.map(|entry| entry.position)).unwrap_or_default();
                    spot.size.saturating_sub(from)
                };
                let at_most = spot.map_or(0, left);
                Read::Cold(ColdRead { partition: self.clone(), request: *request, at_most })
            }
        })
    }

    /// None: it would block, and `may_block` says it must not.
    fn read_with(&self, request: &ReadRequest, may_block: bool) -> Result<Option<Batches>, ReadError> {
        let (spot, bounds) = match self.spot(request)? {
            (Some(spot), bounds) => (spot, bounds),
            (None, bounds) => return Ok(Some(Batches { range: None, next: request.from, bounds })),
        };
        let files = &self.shared.files;
        let file = match files.at_hand(spot.file) {
            Some(file) => file,
            None if may_block => files.get(spot.file)?,
            None => return Ok(None),
        };
        if file.gather().holds(spot.size) {
            if !may_block {
                return Ok(None);
            }
            file.settle(spot.size)?;
        }
        let Some(cut) = self.cut(&file, &spot, request, may_block)? else { return Ok(None) };
        let Cut { start, end, base, next } = cut;
        if start == end {
            return Ok(Some(Batches { range: None, next: request.from, bounds }));
        }
        if may_block {
            // Either the pages were gone or the CRCs unchecked. What was checked once is not again.
            let is_there = self.shared.loads.bring_in(&file, start, end, self.shared.env.clock.monotonic())?;
            if !is_there || !file.is_verified(start, end) {
                let epochs = self.published.lock().epochs.clone();
                file.verify(start, base, end, &epochs).inspect_err(|error| self.report(error))?;
            }
        } else if !file.is_verified(start, end) || !file.disk_file().is_resident(start, end - start) {
            return Ok(None);
        }
        self.published.lock().note_read_end(spot.file, next, end);
        let size = usize::try_from(end - start).map_err(io::Error::other)?;
        let range = FileRange { file, position: start, size };
        Ok(Some(Batches { range: Some(range), next, bounds }))
    }

    /// Damage is told to whoever runs the server, not only to the reader who met it.
    pub(super) fn report(&self, error: &WalkError) {
        if let WalkError::Corrupt { .. } = error {
            self.shared.report_damage(&format!("{} partition {}: {error}", self.topic.name, self.index));
        }
    }

    /// The file that an offset lies in, while it is kept.
    fn file_of(&self, offset: Offset) -> Option<FileId> {
        let published = self.published.lock();
        let at = published.segment_of(offset).filter(|_| offset >= published.log_start)?;
        published.segments.get(at).map(|segment| segment.file)
    }

    fn spot(&self, request: &ReadRequest) -> Result<(Option<Spot>, Bounds), ReadError> {
        let published = self.published.lock();
        if published.is_deleted {
            return Err(ReadError::Deleted);
        }
        let bounds = bounds_of(&published);
        if request.from < bounds.log_start || request.from > bounds.high_watermark {
            return Err(ReadError::OutOfRange { bounds });
        }
        if request.from >= bounds.end(request.stable_only) {
            return Ok((None, bounds));
        }
        let Some(at) = published.segment_of(request.from) else { return Ok((None, bounds)) };
        let segment = &published.segments[at];
        let index = segment.index.as_deref();
        let spot = Spot {
            file: segment.file,
            size: segment.size,
            end: published.segments.get(at + 1).map_or(bounds.high_watermark, |next| next.base),
            next_file: published.segments.get(at + 1).map(|next| next.file),
            known: published.known_position(segment.file, request.from),
            floor: index.and_then(|index| index.floor_offset(request.from)),
            index_from: index.map_or(segment.size, |index| index.from()),
            base: segment.base,
        };
        Ok((Some(spot), bounds))
    }

    /// The whole batches wanted; none when looking for them would block.
    fn cut(
        &self,
        file: &SegmentFile,
        spot: &Spot,
        request: &ReadRequest,
        may_block: bool,
    ) -> Result<Option<Cut>, ReadError> {
        let is_free_at = |position| may_block || file.disk_file().is_resident(position, 1);
        // A batch at or before the wanted one.
        let (position, offset) = match (spot.known, spot.floor) {
            (Some(known), _) => (known, request.from),
            (None, Some(floor)) => (floor.position, floor.offset),
            (None, None) if spot.index_from == 0 || request.from == spot.base => (0, spot.base),
            (None, None) => {
                let index = match file.index_at_hand() {
                    Some(index) => index,
                    None if may_block => self.index_of(file, spot)?,
                    None => return Ok(None),
                };
                index.floor_offset(request.from).map_or((0, spot.base), |entry| (entry.position, entry.offset))
            }
        };
        let mut walk = HeaderWalk::new(file, position, offset, spot.size);
        let (mut start, mut base) = (position, offset);
        if spot.known.is_none() {
            loop {
                if !is_free_at(start) {
                    return Ok(None);
                }
                match walk.next_batch().inspect_err(|error| self.report(error))? {
                    Some((at, header)) if header.next_offset() > request.from => {
                        (start, base) = (at, header.base_offset);
                        break;
                    }
                    Some((at, header)) => start = at + header.size as u64,
                    None => return Err(ReadError::Corrupt(format!("segment {} ends early", spot.file))),
                }
            }
        }
        let bytes_max = request.bytes_max as u64;
        if spot.size - start <= bytes_max {
            return Ok(Some(Cut { start, end: spot.size, base, next: spot.end }));
        }
        // The bound cuts the segment: end at the last batch that fits. An index may know a batch that starts close below.
        let bound = start + bytes_max;
        if let Some(entry) = self.index_floor(file, spot, bound).filter(|entry| entry.position > start) {
            return Ok(Some(Cut { start, end: entry.position, base, next: entry.offset }));
        }
        let mut walk = HeaderWalk::new(file, start, base, spot.size);
        let mut cut = Cut { start, end: start, base, next: request.from };
        // Of what lies behind `index_from`, the index in memory has said what it knows.
        let lacks_index = start < spot.index_from && file.index_at_hand().is_none();
        let mut hops_left = if lacks_index { HOPS_MAX } else { usize::MAX };
        while cut.end < bound {
            if hops_left == 0 {
                // Small batches: an index pays for itself.
                if !may_block {
                    return Ok(None);
                }
                self.index_of(file, spot)?;
                return self.cut(file, spot, request, may_block);
            }
            hops_left -= 1;
            if !is_free_at(cut.end) {
                return Ok(None);
            }
            let Some((at, header)) = walk.next_batch().inspect_err(|error| self.report(error))? else { break };
            let end = at + header.size as u64;
            if end > bound && !(at == start && request.at_least_one) {
                break;
            }
            (cut.end, cut.next) = (end, header.next_offset());
        }
        Ok(Some(cut))
    }

    /// The file's own index, read or made now if need be.
    fn index_of(&self, file: &SegmentFile, spot: &Spot) -> Result<Arc<Index>, ReadError> {
        let epochs = self.published.lock().epochs.clone();
        let index = file.index(&self.shared.files, spot.base, spot.index_from, spot.next_file, &epochs);
        Ok(index.inspect_err(|error| self.report(error))?)
    }

    /// The last batch start at or before `position` that an index at hand knows.
    fn index_floor(&self, file: &SegmentFile, spot: &Spot, position: u64) -> Option<IndexEntry> {
        let published = self.published.lock();
        let segment = published.segments.iter().rfind(|segment| segment.file == spot.file)?;
        let in_memory = segment.index.as_deref().and_then(|index| index.floor_position(position));
        drop(published);
        in_memory.or_else(|| file.index_at_hand()?.floor_position(position))
    }
}
