//! The committer's round.

use super::{Append, Capture, Command, Fatal, Queued};
use crate::ack::AckPart;
use crate::batch::BatchHeader;
use crate::cell::Cell;
use crate::env::{Completed, WalBytes, WalDevice, WalWrite};
use crate::ids::{FileId, Sequence};
use crate::segment::files::SegmentFile;
use crate::settings::Durability;
use crate::wal::block::{self, BlockHeader, BlockWriter};
use crate::wal::entry::{APPEND_HEAD_SIZE, Entry, FIXED_SIZE_MAX, alter_entry_size, append_head};
use crate::wal::ring::{Place, Ring};
use crossbeam::channel::Receiver;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

/// A round's block is closed when it reaches this; only a larger single batch makes a larger block.
const BLOCK_BYTES: usize = (1 << 20) - 4096;
/// So many batches are written to one segment per call, in two parts each (the kernel's IOV_MAX is 1024).
const BATCHES_MAX: usize = 512;
/// An idle committer says once that its last block was durable, so that damage to that block can be told from a torn
/// write; and it looks at the clock this often.
const IDLE: Duration = Duration::from_millis(50);
/// One that has said so rests until something is queued. This long at most, should a nudge have been missed.
const ASLEEP: Duration = Duration::from_secs(1);

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Worked,
    /// Nothing was queued and nothing is on its way.
    Idle,
    /// A block is ready and the WAL has no place for it until a checkpoint frees some.
    WalFull,
}

/// Where a committer goes on.
pub struct Resume {
    pub next: Sequence,
    pub previous_crc: u32,
    pub ring: Ring,
    pub place: Place,
}

/// A batch that also goes to a segment, or a segment that begins.
struct SegmentWrite {
    file: FileId,
    position: u64,
    /// Its place among what was queued.
    queued: usize,
    /// The first bytes, which are not as they came: they stand in the block. The others are still in the CPU's cache where they came.
    head: Range<usize>,
    is_new: bool,
    gathers: bool,
}

struct Round {
    sequence: Sequence,
    crc: u32,
    queued: Vec<Queued>,
    writes: Vec<SegmentWrite>,
    block: Arc<WalBytes>,
    sync: bool,
    is_durable: bool,
    end: Place,
    started: Duration,
}

/// Owns the WAL's writing end.
pub struct Committer {
    cell: Arc<Cell>,
    receiver: Receiver<Queued>,
    device: Box<dyn WalDevice>,
    ring: Ring,
    /// Taken from the queue, but the block was full.
    carry: Option<Queued>,
    /// A block that waits for a place.
    built: Option<Round>,
    in_flight: VecDeque<Round>,
    next: Sequence,
    previous_crc: u32,
    published: Sequence,
    published_crc: u32,
    published_end: Place,
    durable_through: Sequence,
    /// Whether the last block was an empty one that says so.
    is_sealed: bool,
    completed: Vec<Completed>,
    wake: Vec<Waker>,
    scratch: Vec<u8>,
}

