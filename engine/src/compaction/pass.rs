//! The course of a pass, in steps, so that a simulation can let other work happen between any two of them.

use super::map::KeyMap;
use super::rewrite::{Output, WRITE_BYTES};
use super::standing::{Standing, standing};
use crate::ack::Ack;
use crate::batch::{self, BatchHeader, Fate, Records, Retained};
use crate::cell::{Cell, Shared};
use crate::checkpoint::Progress;
use crate::ids::{Epoch, FileId, Offset, PartitionId, TimestampMs};
use crate::partition::Partition;
use crate::segment::files::SegmentFile;
use crate::segment::walk::{HeaderWalk, WalkError};
use crate::settings::Settings;
use crate::wal::entry::{Swap, SwappedIn};
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes read in one step.
const STEP_BYTES: usize = 1 << 20;
/// Segments that become one at most.
const GROUP_MAX: usize = 1_000;
/// After a failure, or when all that it reads was deleted, a partition is left alone for this long, so that others get their turn;
/// twice as long after the next failure ...
const PAUSE_FIRST: Duration = Duration::from_secs(60);
/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

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
enum Trouble {
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
        match error {
            WalkError::Io(error) => error.into(),
            damage => Trouble::Failed(damage),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        if error.kind() == io::ErrorKind::NotFound { Trouble::Gone } else { Trouble::Failed(error.into()) }
    }
}

/// A partition that is being compacted.
struct Pass {
    partition: Arc<Partition>,
    settings: Arc<Settings>,
    epochs: Vec<(Epoch, Offset)>,
    segments: Vec<Input>,
    /// The first record that was not compacted before.
    start: Offset,
    /// Records from here on stay: the map does not know them.
    end: Offset,
    map: KeyMap,
    is_mapped: bool,
    now: TimestampMs,
    began: Duration,
    /// The segment that is being read, and where in it.
    at: usize,
    position: u64,
    offset: Offset,
    /// The first segment of those that become one.
    first: usize,
    output: Option<Output>,
    /// Whether a batch was kept that nobody could look into: it may hold older records of any key, so null values behind it stay.
    has_met_unread: bool,
    /// Whether the new segment differs from what it was made from.
    is_changed: bool,
    /// Records that the new segment lacks, and all new segments of the pass.
    group_dropped: u64,
    records_dropped: u64,
    bytes_before: u64,
    bytes_after: u64,
}

enum Phase {
    Resting,
    /// The keys of what was not compacted are read.
    Mapping(Box<Pass>),
    /// What stays is written.
    Rewriting(Box<Pass>),
    /// A new segment is written; next it is made durable.
    Written(Box<Pass>),
    /// It is durable; next the log is told.
    Durable(Box<Pass>),
    /// The log was told; next it is looked what came of it.
    Told(Box<Pass>, Ack),
}

struct Pause {
    until: Duration,
    length: Duration,
}

/// See the module.
pub struct Compactor {
    cell: Arc<Cell>,
    phase: Phase,
    /// Partitions that failed.
    pauses: HashMap<PartitionId, Pause>,
}

impl Compactor {
    pub fn new(cell: Arc<Cell>) -> Compactor {
        Compactor { cell, phase: Phase::Resting, pauses: HashMap::new() }
    }

