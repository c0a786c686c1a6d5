//! From the queue to the medium to the readers: one thread, one order.
//!
//! A round takes what was queued, frames it as one WAL block, starts the durable write, writes the batches to their
//! segments meanwhile, and publishes when the block is durable, strictly in sequence. There is no timer: while one round
//! is being written the next one fills.

mod committer;
mod dirty;
mod queue;
mod space;

pub(crate) use committer::{Committer, Resume, Step};
pub(crate) use dirty::{Capture, Changes, DirtySet};
pub(crate) use queue::{Append, Command, Queue, Queued, Refused};
pub(crate) use space::Space;

/// The engine can go on no further: a write or sync of WAL, segment or checkpoint failed, or state contradicts itself. It
/// stops, and recovers when it is started again; no retry may call the data safe.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

impl Fatal {
    pub(crate) fn io(doing: &str, error: &std::io::Error) -> Fatal {
        Fatal(format!("{doing} failed: {error}"))
    }
}