impl Committer {
    pub fn new(cell: Arc<Cell>, receiver: Receiver<Queued>, device: Box<dyn WalDevice>, resume: Resume) -> Committer {
        let published = Sequence(resume.next.0 - 1);
        cell.note_published(published);
        Committer {
            cell,
            receiver,
            device,
            ring: resume.ring,
            carry: None,
            built: None,
            in_flight: VecDeque::new(),
            next: resume.next,
            previous_crc: resume.previous_crc,
            published,
            published_crc: resume.previous_crc,
            published_end: resume.place,
            durable_through: published,
            is_sealed: true,
            completed: Vec::new(),
            wake: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Runs until the engine closes or fails. What is then still on its way was not acknowledged and fails.
    pub fn run(mut self) {
        self.cell.shared.queue.taken_here();
        while !self.cell.is_closing() {
            match self.step() {
                Ok(Step::Worked) => {}
                Ok(Step::Idle) => {
                    if let Err(fatal) = self.rest() {
                        return self.cell.fail(&fatal);
                    }
                }
                // Only the background can help; a producer that comes meanwhile fills the queue and is then refused.
                Ok(Step::WalFull) => self.cell.wait_for_recycling(IDLE),
                Err(fatal) => return self.cell.fail(&fatal),
            }
        }
    }

    /// Waits for the next command. When none comes for a while, says that all is durable.
    fn rest(&mut self) -> Result<(), Fatal> {
        let has_sealed = self.is_sealed && self.durable_through == self.published;
        let rest = if has_sealed { ASLEEP } else { IDLE };
        let begun = self.cell.shared.env.clock.monotonic();
        if self.receiver.is_empty() && !self.cell.is_closing() {
            std::thread::park_timeout(rest);
        }
        if let Ok(queued) = self.receiver.try_recv() {
            self.take(queued);
            return Ok(());
        }
        // Else woken by something that was taken before it rested, or to end. (A simulated clock that stands still never seals.)
        let is_over = self.cell.shared.env.clock.monotonic().saturating_sub(begun) >= rest;
        if is_over { self.seal() } else { Ok(()) }
    }

    /// Writes an empty block whose header says that the last one was durable, unless one says so already.
    pub fn seal(&mut self) -> Result<(), Fatal> {
        let is_idle = self.in_flight.is_empty() && self.built.is_none() && self.carry.is_none();
        if is_idle && !self.is_sealed && self.durable_through == self.published {
            self.built = Some(self.build(Vec::new()));
        }
        Ok(())
    }

    fn take(&mut self, queued: Queued) {
        self.cell.shared.queue.took(&queued.command);
        self.carry = Some(queued);
    }

    /// One step: starts a round when something is queued, takes in what completed, publishes.
    pub fn step(&mut self) -> Result<Step, Fatal> {
        self.answer_capture();
        let mut step = Step::Idle;
        if self.in_flight.len() < self.device.depth() {
            if self.built.is_none() {
                self.built = self.gather();
            }
            if let Some(round) = self.built.take() {
                match self.start(round)? {
                    None => step = Step::Worked,
                    Some(round) => {
                        self.built = Some(round);
                        step = Step::WalFull;
                    }
                }
            }
        }
        if !self.in_flight.is_empty() {
            // Start another round before waiting, when there is one to start.
            let more = (self.carry.is_some() || !self.receiver.is_empty()) && step != Step::WalFull;
            let wait = !(more && self.in_flight.len() < self.device.depth());
            self.reap(wait)?;
            step = Step::Worked;
        }
        self.answer_capture();
        Ok(step)
    }

    /// Takes what is queued, up to a block's worth. Barriers alone make no block.
    fn gather(&mut self) -> Option<Round> {
        let mut queued = Vec::new();
        let mut size = block::HEADER_SIZE;
        let mut has_entries = false;
        loop {
            if self.carry.is_none() {
                let Ok(next) = self.receiver.try_recv() else { break };
                self.take(next);
            }
            let Some(next) = &self.carry else { break };
            let entry_size = encoded_size_max(&next.command);
            if has_entries && size + entry_size > BLOCK_BYTES {
                break;
            }
            size += entry_size;
            has_entries |= !matches!(next.command, Command::Barrier);
            queued.extend(self.carry.take());
        }
        if has_entries {
            return Some(self.build(queued));
        }
        // What the barriers stand behind is published when the last round in flight is, or already.
        match self.in_flight.back_mut() {
            Some(round) => round.queued.append(&mut queued),
            None => queued.into_iter().filter_map(|queued| queued.ack).for_each(AckPart::complete),
        }
        None
    }

    fn build(&mut self, queued: Vec<Queued>) -> Round {
        let gathers = self.device.gathers();
        let needed: usize = queued.iter().map(|queued| size_in_buffer_max(&queued.command, gathers)).sum();
        let now = self.cell.shared.env.clock.monotonic();
        // Room for padding too, which depends on what is apart from the buffer.
        let buffer =
            self.device.buffer((block::HEADER_SIZE + needed).next_multiple_of(4096) + if gathers { 4096 } else { 0 });
        let mut block = BlockWriter::new(buffer, gathers);
        let mut writes = Vec::with_capacity(queued.len());
        let mut entry_count = 0;
        let mut sync = self.cell.shared.options.durability == Durability::Fsync || queued.is_empty();
        for (number, next) in queued.iter().enumerate() {
            let entry = match &next.command {
                Command::Barrier => continue,
                Command::Append(append) => {
                    let head = put_append(&mut block, append);
                    let gathers = !append.partition.is_read(now);
                    sync = sync || append.sync;
                    writes.push(SegmentWrite {
                        file: append.file,
                        position: append.position,
                        queued: number,
                        head,
                        is_new: false,
                        gathers,
                    });
                    entry_count += 1;
                    continue;
                }
                Command::Roll { partition, file, base } => {
                    let (file, head) = (*file, 0..0);
                    writes.push(SegmentWrite { file, position: 0, queued: number, head, is_new: true, gathers: false });
                    Entry::Roll { partition: partition.id(), file, base: *base }
                }
                Command::LogStart { partition, offset } => {
                    sync = true;
                    Entry::LogStart { partition: partition.id(), offset: *offset }
                }
                Command::CreateTopic { record, .. } => {
                    sync = true;
                    Entry::CreateTopic(record.clone())
                }
                Command::AddPartitions { topic, added, first, epoch } => {
                    sync = true;
                    let count = u32::try_from(added.len()).unwrap_or(u32::MAX);
                    Entry::AddPartitions { topic: topic.id(), first: *first, count, epoch: *epoch }
                }
                Command::DeleteTopic { topic } => {
                    sync = true;
                    Entry::DeleteTopic { topic: topic.id() }
                }
                Command::ProducerIds { next } => {
                    sync = true;
                    Entry::ProducerIds { next: *next }
                }
                Command::AlterTopic { topic, settings } => {
                    sync = true;
                    Entry::AlterTopic { topic: topic.id(), settings: settings.overrides().clone() }
                }
                // Nobody was told of it, and the files that it names are durable: in mode `os` it may get lost.
                Command::Swap { partition, swap } => Entry::Swap { partition: partition.id(), swap: (**swap).clone() },
            };
            self.scratch.clear();
            entry.encode(&mut self.scratch);
            block.put(&self.scratch);
            entry_count += 1;
        }
        let header = BlockHeader {
            crc: 0,
            body_size: 0,
            entry_count,
            incarnation: self.cell.shared.incarnation,
            sequence: self.next,
            durable_through: self.durable_through,
            previous_crc: self.previous_crc,
        };
        self.is_sealed = queued.is_empty();
        if sync && !writes.is_empty() {
            self.cell.shared.loads.note_append(now);
        }
        let (block, crc) = block.finish(header);
        Round {
            sequence: self.next,
            crc,
            queued,
            writes,
            block: Arc::new(block),
            sync,
            is_durable: false,
            end: Place::default(),
            started: now,
        }
    }

    /// Finds the round a place, starts its durable write and writes its batches to their segments. Gives it back when
    /// the WAL is full.
    fn start(&mut self, mut round: Round) -> Result<Option<Round>, Fatal> {
        let size = round.block.len() as u64;
        for slot in self.cell.take_new_slots() {
            self.ring.add(&mut *self.device, &slot).map_err(|error| Fatal::io("opening a WAL slot", &error))?;
        }
        let checkpointed = self.cell.checkpointed();
        let Some((file, place)) = self.ring.place(size, round.sequence, checkpointed) else {
            self.cell.want_slot(size, self.published);
            return Ok(Some(round));
        };
        self.cell.note_placed();
        let (total, used) = self.ring.usage(checkpointed);
        self.cell.note_wal_usage(total, used);
        round.end = Place { slot: place.slot, position: place.position + size };
        let write = WalWrite {
            file,
            position: place.position,
            block: round.block.clone(),
            sync: round.sync,
            tag: round.sequence.0,
        };
        self.device.submit(write).map_err(|error| Fatal::io("writing the WAL", &error))?;
        self.cell.note_written(size);
        self.next = Sequence(self.next.0 + 1);
        self.previous_crc = round.crc;
        self.write_segments(&mut round)?;
        self.in_flight.push_back(round);
        Ok(None)
    }

    fn write_segments(&mut self, round: &mut Round) -> Result<(), Fatal> {
        let mut writes = std::mem::take(&mut round.writes);
        // Stable: writes to one file stay in order, a new file's creation first.
        writes.sort_by_key(|write| (write.file, write.position, !write.is_new));
        let files = &self.cell.shared.files;
        let block = round.block.buffer().as_slice();
        let mut rest = &writes[..];
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|write| write.file == first.file).count();
            let (mut run, others) = rest.split_at(count);
            rest = others;
            let opened = if first.is_new { files.create(first.file) } else { files.get(first.file) };
            let file = opened.map_err(|error| Fatal::io("opening a segment", &error))?;
            if first.is_new {
                run = &run[1..];
            }
            for batches in run.chunks(BATCHES_MAX) {
                let Some(first) = batches.first() else { continue };
                let mut parts = Vec::with_capacity(2 * batches.len());
                for write in batches {
                    let Some(Command::Append(append)) = round.queued.get(write.queued).map(|queued| &queued.command)
                    else {
                        return Err(Fatal("a write to a segment without its batch".to_owned()));
                    };
                    let rest = append.bytes.get(write.head.len()..).unwrap_or_default();
                    parts.extend([IoSlice::new(&block[write.head.clone()]), IoSlice::new(rest)]);
                }
                let end = first.position + parts.iter().map(|part| part.len() as u64).sum::<u64>();
                file.own(first.position);
                file.reserve(end, &self.cell.shared.space);
                let appended = files.append(&file, &parts, first.position, first.gathers);
                if appended.map_err(|error| Fatal::io("writing a segment", &error))? {
                    self.pace(&file, end);
                }
            }
        }
        Ok(())
    }

