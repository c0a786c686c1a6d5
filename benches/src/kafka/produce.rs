//! Produce load, closed loop: each connection keeps a number of requests in flight.

use super::batch::Batch;
use super::connection::Connection;
use super::error::Error;
use super::process::Usage;
use super::wire::{Reader, Writer};
use super::{PRODUCE, admin};
use crate::latency::{Latencies, Percentiles};
use crate::sys;
use serde::Serialize;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// How much is produced, and in what shape.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker.
    pub address: SocketAddr,
    /// The topic; made when missing.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// -1 (all), 1 or 0.
    pub acks: i16,
    /// Connections, each with a thread.
    pub connections: usize,
    /// Requests in flight on each.
    pub in_flight: usize,
    /// Bytes of a batch, at most.
    pub batch_bytes: usize,
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// Stop after so many value bytes; 0: do not.
    pub total_bytes: u64,
    /// Stop after so long; zero: do not.
    pub duration: Duration,
    /// The server's process, to read its CPU time.
    pub pid: Option<u32>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Produced {
    /// Value bytes acknowledged.
    pub bytes: u64,
    /// Batch bytes acknowledged.
    pub batch_bytes: u64,
    /// Records acknowledged.
    pub records: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Value bytes per second, in MB (10^6).
    pub mb_per_s: f64,
    /// Records per second.
    pub records_per_s: f64,
    /// From sending a request to its answer.
    pub latency: Percentiles,
    /// CPU seconds of the generator.
    pub own_cpu_s: f64,
    /// CPU seconds of the server.
    pub server_cpu_s: Option<f64>,
    /// The same for 10^9 value bytes.
    pub server_cpu_s_per_gb: Option<f64>,
    /// The server at the end.
    pub server: Option<Usage>,
}

/// One request, encoded once; the partition is patched.
pub struct Request {
    frame: Vec<u8>,
    partition_at: usize,
}

impl Request {
    /// A Produce request that carries `batch` to one partition of `topic`.
    #[must_use]
    pub fn new(topic: &str, acks: i16, batch: &Batch) -> Self {
        let mut writer = Writer::request(PRODUCE);
        writer.i16(-1).i16(acks).i32(30_000).count(1).string(topic).count(1);
        let partition_at = writer.bytes.len();
        writer.i32(0).count(batch.bytes.len()).raw(&batch.bytes);
        Self { frame: writer.finish(), partition_at }
    }

    /// Sends it to a partition.
    pub fn send(&mut self, connection: &mut Connection, partition: i32) -> Result<(), Error> {
        self.frame[self.partition_at..self.partition_at + 4].copy_from_slice(&partition.to_be_bytes());
        connection.send(&mut self.frame)
    }
}

/// Checks a Produce answer: one partition, no error, an offset.
pub fn check(mut answer: Reader<'_>) -> Result<(), Error> {
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
        }
    }
    Ok(())
}

struct Shared {
    /// Batches that may still be sent.
    left: AtomicU64,
    /// Set by the first thread that fails, so that the others stop too.
    failed: AtomicBool,
    begin: Barrier,
}

/// Runs it.
pub fn run(plan: &Plan) -> Result<Produced, Error> {
    admin::ensure_topic(&mut Connection::open(plan.address)?, &plan.topic, plan.partitions)?;
    let batch = Batch::filled(plan.record_bytes, plan.batch_bytes);
    let batches = if plan.total_bytes == 0 { u64::MAX } else { plan.total_bytes.div_ceil(batch.value_bytes) };
    let shared = Shared {
        left: AtomicU64::new(batches),
        failed: AtomicBool::new(false),
        begin: Barrier::new(plan.connections + 1),
    };
    let usage = || plan.pid.map(Usage::of).transpose();
    usage()?;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.connections)
            .map(|worker| {
                let (shared, batch) = (&shared, &batch);
                Builder::new().name(format!("produce-{worker}")).spawn_scoped(scope, move || {
                    // Everybody reaches the barrier, also those that could not connect, lest the others wait for ever.
                    let connection = Connection::open(plan.address);
                    shared.begin.wait();
                    let result = connection.and_then(|connection| work(plan, worker, connection, batch, shared));
                    if result.is_err() {
                        shared.failed.store(true, Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect::<Result<_, _>>()?;
        // No early return between here and the barrier: the threads wait at it.
        let (before, own) = (usage(), sys::cpu_seconds());
        shared.begin.wait();
        let begun = Instant::now();
        let (mut latencies, mut acked, mut errors) = (Latencies::new(), 0, Vec::new());
        for worker in workers {
            match worker.join().map_err(|_| Error::Answer("a producing thread panicked".into()))? {
                Ok((count, of_worker)) => {
                    acked += count;
                    latencies.add(&of_worker);
                }
                Err(error) => errors.push(error),
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        if let Some(error) = first_of(errors) {
            return Err(error);
        }
        let (before, after, own) = (before?, usage()?, sys::cpu_seconds() - own);
        let bytes = acked * batch.value_bytes;
        let server_cpu_s = after.zip(before).map(|(after, before)| after.cpu_s() - before.cpu_s());
        Ok(Produced {
            bytes,
            batch_bytes: acked * batch.bytes.len() as u64,
            records: acked * batch.records,
            seconds,
            mb_per_s: bytes as f64 / 1e6 / seconds,
            records_per_s: (acked * batch.records) as f64 / seconds,
            latency: latencies.percentiles(),
            own_cpu_s: own,
            server_cpu_s,
            server_cpu_s_per_gb: server_cpu_s.map(|cpu| cpu * 1e9 / bytes.max(1) as f64),
            server: after,
        })
    })
}

/// The first error, after telling the others on standard error, so that none is hidden.
pub fn first_of(errors: Vec<Error>) -> Option<Error> {
    let mut errors = errors.into_iter();
    let first = errors.next();
    errors.for_each(|error| eprintln!("also: {error}"));
    first
}

fn work(
    plan: &Plan,
    worker: usize,
    mut connection: Connection,
    batch: &Batch,
    shared: &Shared,
) -> Result<(u64, Latencies), Error> {
    let mut request = Request::new(&plan.topic, plan.acks, batch);
    let mut latencies = Latencies::new();
    let mut sent: VecDeque<Instant> = VecDeque::with_capacity(plan.in_flight);
    // Connections start at different partitions and then take turns.
    let mut partition = i32::try_from(worker).unwrap_or(0) % plan.partitions;
    let begun = Instant::now();
    let mut acked = 0;
    let more = || {
        !shared.failed.load(Ordering::Relaxed)
            && (plan.duration.is_zero() || begun.elapsed() < plan.duration)
            && shared.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    };
    let mut going = true;
    while going || !sent.is_empty() {
        while going && sent.len() < plan.in_flight {
            going = more();
            if going {
                sent.push_back(Instant::now());
                request.send(&mut connection, partition)?;
                partition = (partition + 1) % plan.partitions;
                if plan.acks == 0 {
                    connection.expect_no_answer();
                    sent.clear();
                    acked += 1;
                }
            }
        }
        if let Some(at) = sent.pop_front() {
            check(connection.receive()?)?;
            latencies.record(at.elapsed());
            acked += 1;
        }
    }
    if plan.acks == 0 {
        // Nothing is answered without acks; one question at the end waits until everything before it was taken.
        admin::partition_count(&mut connection, &plan.topic)?;
    }
    Ok((acked, latencies))
}
