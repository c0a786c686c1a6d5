//! Finds a partition that is due and takes a pass over it through its phases.

use super::pass::{Pass, Trouble};
use super::standing::standing;
use crate::ack::Ack;
use crate::cell::Cell;
use crate::checkpoint::Progress;
use crate::ids::PartitionId;
use crate::partition::Partition;
use crate::segment::walk::WalkError;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// After a failure, or when all that it reads was deleted, a partition is left alone for this long, so that others get their turn;
/// twice as long after the next failure ...
const PAUSE_FIRST: Duration = Duration::from_secs(60);
/// ... up to this.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

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
                self.note_trouble(&pass.partition, &trouble);
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

    /// The partition that is due and has the most to gain, of those that there is room for.
    fn choose(&mut self) -> Option<Pass> {
        let shared = self.cell.shared.clone();
        let (now, clock) = (shared.env.clock.wall(), shared.env.clock.monotonic());
        let checkpointed = self.cell.checkpointed();
        self.pauses.retain(|_, pause| clock < pause.until + PAUSE_MAX);
        let (mut due, mut dirtiest) = (Vec::new(), 0.0f64);
        for topic in self.cell.catalogue.topics() {
            let settings = topic.settings();
            if !settings.compacts {
                continue;
            }
            for partition in topic.partitions().iter() {
                let Some(found) = standing(&partition.published(), &settings, now, checkpointed) else { continue };
                dirtiest = dirtiest.max(found.ratio);
                let rests = self.pauses.get(&partition.id()).is_some_and(|pause| clock < pause.until);
                if found.is_due && !rests {
                    due.push((found.ratio, partition.clone()));
                }
            }
        }
        shared.stats.dirtiest_permille.store((dirtiest * 1000.0) as u64, Ordering::Relaxed);
        due.sort_by(|(left, _), (right, _)| right.total_cmp(left));
        due.into_iter().find_map(|(_, partition)| match Pass::begin(&shared, partition.clone(), checkpointed) {
            Ok(pass) => pass,
            Err(trouble) => {
                self.note_trouble(&partition, &trouble);
                None
            }
        })
    }

    /// A new segment is in place, or was not needed: on to the next, or the pass is done.
    fn go_on(&mut self, mut pass: Box<Pass>) -> Phase {
        if pass.next_group() {
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

    fn note_trouble(&mut self, partition: &Partition, trouble: &Trouble) {
        let shared = &self.cell.shared;
        let before = self.pauses.get(&partition.id()).map(|pause| pause.length);
        let length = match trouble {
            Trouble::Stopped | Trouble::Changed => return,
            Trouble::Gone => before.unwrap_or(PAUSE_FIRST),
            Trouble::Failed(_) => before.map_or(PAUSE_FIRST, |length| length * 2).min(PAUSE_MAX),
        };
        let until = shared.env.clock.monotonic() + length;
        self.pauses.insert(partition.id(), Pause { until, length });
        let Trouble::Failed(error) = trouble else { return };
        shared.stats.compaction_failures.fetch_add(1, Ordering::Relaxed);
        let place = format!("{} partition {}", partition.topic_name(), partition.index());
        if let WalkError::Corrupt { .. } = error {
            shared.report_damage(&format!("{place}: {error}"));
        }
        tracing::warn!("{place} is not compacted, and will be tried again in {} s: {error}", length.as_secs());
    }
}
