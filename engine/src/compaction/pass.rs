//! The course of a pass, in steps, so that a simulation can let other work happen between any two of them.

use super::map::KeyMap;
use super::rewrite::{Output, WRITE_BYTES, no_room};
use super::standing::{Standing, standing};
use crate::batch::{self, BatchHeader, Fate, Records, Retained};
use crate::cell::Shared;
use crate::ids::{Epoch, FileId, Offset, Sequence, TimestampMs};
use crate::partition::Partition;
use crate::segment::files::SegmentFile;
use crate::segment::walk::{HeaderWalk, WalkError};
use crate::settings::Settings;
use crate::wal::entry::{Swap, SwappedIn};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes read in one step.
const STEP_BYTES: usize = 1 << 20;
/// Segments that become one at most.
const GROUP_MAX: usize = 1_000;
/// A segment that a pass reads, as it was when the pass began. It is sealed: it stays as it is, or goes.
#[derive(Clone, Copy)]
struct Input {
    file: FileId,
    base: Offset,
    /// The offset behind its last.
    end: Offset,
    size: u64,
    first_append: TimestampMs,
    last_append: TimestampMs,
}

/// Why a pass ends early.
pub enum Trouble {
    /// Segments that it reads are in the log no more: deleted, with the topic or by retention.
    Gone,
    /// The topic's settings ask for something else by now.
    Changed,
    /// The engine has stopped.
    Stopped,
    /// A segment cannot be read, or the new one not be written.
    Failed(WalkError),
}

impl From<WalkError> for Trouble {
    fn from(error: WalkError) -> Trouble {
        Trouble::Failed(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Failed(error.into())
    }
}

/// A partition that is being compacted.
pub struct Pass {
    pub partition: Arc<Partition>,
    settings: Arc<Settings>,
    epochs: Vec<(Epoch, Offset)>,
    segments: Vec<Input>,
    /// The first record that was not compacted before.
    start: Offset,
    /// Records from here on stay: the map does not know them.
    pub end: Offset,
    pub map: KeyMap,
    pub is_mapped: bool,
    now: TimestampMs,
    pub began: Duration,
    /// The segment that is being read, and where in it.
    at: usize,
    position: u64,
    offset: Offset,
    /// The first segment of those that become one.
    first: usize,
    pub output: Option<Output>,
    /// Whether a batch was kept that nobody could look into: it may hold older records of any key, so null values behind it stay.
    has_met_unread: bool,
    /// Whether the new segment differs from what it was made from.
    is_changed: bool,
    /// Records that the new segment lacks, and all new segments of the pass.
    pub group_dropped: u64,
    pub records_dropped: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Pass {
    /// Begins with a partition, unless there is nothing to compact. An error when there is no room for what it writes.
    pub fn begin(shared: &Shared, partition: Arc<Partition>, checkpointed: Sequence) -> Result<Option<Pass>, Trouble> {
        let now = shared.env.clock.wall();
        let settings = partition.settings();
        let published = partition.published();
        let Some(found) = standing(&published, &settings, now, checkpointed) else { return Ok(None) };
        let Standing { start, end, segments, .. } = found;
        let inputs: Vec<Input> = published
            .segments
            .windows(2)
            .take(segments)
            .filter_map(|pair| {
                let [segment, next] = pair else { return None };
                Some(Input {
                    file: segment.file,
                    base: segment.base,
                    end: next.base,
                    size: segment.size,
                    first_append: segment.first_append,
                    last_append: segment.last_append,
                })
            })
            .collect();
        let epochs = published.epochs.clone();
        drop(published);
        // On a full disk all would be read, and the first write find no room.
        let needed = inputs.iter().map(|input| input.size).sum::<u64>().min(WRITE_BYTES as u64);
        if !shared.space.has_room(needed) {
            return Err(no_room().into());
        }
        let first = inputs.iter().enumerate().find(|(_, input)| input.end > start);
        let Some((at, Input { base: offset, .. })) = first.map(|(at, input)| (at, *input)) else { return Ok(None) };
        Ok(Some(Pass {
            settings,
            epochs,
            start,
            end,
            map: KeyMap::new(&*shared.env.rng, shared.options.compaction_map_bytes_max),
            is_mapped: false,
            now,
            began: shared.env.clock.monotonic(),
            at,
            position: 0,
            offset,
            segments: inputs,
            first: 0,
            output: None,
            has_met_unread: false,
            is_changed: false,
            group_dropped: 0,
            records_dropped: 0,
            bytes_before: 0,
            bytes_after: 0,
            partition,
        }))
    }

    /// On to the segments that become the next one. False when there are none.
    pub fn next_group(&mut self) -> bool {
        self.first = self.at;
        self.is_changed = false;
        self.group_dropped = 0;
        self.at < self.segments.len()
    }

    /// Opens a segment that is read. Its file may be missing because it was deleted; any other that is missing is a failure.
    fn open(&self, shared: &Shared, input: &Input) -> Result<Arc<SegmentFile>, Trouble> {
        match shared.files.get(input.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let published = self.partition.published();
                match published.segments.iter().any(|segment| segment.file == input.file) {
                    true => {
                        Err(Trouble::Failed(io::Error::other(format!("a segment file is missing: {error}")).into()))
                    }
                    false => Err(Trouble::Gone),
                }
            }
            other => Ok(other?),
        }
    }

