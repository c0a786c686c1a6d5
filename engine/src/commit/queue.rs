//! What waits for the committer. Bounded in number and bytes: over the bound the caller is refused, nobody blocks.

use super::Space;
use crate::ack::{Ack, AckPart};
use crate::batch::BatchHeader;
use crate::ids::{Epoch, FileId, Offset, PartitionId, TimestampMs};
use crate::partition::Partition;
use crate::settings::Settings;
use crate::topic::Topic;
use crate::wal::entry::{Swap, TopicRecord};
use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

/// A batch on its way.
pub struct Append {
    pub partition: Arc<Partition>,
    /// As it was checked; base offset and epoch in it are the producer's.
    pub bytes: Bytes,
    /// With base offset and epoch as decided.
    pub header: BatchHeader,
    pub file: FileId,
    pub position: u64,
    pub time: TimestampMs,
    /// Its topic wanted it on the medium, whatever the server's default, when it was queued.
    pub sync: bool,
}

/// What the committer is asked to do.
pub enum Command {
    Append(Append),
    Roll {
        partition: Arc<Partition>,
        file: FileId,
        base: Offset,
    },
    LogStart {
        partition: Arc<Partition>,
        offset: Offset,
    },
    CreateTopic {
        topic: Arc<Topic>,
        record: TopicRecord,
    },
    AddPartitions {
        topic: Arc<Topic>,
        added: Vec<Arc<Partition>>,
        first: PartitionId,
        epoch: Epoch,
    },
    DeleteTopic {
        topic: Arc<Topic>,
    },
    ProducerIds {
        next: i64,
    },
    AlterTopic {
        topic: Arc<Topic>,
        settings: Arc<Settings>,
    },
    Swap {
        partition: Arc<Partition>,
        swap: Box<Swap>,
    },
    /// Nothing; its ack completes when everything queued before it is durable.
    Barrier,
}

/// A command and who waits for it.
pub struct Queued {
    pub command: Command,
    pub ack: Option<AckPart>,
}

/// Why nothing was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Busy,
    DiskFull,
    Stopped,
}

/// The sending side.
pub struct Queue {
    sender: Sender<Queued>,
    /// The other end, to be emptied when the committer is gone: the channel itself would keep what is in it, and whoever
    /// waits for it would wait for ever.
    rest: Receiver<Queued>,
    /// Who takes commands, and may be asleep.
    taker: OnceLock<Thread>,
    is_closed: AtomicBool,
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Queue {
    pub fn new(commands_max: usize, bytes_max: usize) -> (Queue, Receiver<Queued>) {
        let (sender, receiver) = bounded(commands_max);
        let (rest, is_closed) = (receiver.clone(), AtomicBool::new(false));
        (Queue { sender, rest, taker: OnceLock::new(), is_closed, bytes: AtomicUsize::new(0), bytes_max }, receiver)
    }

    /// Whether a batch of `size` bytes may be queued now; `is_internal` says that it is for one of the server's own topics.
    pub fn admit(&self, size: usize, is_internal: bool, space: &Space) -> Result<(), Refused> {
        if self.bytes.load(Ordering::Relaxed) > self.bytes_max {
            return Err(Refused::Busy);
        }
        let is_admitted = if is_internal { space.admit_internal(size as u64) } else { space.admit(size as u64) };
        if is_admitted {
            return Ok(());
        }
        space.note_refused(size as u64);
        Err(Refused::DiskFull)
    }

    /// From now on this thread is woken by whatever is queued: it looks for commands, then parks.
    ///
    /// The channel could wait too, but yields the processor first: a thread that works beside on the same one then has a whole turn before a command
    /// that comes meanwhile is seen.
    pub fn taken_here(&self) {
        // The only committer there is.
        let _ = self.taker.set(std::thread::current());
    }

    /// Has a committer that rests look around. One whose queue is full does not rest.
    pub fn nudge(&self) {
        let _is_full_or_gone = self.push(Command::Barrier, None);
    }

    /// Queues a command behind all others.
    pub fn push(&self, command: Command, ack: Option<&Ack>) -> Result<(), Refused> {
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Refused::Stopped);
        }
        let size = size_of(&command);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        // The part is registered only when the command was taken: a refused one leaves no trace in the ack.
        let part = ack.map(Ack::part);
        self.sender.try_send(Queued { command, ack: part }).map_err(|error| {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            let (refused, mut queued) = match error {
                TrySendError::Full(queued) => (Refused::Busy, queued),
                TrySendError::Disconnected(queued) => (Refused::Stopped, queued),
            };
            if let Some(part) = queued.ack.take() {
                part.withdraw();
            }
            refused
        })?;
        if let Some(taker) = self.taker.get() {
            taker.unpark();
        }
        // Closed meanwhile: either side may have missed the other's command, so both look again.
        if self.is_closed.load(Ordering::SeqCst) {
            self.drop_rest();
        }
        Ok(())
    }

    /// Nobody takes commands any more: drops those that wait, which tells whoever waits for them, and refuses others.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.drop_rest();
    }

    fn drop_rest(&self) {
        while let Ok(queued) = self.rest.try_recv() {
            self.took(&queued.command);
        }
    }

    /// The committer took a command.
    pub fn took(&self, command: &Command) {
        self.bytes.fetch_sub(size_of(command), Ordering::Relaxed);
    }

    /// Commands that wait.
    pub fn len(&self) -> usize {
        self.sender.len()
    }

    /// Bytes of batches that wait.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn size_of(command: &Command) -> usize {
    match command {
        Command::Append(append) => append.bytes.len(),
        _ => 0,
    }
}