    /// Asks the background to start write-back once a file has gathered enough dirty bytes.
    fn pace(&self, file: &Arc<SegmentFile>, end: u64) {
        if let Some(range) = file.take_dirty_range(end) {
            self.cell.write_back(file, range);
        }
    }

    /// Takes in completions, then publishes the rounds that are durable with all before them.
    fn reap(&mut self, wait: bool) -> Result<(), Fatal> {
        let mut completed = std::mem::take(&mut self.completed);
        self.device.reap(wait, &mut completed).map_err(|error| Fatal::io("writing the WAL", &error))?;
        for Completed { tag, result } in completed.drain(..) {
            result.map_err(|error| Fatal::io("writing the WAL", &error))?;
            let round = self.in_flight.iter_mut().find(|round| round.sequence.0 == tag);
            round
                .ok_or_else(|| Fatal(format!("the WAL device completed block {tag}, which is not in flight")))?
                .is_durable = true;
        }
        self.completed = completed;
        while self.in_flight.front().is_some_and(|round| round.is_durable) {
            let Some(round) = self.in_flight.pop_front() else { break };
            self.publish(round)?;
        }
        Ok(())
    }

    fn publish(&mut self, round: Round) -> Result<(), Fatal> {
        let cell = &self.cell;
        let mut acks = Vec::with_capacity(round.queued.len());
        let mut batches = 0;
        for Queued { command, ack } in round.queued {
            batches += u64::from(matches!(command, Command::Append(_)));
            cell.apply(command, round.sequence, &mut self.wake)?;
            acks.extend(ack);
        }
        self.published = round.sequence;
        self.cell.note_published(round.sequence);
        self.published_crc = round.crc;
        self.published_end = round.end;
        if round.sync {
            // With it, the device made every block before it durable.
            self.durable_through = round.sequence;
        }
        let took = cell.shared.env.clock.monotonic().saturating_sub(round.started);
        cell.shared.stats.round(took, round.block.len() as u64, batches);
        self.wake.extend(acks.into_iter().filter_map(AckPart::done));
        cell.shared.wakers.wake(&mut self.wake);
        Ok(())
    }

