//! The course of one checkpoint, in steps, so that a simulation can let rounds happen between any two of them.

use super::{Header, Store};
use crate::cell::Cell;
use crate::commit::{Capture, Fatal};
use crate::ids::FileId;
use crate::wal::scan::Run;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

enum Phase {
    Resting,
    /// The committer was asked for the state after its last published block.
    Asked(Duration),
    /// Segment writes up to that block have returned; next they are made durable.
    Captured(Capture, Duration),
    Synced(Capture, Duration),
    /// The checkpoint is durable; files that it made useless are unlinked.
    Written(Vec<FileId>),
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Step again.
    More,
    /// The committer has to step first.
    Waits,
    /// Nothing is under way.
    Rests,
}

/// Makes checkpoints. One thread owns it.
pub struct Checkpointer {
    cell: Arc<Cell>,
    store: Store,
    phase: Phase,
}

impl Checkpointer {
    pub fn new(cell: Arc<Cell>, store: Store) -> Checkpointer {
        Checkpointer { cell, store, phase: Phase::Resting }
    }

    /// Starts one, unless one is under way or nothing changed. An empty block changes nothing and still holds its slot.
    pub fn begin(&mut self) {
        let is_wanted = !self.cell.dirty.lock().is_empty() || self.cell.is_blocked();
        if matches!(self.phase, Phase::Resting) && is_wanted {
            self.cell.capture_wanted.store(true, Ordering::Release);
            // An idle committer wakes for it; a busy one looks anyway.
            self.cell.shared.queue.nudge();
            self.phase = Phase::Asked(self.cell.shared.env.clock.monotonic());
        }
    }

    /// Does the next part.
    pub fn step(&mut self) -> Result<Progress, Fatal> {
        let cell = self.cell.clone();
        let shared = &cell.shared;
        match std::mem::replace(&mut self.phase, Phase::Resting) {
            Phase::Resting => return Ok(Progress::Rests),
            Phase::Asked(since) => match cell.take_capture() {
                Some(capture) => self.phase = Phase::Captured(capture, since),
                None => {
                    self.phase = Phase::Asked(since);
                    return Ok(Progress::Waits);
                }
            },
            Phase::Captured(capture, since) => {
                let is_last = cell.is_draining();
                for file in shared.files.pieces().files() {
                    let kept = if is_last { file.gather().settle(&file) } else { file.gather().keep(&file) };
                    kept.map_err(|error| Fatal::io("writing a segment", &error))?;
                }
                shared.env.disk.sync_all().map_err(|error| Fatal::io("syncing the segments", &error))?;
                self.phase = Phase::Synced(capture, since);
            }
            Phase::Synced(capture, since) => {
                let header = Header {
                    through: capture.through,
                    crc: capture.crc,
                    place: capture.place,
                    data_id: shared.data_id,
                    epoch: shared.epoch,
                    next_partition: capture.next_partition,
                    next_producer: capture.next_producer,
                    runs: vec![Run { incarnation: shared.incarnation, first: capture.through }],
                    ..Header::default()
                };
                let written = self.store.write(header, capture.changes);
                written.map_err(|error| Fatal::io("writing a checkpoint", &error))?;
                cell.set_checkpointed(capture.through);
                let took = shared.env.clock.monotonic().saturating_sub(since);
                shared.stats.checkpoints.fetch_add(1, Ordering::Relaxed);
                shared.stats.checkpoint_us.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                let garbage = cell.dirty.lock().take_garbage(capture.through);
                self.phase = Phase::Written(garbage);
            }
            Phase::Written(mut garbage) => {
                if let Some(file) = garbage.pop() {
                    let removed = shared.files.remove(file);
                    removed.map_err(|error| Fatal::io("unlinking a segment", &error))?;
                    self.phase = Phase::Written(garbage);
                }
            }
        }
        Ok(if matches!(self.phase, Phase::Resting) { Progress::Rests } else { Progress::More })
    }

    /// Waits for the committer's part.
    pub fn wait(&mut self, at_most: Duration) {
        let Phase::Asked(since) = self.phase else { return };
        if let Some(capture) = self.cell.wait_for_capture(at_most) {
            self.phase = Phase::Captured(capture, since);
        }
    }
}