    /// Whether the topic is still to be compacted, and as it was when the pass began. A change that is queued and not applied yet
    /// is not seen.
    pub fn is_wanted(&self) -> bool {
        let settings = self.partition.settings();
        let acted_on = |settings: &Settings| (settings.compaction_lag_min_ms, settings.delete_retention_ms);
        settings.compacts && acted_on(&settings) == acted_on(&self.settings)
    }

    /// How many segments, of those not replaced yet, are in the log no more. Deletions begin at the front.
    pub fn gone(&self) -> usize {
        let published = self.partition.published();
        let start = published.segments.first().map_or(Offset(i64::MAX), |segment| segment.base);
        self.segments.iter().skip(self.first).take_while(|input| input.base < start).count()
    }

    /// Goes on behind segments that are gone. What the map knows of them does no harm: no record that is left lies before. False
    /// when nothing is left, or nothing explains why one is gone.
    pub fn skip_gone(&mut self) -> bool {
        let gone = self.gone();
        self.first += gone;
        self.is_changed = false;
        self.group_dropped = 0;
        if self.is_mapped || self.at < self.first {
            self.go_to(self.first);
        }
        gone > 0 && self.first < self.segments.len()
    }

    /// To the beginning of a segment.
    fn go_to(&mut self, at: usize) {
        self.at = at;
        self.position = 0;
        self.offset = self.segments.get(at).map_or(self.end, |input| input.base);
    }

    /// On to the next segment.
    fn next_segment(&mut self, walk_end: Offset, input: &Input) -> Result<(), Trouble> {
        if walk_end != input.end {
            return Err(Trouble::Failed(WalkError::Corrupt {
                file: input.file.to_string(),
                position: input.size,
                why: format!("it ends at offset {walk_end}, where {} is due", input.end),
            }));
        }
        self.go_to(self.at + 1);
        Ok(())
    }

    /// Reads some keys. Says whether all are known that there is room for; then the place is back at the beginning.
    pub fn map_some(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        if let Some(input) = self.segments.get(self.at).copied() {
            let file = self.open(shared, &input)?;
            let mut walk = HeaderWalk::reading(&file, self.position, self.offset, input.size);
            let (mut bytes, mut read) = (Vec::new(), 0);
            let mut is_full = false;
            while read < STEP_BYTES && !is_full {
                let Some((_, header)) = walk.next_checked(&self.epochs, &mut bytes)? else {
                    let (_, end) = walk.place();
                    self.count_read(shared, read);
                    self.next_segment(end, &input)?;
                    return Ok(false);
                };
                read += header.size;
                if header.next_offset() > self.start {
                    is_full = !self.note_keys(&header, std::mem::take(&mut bytes).into());
                }
            }
            (self.position, self.offset) = walk.place();
            self.count_read(shared, read);
            if !is_full {
                return Ok(false);
            }
        }
        // What lies behind the end is not read again.
        let end = self.end;
        self.segments.retain(|input| input.base < end);
        self.go_to(self.first);
        self.is_mapped = true;
        if self.first < self.segments.len() { Ok(true) } else { Err(Trouble::Gone) }
    }