    /// Does the next part; looks for a partition when none is at work.
    pub fn step(&mut self) -> Progress {
        let shared = self.cell.shared.clone();
        let stats = &shared.stats;
        let mut waits = false;
        let (pass, next) = match std::mem::replace(&mut self.phase, Phase::Resting) {
            Phase::Resting => {
                let Some(pass) = self.choose() else { return Progress::Rests };
                (None, Ok(Phase::Mapping(Box::new(pass))))
            }
            Phase::Mapping(mut pass) => match pass.map_some(&shared) {
                Ok(true) => (None, Ok(Phase::Rewriting(pass))),
                Ok(false) => (None, Ok(Phase::Mapping(pass))),
                Err(trouble) => (Some(pass), Err(trouble)),
            },
            Phase::Rewriting(mut pass) => match pass.rewrite_some(&shared) {
                Ok(true) if pass.is_useless() => {
                    pass.discard(&shared);
                    (None, Ok(self.go_on(pass)))
                }
                Ok(true) => (None, Ok(Phase::Written(pass))),
                Ok(false) => (None, Ok(Phase::Rewriting(pass))),
                Err(trouble) => (Some(pass), Err(trouble)),
            },
            Phase::Written(mut pass) => match pass.make_durable(&shared) {
                Ok(()) => (None, Ok(Phase::Durable(pass))),
                Err(trouble) => (Some(pass), Err(trouble)),
            },
            Phase::Durable(pass) if !pass.is_wanted() => (Some(pass), Err(Trouble::Changed)),
            Phase::Durable(pass) if pass.gone() > 0 => (Some(pass), Err(Trouble::Gone)),
            Phase::Durable(pass) => {
                let ack = Ack::default();
                use crate::commit::Refused;
                match pass.partition.swap(pass.swap(), &ack) {
                    Ok(true) => (None, Ok(Phase::Told(pass, ack))),
                    Ok(false) => (Some(pass), Err(Trouble::Gone)),
                    Err(Refused::Stopped) => (Some(pass), Err(Trouble::Stopped)),
                    Err(Refused::Busy | Refused::DiskFull) => {
                        waits = true;
                        (None, Ok(Phase::Durable(pass)))
                    }
                }
            }
            Phase::Told(mut pass, ack) => match ack.poll_done() {
                None => {
                    waits = true;
                    (None, Ok(Phase::Told(pass, ack)))
                }
                Some(Ok(())) if pass.is_in_place() => {
                    pass.bytes_after += pass.output.take().map_or(0, |output| output.size());
                    pass.records_dropped += pass.group_dropped;
                    stats.compaction_dropped_records.fetch_add(pass.group_dropped, Ordering::Relaxed);
                    (None, Ok(self.go_on(pass)))
                }
                Some(outcome) => {
                    // The file is the log's to unlink now, or a later start's.
                    pass.output = None;
                    (Some(pass), Err(if outcome.is_ok() { Trouble::Gone } else { Trouble::Stopped }))
                }
            },
        };
        match next {
            Ok(phase) => self.phase = phase,
            Err(trouble) => {
                let Some(mut pass) = pass else { return Progress::Rests };
                pass.discard(&shared);
                if matches!(trouble, Trouble::Gone) && pass.skip_gone() {
                    self.phase = if pass.is_mapped { Phase::Rewriting(pass) } else { Phase::Mapping(pass) };
                    return Progress::More;
                }
                self.note_trouble(&pass, &trouble);
                // Whatever it was, it is not there any more by the next look, or the partition is left alone.
                return Progress::Rests;
            }
        }
        if waits { Progress::Waits } else { Progress::More }
    }

    /// Waits for what the committer has to do first.
    pub fn wait(&self, at_most: Duration) {
        match &self.phase {
            Phase::Told(_, ack) => drop(ack.wait_blocking()),
            _ => self.cell.wait_for_work(at_most),
        }
    }

