//! The Produce request, encoded once, and a look at its answer.

use super::PRODUCE;
use super::batch::{self, Batch};
use super::error::Error;
use super::wire::{Reader, Source, Writer};

/// One request, encoded once; partitions are patched in, and times when they are wanted.
pub struct Request {
    frame: Vec<u8>,
    /// Where the number of each partition stands; its batch follows 8 bytes later.
    partitions_at: Vec<usize>,
    batch_len: usize,
}

impl Request {
    /// A Produce request that carries `batch` to so many partitions of `topic`.
    #[must_use]
    pub fn new(topic: &str, acks: i16, batch: &Batch, partitions: usize) -> Self {
        let mut writer = Writer::request(PRODUCE);
        writer.i16(-1).i16(acks).i32(30_000).count(1).string(topic).count(partitions);
        let mut partitions_at = Vec::with_capacity(partitions);
        for _ in 0..partitions {
            partitions_at.push(writer.bytes.len());
            writer.i32(0).count(batch.bytes.len()).raw(&batch.bytes);
        }
        Self { frame: writer.finish(), partitions_at, batch_len: batch.bytes.len() }
    }

    /// Sends the batch at a place to that partition. A request must not name a partition twice.
    pub fn aim(&mut self, place: usize, partition: i32) {
        let at = self.partitions_at[place];
        self.frame[at..at + 4].copy_from_slice(&partition.to_be_bytes());
    }

    /// Gives all batches a new time.
    pub fn stamp(&mut self, now_ms: i64) {
        for at in &self.partitions_at {
            batch::stamp(&mut self.frame[at + 8..at + 8 + self.batch_len], now_ms);
        }
    }

    /// Its bytes; the correlation id at 8 is the sender's.
    pub fn frame(&mut self) -> &mut [u8] {
        &mut self.frame
    }

    /// How many partitions it goes to.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions_at.len()
    }
}

/// A Produce request with a batch for each of some partitions, with times of their own or that one.
#[must_use]
pub fn joined(topic: &str, acks: i16, batches: &[(i32, &Batch)], now_ms: Option<i64>) -> Vec<u8> {
    let mut writer = Writer::request(PRODUCE);
    writer.bytes.reserve(64 + topic.len() + batches.iter().map(|(_, batch)| batch.bytes.len() + 8).sum::<usize>());
    writer.i16(-1).i16(acks).i32(30_000).count(1).string(topic).count(batches.len());
    for (partition, batch) in batches {
        writer.i32(*partition).count(batch.bytes.len());
        let at = writer.bytes.len();
        writer.raw(&batch.bytes);
        if let Some(now_ms) = now_ms {
            batch::stamp(&mut writer.bytes[at..], now_ms);
        }
    }
    writer.finish()
}

/// Checks a Produce answer, that no partition has an error and each an offset, and returns how many there are.
pub fn check(mut answer: Reader<'_>) -> Result<usize, Error> {
    let mut partitions = 0;
    for _ in 0..answer.count()? {
        let topic = answer.string()?.unwrap_or_default();
        for _ in 0..answer.count()? {
            let partition = answer.i32()?;
            let code = answer.i16()?;
            let offset = answer.i64()?;
            answer.i64()?;
            answer.i64()?;
            for _ in 0..answer.count()? {
                answer.i32()?;
                answer.string()?;
            }
            let message = answer.string()?.unwrap_or_default();
            Error::check("Produce", code, || format!("{topic}-{partition} {message}"))?;
            if offset < 0 {
                return Err(Error::Answer(format!("{topic}-{partition} was acknowledged at offset {offset}")));
            }
            partitions += 1;
        }
    }
    Ok(partitions)
}