    fn count_read(&self, shared: &Shared, bytes: usize) {
        shared.stats.compaction_map_bytes.store(self.map.bytes() as u64, Ordering::Relaxed);
        shared.stats.compaction_read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes a batch's keys. False when there is no room for one of them: the pass ends before its record.
    fn note_keys(&mut self, header: &BatchHeader, bytes: Bytes) -> bool {
        let Some(records) = readable(header, &bytes) else { return true };
        let (start, map) = (self.start, &mut self.map);
        let mut full_at = None;
        let walked = batch::each_record(&records, |record| {
            if let (Some(key), None) = (record.key.filter(|_| record.offset >= start), full_at)
                && map.note(key, record.offset).is_err()
            {
                full_at = Some(record.offset);
            }
        });
        debug_assert!(walked.is_ok(), "it was walked before");
        if let Some(offset) = full_at {
            self.end = offset;
        }
        full_at.is_none()
    }

    /// Writes some of what stays. Says whether a new segment is complete.
    pub fn rewrite_some(&mut self, shared: &Shared) -> Result<bool, Trouble> {
        let input = self.segments.get(self.at).copied();
        if let Some(output) = &self.output {
            let is_full = |input: &Input| {
                let is_boundary = self.position == 0 && self.at > self.first;
                let is_large = output.size() + input.size > self.settings.segment_bytes;
                is_boundary && (is_large || self.at - self.first >= GROUP_MAX)
            };
            if input.is_none_or(|input| is_full(&input)) {
                self.finish_output(shared)?;
                return Ok(true);
            }
        }
        let Some(input) = input else { return Ok(true) };
        let file = self.open(shared, &input)?;
        if self.output.is_none() {
            let id = FileId(shared.next_file.fetch_add(1, Ordering::Relaxed));
            self.output = Some(Output::new(shared.files.create(id)?, input.base));
        }
        let mut walk = HeaderWalk::reading(&file, self.position, self.offset, input.size);
        let (mut bytes, mut read) = (Vec::new(), 0);
        while read < STEP_BYTES {
            let Some((_, header)) = walk.next_checked(&self.epochs, &mut bytes)? else {
                let (_, end) = walk.place();
                self.count_read(shared, read);
                self.bytes_before += input.size;
                self.next_segment(end, &input)?;
                return Ok(false);
            };
            read += header.size;
            self.keep(&header, std::mem::take(&mut bytes).into());
            if let Some(output) = &mut self.output {
                let written = output.write(false, &shared.space)?;
                shared.stats.compaction_written_bytes.fetch_add(written, Ordering::Relaxed);
            }
        }
        (self.position, self.offset) = walk.place();
        self.count_read(shared, read);
        Ok(false)
    }

    /// Writes what stays of a batch.
    fn keep(&mut self, header: &BatchHeader, bytes: Bytes) {
        let is_stand_in =
            header.record_count == 0 && header.size == BatchHeader::SIZE && !header.attributes.is_control();
        if is_stand_in {
            // It is made again, as large as its hole is now.
            return;
        }
        let retained = readable(header, &bytes).and_then(|records| self.retain(&records).ok());
        self.has_met_unread |= retained.is_none() && !header.attributes.is_control();
        let retained = retained.unwrap_or(Retained::Whole);
        let kept = match &retained {
            Retained::Whole => header.record_count,
            Retained::Changed(batch) => batch.header().record_count,
            Retained::Nothing => 0,
        };
        self.group_dropped += u64::try_from(header.record_count - kept).unwrap_or_default();
        self.is_changed |= !matches!(retained, Retained::Whole);
        let (epochs, Some(output)) = (&self.epochs, &mut self.output) else { return };
        match retained {
            Retained::Whole => output.put(&bytes, header, epochs),
            Retained::Changed(batch) => output.put(batch.bytes(), batch.header(), epochs),
            Retained::Nothing => {}
        }
    }

    fn retain(&self, records: &Records) -> Result<Retained, crate::batch::BatchError> {
        let header = records.header();
        // A batch that reaches behind the end is not all known: its null values are met by the next pass.
        let is_known = header.last_offset() < self.end;
        let has_expired = header.attributes.has_delete_horizon() && self.now >= header.base_timestamp;
        let is_expired = has_expired && !self.has_met_unread;
        let horizon = TimestampMs(self.now.0.saturating_add(self.settings.delete_retention_ms));
        batch::retain(records, horizon, |record| {
            if record.offset >= self.end {
                return Fate::Stays;
            }
            // A record without a key has no place in a compacted log; one from before the topic was compacted goes, as in the
            // reference.
            let Some(key) = record.key else { return Fate::Goes };
            let is_last = self.map.last(key).is_none_or(|last| last <= record.offset);
            match (is_last, record.value) {
                (false, _) => Fate::Goes,
                (true, Some(_)) => Fate::Stays,
                (true, None) if is_expired => Fate::Goes,
                (true, None) if is_known => Fate::StaysForNow,
                (true, None) => Fate::Stays,
            }
        })
    }

    /// The segments that become one.
    fn group(&self) -> &[Input] {
        self.segments.get(self.first..self.at).unwrap_or_default()
    }

    fn finish_output(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let end = self.group().last().map_or(self.start, |input| input.end);
        let (epochs, Some(output)) = (&self.epochs, &mut self.output) else { return Ok(()) };
        output.cover(end, epochs);
        let written = output.write(true, &shared.space)?;
        shared.stats.compaction_written_bytes.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the new segment is the old one again: that was compacted before, and nothing changed.
    pub fn is_useless(&self) -> bool {
        let ([input], Some(output)) = (self.group(), &self.output) else { return false };
        !self.is_changed && input.end <= self.start && output.size() == input.size
    }

    pub fn make_durable(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let Some(output) = &self.output else { return Ok(()) };
        shared.files.finish_compacted(&output.file, &Arc::new(output.index.clone()))?;
        Ok(())
    }

    pub fn swap(&self) -> Swap {
        let group = self.group();
        let appended = || group.iter().filter(|input| input.size > 0);
        let zero = TimestampMs(0);
        let added = self.output.iter().map(|output| SwappedIn {
            file: output.file.id(),
            base: output.base,
            size: output.size(),
            max_timestamp: output.max_timestamp,
            first_append: appended().map(|input| input.first_append).min().unwrap_or(zero),
            last_append: appended().map(|input| input.last_append).max().unwrap_or(zero),
        });
        Swap {
            removed: group.iter().map(|input| input.file).collect(),
            added: added.collect(),
            clean: if self.at < self.segments.len() { self.start } else { self.end },
        }
    }

    pub fn is_in_place(&self) -> bool {
        let Some(output) = &self.output else { return false };
        self.partition.published().segments.iter().any(|segment| segment.file == output.file.id())
    }

    /// Unlinks a new segment that no log knows.
    pub fn discard(&mut self, shared: &Shared) {
        if let Some(output) = self.output.take()
            && let Err(error) = shared.files.remove(output.file.id())
        {
            tracing::warn!("segment {} belongs to nobody and was not removed: {error}", output.file.id());
        }
    }
}

/// The records of a batch that was checked; none of a marker of the log itself, nor of a batch that was stored without being
/// looked into and makes no sense. Those stay as they are.
fn readable(header: &BatchHeader, bytes: &Bytes) -> Option<Records> {
    if header.attributes.is_control() {
        return None;
    }
    let records = batch::records_of(bytes, batch::INFLATED_SIZE_MAX).ok()?;
    batch::each_record(&records, |_| ()).ok()?;
    Some(records)
}
