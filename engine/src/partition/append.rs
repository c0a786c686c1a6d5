//! Where the next batch goes: decided under the partition's short lock, in the order of the committer's queue.

use super::producers::{ProducerTable, Verdict};
use super::{Partition, Published, Retention};
use crate::ack::{Ack, Stopped};
use crate::batch::{BatchHeader, CheckedBatch};
use crate::commit::{Append, Command, Refused};
use crate::ids::{Epoch, FileId, Offset, ProducerId, TimestampMs};
use crate::settings::Durability;
use crate::wal::entry::Swap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is decided, durable or not.
#[derive(Default)]
pub(crate) struct Front {
    next: Offset,
    active: Option<Active>,
    last_append: TimestampMs,
    epoch: Epoch,
    producers: ProducerTable,
    pub is_deleted: bool,
}

#[derive(Clone, Copy)]
struct Active {
    file: FileId,
    position: u64,
    /// When its first batch came; none while it is empty.
    first_append: Option<TimestampMs>,
}

/// A batch that was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// When it was appended, by our clock.
    pub append_time: TimestampMs,
    /// The first offset that is kept.
    pub log_start: Offset,
    /// It repeats a batch that was appended before; `base_offset` is that one's.
    pub repeated: bool,
}

/// Why a batch was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The topic is gone.
    #[error("the topic is deleted")]
    Deleted,
    /// The producer's batches do not follow one another.
    #[error("producer {producer} sent sequence {found} where {expected} comes next")]
    OutOfOrderSequence { producer: ProducerId, expected: i32, found: i32 },
    /// A later incarnation of the producer has taken over.
    #[error("producer {producer} has epoch {current} now, not {found}")]
    StaleProducerEpoch { producer: ProducerId, current: i16, found: i16 },
    /// Free space is down to the reserve that lets the disk be drained.
    #[error("the disk is full")]
    DiskFull,
    /// More is queued than the engine holds at a time.
    #[error("the engine is busy")]
    Busy,
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

/// Why records were not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    /// The offset lies behind the high watermark, or is negative.
    #[error("the offset is out of range")]
    OutOfRange,
    /// The topic is gone.
    #[error("the topic is deleted")]
    Deleted,
    /// More is queued than the engine holds at a time.
    #[error("the engine is busy")]
    Busy,
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

impl From<Refused> for AppendError {
    fn from(refused: Refused) -> AppendError {
        match refused {
            Refused::Busy => AppendError::Busy,
            Refused::DiskFull => AppendError::DiskFull,
            Refused::Stopped => AppendError::Stopped,
        }
    }
}

impl From<Refused> for DeleteRecordsError {
    fn from(refused: Refused) -> DeleteRecordsError {
        match refused {
            Refused::Busy | Refused::DiskFull => DeleteRecordsError::Busy,
            Refused::Stopped => DeleteRecordsError::Stopped,
        }
    }
}

impl From<Stopped> for DeleteRecordsError {
    fn from(_: Stopped) -> DeleteRecordsError {
        DeleteRecordsError::Stopped
    }
}

impl Front {
    pub fn of(published: &Published) -> Front {
        Front {
            next: published.high_watermark,
            active: published.segments.last().map(|segment| Active {
                file: segment.file,
                position: segment.size,
                first_append: (segment.size > 0).then_some(segment.first_append),
            }),
            last_append: published.last_append,
            epoch: published.epoch(),
            producers: published.producers.clone(),
            is_deleted: published.is_deleted,
        }
    }
}