    /// Captures the state for a checkpoint, when one was asked for: exactly that after the last published block.
    fn answer_capture(&mut self) {
        if !self.cell.capture_wanted.load(Ordering::Acquire) {
            return;
        }
        let mut dirty = self.cell.dirty.lock();
        let capture = Capture {
            through: self.published,
            crc: self.published_crc,
            place: self.published_end,
            changes: dirty.capture(),
            next_partition: dirty.next_partition,
            next_producer: dirty.next_producer,
        };
        drop(dirty);
        self.cell.give_capture(capture);
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.cell.shared.queue.close();
    }
}

/// What a command takes of a block at most. A barrier takes nothing, but of those too a round shall have a bounded number.
fn encoded_size_max(command: &Command) -> usize {
    match command {
        Command::Append(append) => APPEND_HEAD_SIZE + append.bytes.len(),
        Command::CreateTopic { record, .. } => record.entry_size(),
        Command::AlterTopic { settings, .. } => alter_entry_size(settings.overrides()),
        Command::Swap { swap, .. } => swap.entry_size(),
        Command::Roll { .. }
        | Command::LogStart { .. }
        | Command::AddPartitions { .. }
        | Command::DeleteTopic { .. }
        | Command::ProducerIds { .. }
        | Command::Barrier => FIXED_SIZE_MAX,
    }
}

/// What of that goes into the block's buffer.
fn size_in_buffer_max(command: &Command, gathers: bool) -> usize {
    let Command::Append(append) = command else { return encoded_size_max(command) };
    let covered = append.bytes.len().saturating_sub(BatchHeader::ATTRIBUTES_AT);
    encoded_size_max(command) - covered + BlockWriter::size_in_buffer(covered, gathers)
}

/// Gives the place of the batch's first bytes, which are not as they came.
fn put_append(block: &mut BlockWriter, append: &Append) -> Range<usize> {
    let Append { partition, bytes, header, file, position, time, sync: _ } = append;
    block.put(&append_head(partition.id(), *file, *position, *time, bytes.len()));
    let start = block.len();
    let patched = header.patch(header.base_offset, header.leader_epoch);
    // What the batch's own CRC covers was compared with it when the batch was checked.
    let covered = bytes.slice(BatchHeader::ATTRIBUTES_AT.min(bytes.len())..);
    let head = &bytes[..bytes.len() - covered.len()];
    block.put(&patched);
    block.put(head.get(patched.len()..).unwrap_or_default());
    block.put_known(covered, header.crc);
    start..start + patched.len()
}