    /// The partition that is due and has the most to gain.
    fn choose(&mut self) -> Option<Pass> {
        let shared = &self.cell.shared;
        let (now, clock) = (shared.env.clock.wall(), shared.env.clock.monotonic());
        let checkpointed = self.cell.checkpointed();
        self.pauses.retain(|_, pause| clock < pause.until + PAUSE_MAX);
        let (mut best, mut dirtiest): (Option<(f64, Arc<Partition>)>, f64) = (None, 0.0);
        for topic in self.cell.catalogue.topics() {
            let settings = topic.settings();
            if !settings.compacts {
                continue;
            }
            for partition in topic.partitions().iter() {
                let Some(found) = standing(&partition.published(), &settings, now, checkpointed) else { continue };
                dirtiest = dirtiest.max(found.ratio);
                let rests = self.pauses.get(&partition.id()).is_some_and(|pause| clock < pause.until);
                if found.is_due && !rests && best.as_ref().is_none_or(|(ratio, _)| found.ratio > *ratio) {
                    best = Some((found.ratio, partition.clone()));
                }
            }
        }
        shared.stats.dirtiest_permille.store((dirtiest * 1000.0) as u64, Ordering::Relaxed);
        let (_, partition) = best?;
        let settings = partition.settings();
        let published = partition.published();
        let Standing { start, end, segments, .. } = standing(&published, &settings, now, checkpointed)?;
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
            return None;
        }
        let at = inputs.iter().position(|input| input.end > start)?;
        Some(Pass {
            settings,
            epochs,
            start,
            end,
            map: KeyMap::new(&*shared.env.rng, shared.options.compaction_map_bytes_max),
            is_mapped: false,
            now,
            began: clock,
            at,
            position: 0,
            offset: inputs.get(at)?.base,
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
        })
    }

    /// A new segment is in place, or was not needed: on to the next, or the pass is done.
    fn go_on(&mut self, mut pass: Box<Pass>) -> Phase {
        pass.first = pass.at;
        pass.is_changed = false;
        pass.group_dropped = 0;
        if pass.at < pass.segments.len() {
            return Phase::Rewriting(pass);
        }
        let shared = &self.cell.shared;
        let took = shared.env.clock.monotonic().saturating_sub(pass.began);
        let stats = &shared.stats;
        stats.compactions.fetch_add(1, Ordering::Relaxed);
        stats.compaction_us.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.pauses.remove(&pass.partition.id());
        tracing::debug!(
            topic = pass.partition.topic_name(),
            partition = pass.partition.index(),
            end = pass.end.0,
            keys = pass.map.len(),
            records_dropped = pass.records_dropped,
            bytes_before = pass.bytes_before,
            bytes_after = pass.bytes_after,
            ms = took.as_millis() as u64,
            "compacted"
        );
        Phase::Resting
    }

    fn note_trouble(&mut self, pass: &Pass, trouble: &Trouble) {
        let shared = &self.cell.shared;
        let before = self.pauses.get(&pass.partition.id()).map(|pause| pause.length);
        let length = match trouble {
            Trouble::Stopped | Trouble::Changed => return,
            Trouble::Gone => before.unwrap_or(PAUSE_FIRST),
            Trouble::Failed(_) => before.map_or(PAUSE_FIRST, |length| length * 2).min(PAUSE_MAX),
        };
        let until = shared.env.clock.monotonic() + length;
        self.pauses.insert(pass.partition.id(), Pause { until, length });
        let Trouble::Failed(error) = trouble else { return };
        shared.stats.compaction_failures.fetch_add(1, Ordering::Relaxed);
        let place = format!("{} partition {}", pass.partition.topic_name(), pass.partition.index());
        if let WalkError::Corrupt { .. } = error {
            shared.report_damage(&format!("{place}: {error}"));
        }
        tracing::warn!("{place} is not compacted, and will be tried again in {} s: {error}", length.as_secs());
    }
}

impl Pass {
    /// Opens a segment that is read.
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

    /// Whether the topic is still to be compacted, and as it was when the pass began.
    fn is_wanted(&self) -> bool {
        let settings = self.partition.settings();
        let acted_on = |settings: &Settings| (settings.compaction_lag_min_ms, settings.delete_retention_ms);
        settings.compacts && acted_on(&settings) == acted_on(&self.settings)
    }

    /// How many segments, of those not replaced yet, are in the log no more. Deletions begin at the front.
    fn gone(&self) -> usize {
        let published = self.partition.published();
        let start = published.segments.first().map_or(Offset(i64::MAX), |segment| segment.base);
        self.segments.iter().skip(self.first).take_while(|input| input.base < start).count()
    }

    /// Goes on behind segments that are gone. What the map knows of them does no harm: no record that is left lies before. False
    /// when nothing is left, or nothing explains why one is gone.
    fn skip_gone(&mut self) -> bool {
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
    fn map_some(&mut self, shared: &Shared) -> Result<bool, Trouble> {
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
    fn rewrite_some(&mut self, shared: &Shared) -> Result<bool, Trouble> {
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
    fn is_useless(&self) -> bool {
        let ([input], Some(output)) = (self.group(), &self.output) else { return false };
        !self.is_changed && input.end <= self.start && output.size() == input.size
    }

    fn make_durable(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let Some(output) = &self.output else { return Ok(()) };
        shared.files.finish_compacted(&output.file, &Arc::new(output.index.clone()))?;
        Ok(())
    }

    fn swap(&self) -> Swap {
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

    fn is_in_place(&self) -> bool {
        let Some(output) = &self.output else { return false };
        self.partition.published().segments.iter().any(|segment| segment.file == output.file.id())
    }

    /// Unlinks a new segment that no log knows.
    fn discard(&mut self, shared: &Shared) {
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
