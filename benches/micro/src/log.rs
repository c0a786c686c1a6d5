//! The engine: append, commit round, look-up.
//!
//! It is on a real folder, in memory unless `--dir` says otherwise, and moved by hand: one thread does what the committer's,
//! the background's and the socket's threads do in a server.

use crate::batches::{NOW, batch};
use crate::harness::{Harness, Step};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use headwater_engine::batch::{CheckedBatch, Codec, Rules, check};
use headwater_engine::env::Env;
use headwater_engine::{Drive, Engine, NewTopic, Offset, Options, Partition, Read, ReadRequest, Topic};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// An engine that moves when it is told to.
pub struct Log {
    pub engine: Engine,
    drive: Drive,
    /// Appended since it was last tidied up.
    batches: Vec<Arc<Partition>>,
    next: usize,
    _folder: TempDir,
}

impl Log {
    pub fn open(dir: &Path) -> Result<Log> {
        let folder = TempDir::with_prefix_in("headwater-micro-", dir)?;
        let options = Options {
            wal_size_initial: 256 << 20,
            wal_size_max: 256 << 20,
            disk_reserve_bytes: 0,
            ..Options::new(folder.path().to_owned())
        };
        let engine = Engine::open(Env::real(folder.path())?, options)?;
        let drive = engine.drive().context("a new engine has not been started")?;
        Ok(Log { engine, drive, batches: Vec::new(), next: 0, _folder: folder })
    }

    /// A topic whose old records go when there are many.
    pub fn topic(&mut self, name: &str, partitions: u32) -> Result<Arc<Topic>> {
        // The records' own time is long ago: only their size makes them go.
        let settings = [("segment.bytes", "33554432"), ("retention.bytes", "33554432"), ("retention.ms", "-1")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut pending = self.engine.create_topic(NewTopic { name: name.to_owned(), partitions, settings });
        self.commit()?;
        pending.take_done().context("the topic's creation is not durable")??.map_err(Into::into)
    }

    /// Commits everything queued.
    pub fn commit(&mut self) -> Result<()> {
        while self.drive.commit()? {}
        Ok(())
    }

    /// A checkpoint, and room for more.
    pub fn settle(&mut self) -> Result<()> {
        self.drive.settle()?;
        self.drive.retain();
        Ok(self.drive.settle()?)
    }

    /// Appends to the next partition.
    fn append(&mut self, batch: &CheckedBatch) -> Result<()> {
        let ack = self.engine.ack();
        let partition = self.batches.get(self.next % self.batches.len()).context("a partition")?;
        black_box(partition.append(batch, &ack)?);
        self.next += 1;
        Ok(())
    }
}

fn checked(bytes: Bytes) -> Result<CheckedBatch> {
    Ok(check(bytes, &Rules::new(NOW))?)
}

pub fn run(harness: &mut Harness, dir: &Path) -> Result<()> {
    let mut log = Log::open(dir)?;
    log.batches = log.topic("appended", 100)?.partitions().to_vec();
    let small = checked(batch(1 << 10, 1 << 10, Codec::None)?)?;
    let large = checked(batch(64 << 10, 1 << 10, Codec::None)?)?;
    for (name, batch, runs_max) in [
        ("log: append, one record of 1 KiB, 100 partitions in turn", &small, 10_000),
        ("log: append, 64 KiB of records", &large, 500),
    ] {
        let step = Step { name, bytes: batch.bytes().len(), runs_max };
        // Only what an append itself does is counted; the rounds that make room for more are not.
        harness.step(
            step,
            &mut log,
            |log| log.append(batch),
            |log| {
                log.commit()?;
                log.settle()
            },
        )?;
    }
    for (name, batch, count) in [
        ("log: round of one record of 1 KiB, appended and committed", &small, 1),
        ("log: round of 100 records of 1 KiB in 100 partitions", &small, 100),
        ("log: round of 16 batches of 64 KiB", &large, 16),
    ] {
        let bytes = count * batch.bytes().len();
        let step = Step { name, bytes, runs_max: (32 << 20) / bytes as u64 };
        let run = |log: &mut Log| {
            (0..count).try_for_each(|_| log.append(batch))?;
            log.commit()
        };
        harness.step(step, &mut log, run, Log::settle)?;
    }
    lookups(harness, &mut log)
}

fn lookups(harness: &mut Harness, log: &mut Log) -> Result<()> {
    const BATCHES: i64 = 3_000;
    let batch = checked(batch(16 << 10, 1 << 10, Codec::None)?)?;
    let records = i64::from(batch.header().record_count);
    // 48 MB: one sealed segment and the one that is written to.
    log.batches = log.topic("read", 1)?.partitions().to_vec();
    let partition = log.batches.first().context("a partition")?.clone();
    for number in 0..BATCHES {
        log.append(&batch)?;
        if number % 500 == 499 {
            log.commit()?;
        }
    }
    log.settle()?;
    let end = partition.bounds().high_watermark.0;
    let start = partition.bounds().log_start.0;
    anyhow::ensure!(end == records * BATCHES && end - start > records * BATCHES / 2);
    let read = |from: i64, bytes_max: usize| -> Result<()> {
        let request = ReadRequest { from: Offset(from), bytes_max, at_least_one: true, stable_only: false };
        let batches = match partition.read(&request)? {
            Read::Ready(batches) => batches,
            // For the first time only: its segment was not open yet.
            Read::Cold(cold) => cold.read()?,
        };
        if batches.range.is_none() {
            bail!("nothing at {from}")
        }
        black_box(batches);
        Ok(())
    };
    let mut next = 0;
    harness.plain("log: read of one batch at any offset", 0, || {
        // A step that comes to every offset, in no order that a cache of recent reads knows.
        next = (next + 7_919) % (end - start);
        read(start + next, 1)
    })?;
    harness.plain("log: read of 1 MiB at any offset", 0, || {
        next = (next + 7_919) % (end - start);
        read(start + next, 1 << 20)
    })?;
    let mut tail = start;
    harness.plain("log: read of the next batch, one after the other", 0, || {
        tail = if tail + 2 * records >= end { start } else { tail + records };
        read(tail, 1)
    })
}
