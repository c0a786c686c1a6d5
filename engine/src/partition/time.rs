//! From a time to an offset.

use super::published::Segment;
use super::{Partition, ReadError};
use crate::batch::{self, Records};
use crate::ids::{Epoch, FileId, Offset, TimestampMs};
use crate::segment::files::SegmentFile;
use crate::segment::walk::HeaderWalk;
use std::io;
use std::sync::Arc;

/// A record's place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimePoint {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// The epoch it was appended under.
    pub epoch: Epoch,
}

struct Candidate {
    file: FileId,
    base: Offset,
    size: u64,
    /// A batch in memory's index before which no record is as late as wanted.
    floor: Option<(u64, Offset)>,
    /// Whether the file's own index must be asked.
    asks_file: Option<u64>,
    /// The segment that follows, when this one is sealed.
    next_file: Option<FileId>,
}

impl Candidate {
    fn new(segment: &Segment, next: Option<&Segment>, at: Option<TimestampMs>) -> Candidate {
        let index = segment.index.as_deref();
        let floor = at.and_then(|at| index.and_then(|index| index.last_before(|timestamp| timestamp >= at)));
        // A partial index answers only when what it does not cover is surely earlier: it cannot know that.
        let is_complete = index.is_some_and(|index| index.is_complete());
        Candidate {
            file: segment.file,
            base: segment.base,
            size: segment.size,
            floor: floor.filter(|_| is_complete).map(|entry| (entry.position, entry.offset)),
            asks_file: (!is_complete).then(|| index.map_or(segment.size, |index| index.from())),
            next_file: next.map(|next| next.file),
        }
    }
}

impl Partition {
    /// The first kept record whose timestamp is `at` or later. May wait for the medium: for a replay thread.
    pub fn find_time(self: &Arc<Self>, at: TimestampMs) -> Result<Option<TimePoint>, ReadError> {
        'again: loop {
            for candidate in self.candidates(at)? {
                let Some(file) = self.open(candidate.file)? else { continue 'again };
                let found = self.search(&file, &candidate, at)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            return Ok(None);
        }
    }

    /// Opens a segment; none when it was deleted or replaced since it was looked up, so that whoever looks again finds
    /// another.
    fn open(&self, file: FileId) -> Result<Option<Arc<SegmentFile>>, ReadError> {
        match self.shared.files.get(file) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_known = self.published.lock().segments.iter().any(|segment| segment.file == file);
                if is_known { Err(ReadError::Corrupt(format!("a segment file is missing: {error}"))) } else { Ok(None) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The first of the kept records with the greatest timestamp. May wait for the medium: for a replay thread.
    pub fn max_timestamp(self: &Arc<Self>) -> Result<Option<TimePoint>, ReadError> {
        loop {
            if let Some(greatest) = self.greatest()? {
                return if greatest.0 >= 0 { self.find_time(greatest) } else { Ok(None) };
            }
        }
    }

    /// The greatest timestamp of the kept records, -1 when none has one; none when a segment was deleted or replaced meanwhile.
    fn greatest(&self) -> Result<Option<TimestampMs>, ReadError> {
        let (log_start, greatest, cut) = {
            let published = self.published.lock();
            let log_start = published.log_start;
            let greatest = |segments: &mut dyn Iterator<Item = &Segment>| {
                segments.map(|segment| segment.max_timestamp).max().unwrap_or(TimestampMs(-1))
            };
            let whole = greatest(&mut published.segments.iter().filter(|segment| segment.base >= log_start));
            // The greatest of a segment that the log starts in may be that of a record that is gone.
            let cut = published.segments.first().filter(|first| first.base < log_start && first.max_timestamp > whole);
            let next = published.segments.get(1);
            (log_start, whole, cut.map(|segment| Candidate::new(segment, next, None)))
        };
        let Some(candidate) = cut else { return Ok(Some(greatest)) };
        let Some(file) = self.open(candidate.file)? else { return Ok(None) };
        Ok(Some(greatest.max(self.greatest_kept(&file, &candidate, log_start)?)))
    }

    /// The greatest timestamp of the records in a segment from `log_start` on; -1 when none has one.
    fn greatest_kept(
        &self,
        file: &SegmentFile,
        candidate: &Candidate,
        log_start: Offset,
    ) -> Result<TimestampMs, ReadError> {
        let epochs = self.published.lock().epochs.clone();
        let mut greatest = TimestampMs(-1);
        let mut walk = HeaderWalk::reading(file, 0, candidate.base, candidate.size);
        let mut bytes = Vec::new();
        while let Some((_, header)) = walk.next_checked(&epochs, &mut bytes).inspect_err(|error| self.report(error))? {
            if header.next_offset() <= log_start || header.max_timestamp <= greatest {
                continue;
            }
            let records = self.records_in(&mut bytes)?;
            for record in records.iter() {
                let record = record.map_err(|error| ReadError::Corrupt(error.to_string()))?;
                if record.offset >= log_start {
                    greatest = greatest.max(record.timestamp);
                }
            }
        }
        Ok(greatest)
    }

    /// The records of a batch that was read and checked.
    fn records_in(&self, bytes: &mut Vec<u8>) -> Result<Records, ReadError> {
        let bytes = std::mem::take(bytes).into();
        let records = batch::records_of(&bytes, batch::INFLATED_SIZE_MAX);
        records.map_err(|error| ReadError::Corrupt(error.to_string()))
    }

    fn candidates(&self, at: TimestampMs) -> Result<Vec<Candidate>, ReadError> {
        let published = self.published.lock();
        if published.is_deleted {
            return Err(ReadError::Deleted);
        }
        let segments = published.segments.iter().enumerate();
        let wanted = segments.filter(|(_, segment)| segment.size > 0 && segment.max_timestamp >= at);
        Ok(wanted
            .map(|(number, segment)| Candidate::new(segment, published.segments.get(number + 1), Some(at)))
            .collect())
    }

    fn search(
        &self,
        file: &SegmentFile,
        candidate: &Candidate,
        at: TimestampMs,
    ) -> Result<Option<TimePoint>, ReadError> {
        let wanted = |timestamp: TimestampMs| timestamp >= at;
        let (log_start, epochs) = {
            let published = self.published.lock();
            (published.log_start, published.epochs.clone())
        };
        let mut from = candidate.floor;
        if let Some(end) = candidate.asks_file.filter(|end| *end > 0) {
            let index = file.index(&self.shared.files, candidate.base, end, candidate.next_file, &epochs);
            let index = index.inspect_err(|error| self.report(error))?;
            from = index.last_before(wanted).map(|entry| (entry.position, entry.offset));
        }
        let (position, offset) = from.unwrap_or((0, candidate.base));
        let mut walk = HeaderWalk::reading(file, position, offset, candidate.size);
        let mut bytes = Vec::new();
        // Batches that are passed over are checked as well: damage to one must not hide what was looked for.
        while let Some((_, header)) = walk.next_checked(&epochs, &mut bytes).inspect_err(|error| self.report(error))? {
            if !wanted(header.max_timestamp) || header.next_offset() <= log_start {
                continue;
            }
            let found = |offset, timestamp| Some(TimePoint { offset, timestamp, epoch: header.leader_epoch });
            let records = self.records_in(&mut bytes)?;
            for record in records.iter() {
                let record = record.map_err(|error| ReadError::Corrupt(error.to_string()))?;
                if record.offset >= log_start && wanted(record.timestamp) {
                    return Ok(found(record.offset, record.timestamp));
                }
            }
        }
        Ok(None)
    }
}