impl Partition {
    /// Queues a batch behind everything queued before; `ack` completes when it is durable. For a repeat of one of a
    /// producer's last batches it completes when that one is durable.
    pub fn append(self: &Arc<Self>, batch: &CheckedBatch, ack: &Ack) -> Result<Appended, AppendError> {
        let shared = &self.shared;
        let header = batch.header();
        let settings = self.settings();
        let now = shared.env.clock.wall();

        let mut front = self.front.lock();
        if front.is_deleted {
            return Err(AppendError::Deleted);
        }
        if header.has_producer() {
            let producer = header.producer_id;
            match front.producers.judge(header) {
                Verdict::Next => {}
                Verdict::Repeat(base_offset) => {
                    shared.queue.push(Command::Barrier, Some(ack))?;
                    let (append_time, log_start) = (front.last_append, self.published.lock().log_start);
                    return Ok(Appended { base_offset, append_time, log_start, repeated: true });
                }
                Verdict::OutOfOrder { expected } => {
                    let found = header.base_sequence;
                    return Err(AppendError::OutOfOrderSequence { producer, expected, found });
                }
                Verdict::StaleEpoch { current } => {
                    let found = header.producer_epoch;
                    return Err(AppendError::StaleProducerEpoch { producer, current, found });
                }
            }
        }

        shared.queue.admit(header.size, self.topic.is_internal(), &shared.space)?;
        let time = now.max(front.last_append);
        let size = header.size as u64;
        let roll_ms = settings.roll_ms();
        let fits = |active: &Active| {
            let is_young = active.first_append.is_none_or(|first| time.0 - first.0 < roll_ms);
            active.first_append.is_none() || (active.position + size <= settings.segment_bytes && is_young)
        };
        let active = match front.active.filter(fits) {
            Some(active) => active,
            None => self.roll(&mut front)?,
        };
        let epoch = front.epoch.max(shared.epoch);
        let base = front.next;
        let placed = BatchHeader { base_offset: base, leader_epoch: epoch, ..*header };
        shared.queue.push(
            Command::Append(Append {
                partition: self.clone(),
                bytes: batch.bytes().clone(),
                header: placed,
                file: active.file,
                position: active.position,
                time,
                sync: settings.durability == Some(Durability::Fsync),
            }),
            Some(ack),
        )?;
        front.epoch = epoch;
        front.next = placed.next_offset();
        front.last_append = time;
        front.active = Some(Active {
            position: active.position + size,
            first_append: active.first_append.or(Some(time)),
            ..active
        });
        front.producers.note(&placed, base, time, shared.options.producers_max);
        drop(front);
        let log_start = self.published.lock().log_start;
        Ok(Appended { base_offset: base, append_time: time, log_start, repeated: false })
    }

    /// Queues a new active segment.
    fn roll(self: &Arc<Self>, front: &mut Front) -> Result<Active, Refused> {
        let file = FileId(self.shared.next_file.fetch_add(1, Ordering::Relaxed));
        self.shared.queue.push(Command::Roll { partition: self.clone(), file, base: front.next }, None)?;
        let active = Active { file, position: 0, first_append: None };
        front.active = Some(active);
        Ok(active)
    }

    /// Deletes the records before an offset, or all. `ack` completes when that is durable. Returns the new log start.
    ///
    /// When none are left, the active segment goes as well: it may be all that there is to drain a full disk.
    pub fn delete_records(self: &Arc<Self>, before: Option<Offset>, ack: &Ack) -> Result<Offset, DeleteRecordsError> {
        let mut front = self.front.lock();
        if front.is_deleted {
            return Err(DeleteRecordsError::Deleted);
        }
        let bounds = self.bounds();
        let offset = before.unwrap_or(bounds.high_watermark);
        if offset.0 < 0 || offset > bounds.high_watermark {
            return Err(DeleteRecordsError::OutOfRange);
        }
        let offset = offset.max(bounds.log_start);
        if offset == front.next && front.active.is_some_and(|active| active.position > 0) {
            self.roll(&mut front)?;
        }
        self.shared.queue.push(Command::LogStart { partition: self.clone(), offset }, Some(ack))?;
        Ok(offset)
    }

    /// Queues what retention decided.
    pub(crate) fn retain(self: &Arc<Self>, retention: &Retention) -> Result<(), Refused> {
        let mut front = self.front.lock();
        if front.is_deleted {
            return Ok(());
        }
        if let Some(file) = retention.rolls {
            // Only when nothing was queued for the old segment meanwhile.
            let is_still = front.active.is_some_and(|active| active.file == file);
            if !is_still || front.next != retention.log_start {
                return Ok(());
            }
            self.roll(&mut front)?;
        }
        let command = Command::LogStart { partition: self.clone(), offset: retention.log_start };
        self.shared.queue.push(command, None)
    }

    /// Queues compacted segments for the place of others. False when the topic is gone.
    pub(crate) fn swap(self: &Arc<Self>, swap: Swap, ack: &Ack) -> Result<bool, Refused> {
        let front = self.front.lock();
        if front.is_deleted {
            return Ok(false);
        }
        let command = Command::Swap { partition: self.clone(), swap: Box::new(swap) };
        self.shared.queue.push(command, Some(ack)).map(|()| true)
    }

    /// Forgets idempotent producers that have been silent for long.
    pub(crate) fn expire_producers(&self, before: TimestampMs) {
        self.front.lock().producers.expire(before);
        self.published.lock().producers.expire(before);
    }
}
