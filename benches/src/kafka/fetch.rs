//! Fetch load: reads everything that a topic holds, some times over, and checks that it is all there.

use super::FETCH;
use super::admin::{self, End};
use super::batch;
use super::connection::Connection;
use super::error::Error;
use super::process::Usage;
use super::produce::first_of;
use super::wire::Writer;
use crate::latency::{Latencies, Percentiles};
use crate::sys;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread::{self, Builder};
use std::time::Instant;

/// How a topic is read.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker.
    pub address: SocketAddr,
    /// The topic.
    pub topic: String,
    /// Connections, each with a thread and its share of the partitions.
    pub connections: usize,
    /// The most bytes of an answer.
    pub bytes_max: i32,
    /// The most bytes of a partition in an answer.
    pub partition_bytes_max: i32,
    /// How often everything is read.
    pub passes: u32,
    /// Batch bytes that one pass must find, when known.
    pub expect_bytes: Option<u64>,
    /// The server's process, to read its CPU time.
    pub pid: Option<u32>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Fetched {
    /// Batch bytes read in all passes.
    pub batch_bytes: u64,
    /// Records read in all passes.
    pub records: u64,
    /// Requests made.
    pub requests: u64,
    /// How long it took.
    pub seconds: f64,
    /// Batch bytes per second, in MB (10^6).
    pub mb_per_s: f64,
    /// Records per second.
    pub records_per_s: f64,
    /// From sending a request to having its whole answer.
    pub latency: Percentiles,
    /// CPU seconds of the generator.
    pub own_cpu_s: f64,
    /// CPU seconds of the server.
    pub server_cpu_s: Option<f64>,
    /// The same for 10^9 batch bytes.
    pub server_cpu_s_per_gb: Option<f64>,
    /// The server at the end.
    pub server: Option<Usage>,
}

/// A partition and how far it is read.
#[derive(Clone, Copy)]
struct Cursor {
    partition: i32,
    next: i64,
    end: i64,
}

#[derive(Default)]
struct Counts {
    bytes: u64,
    records: u64,
    requests: u64,
    latencies: Latencies,
}

/// Runs it.
pub fn run(plan: &Plan) -> Result<Fetched, Error> {
    let mut connection = Connection::open(plan.address)?;
    let partitions = admin::partition_count(&mut connection, &plan.topic)?;
    let starts = admin::offsets(&mut connection, &plan.topic, partitions, End::Earliest)?;
    let ends = admin::offsets(&mut connection, &plan.topic, partitions, End::Latest)?;
    let cursors: Vec<Cursor> = (0..partitions)
        .zip(starts.iter().zip(&ends))
        .map(|(partition, (&next, &end))| Cursor { partition, next, end })
        .collect();
    let records_a_pass: u64 = cursors.iter().map(|cursor| u64::try_from(cursor.end - cursor.next).unwrap_or(0)).sum();
    let usage = || plan.pid.map(Usage::of).transpose();
    usage()?;
    let begin = Barrier::new(plan.connections + 1);
    let (counts, seconds, before, own) = thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.connections)
            .map(|worker| {
                let mine: Vec<Cursor> = cursors.iter().copied().skip(worker).step_by(plan.connections).collect();
                let begin = &begin;
                Builder::new().name(format!("fetch-{worker}")).spawn_scoped(scope, move || {
                    let connection = Connection::open(plan.address);
                    begin.wait();
                    connection.and_then(|connection| work(plan, connection, &mine))
                })
            })
            .collect::<Result<_, _>>()?;
        // No early return between here and the barrier: the threads wait at it.
        let (before, own) = (usage(), sys::cpu_seconds());
        begin.wait();
        let begun = Instant::now();
        let (mut counts, mut errors) = (Counts::default(), Vec::new());
        for worker in workers {
            match worker.join().map_err(|_| Error::Answer("a fetching thread panicked".into()))? {
                Ok(of_worker) => {
                    counts.bytes += of_worker.bytes;
                    counts.records += of_worker.records;
                    counts.requests += of_worker.requests;
                    counts.latencies.add(&of_worker.latencies);
                }
                Err(error) => errors.push(error),
            }
        }
        match first_of(errors) {
            Some(error) => Err(error),
            None => Ok((counts, begun.elapsed().as_secs_f64(), before?, own)),
        }
    })?;
    let (after, own) = (usage()?, sys::cpu_seconds() - own);
    let passes = u64::from(plan.passes);
    if counts.records != records_a_pass * passes {
        let (found, asked) = (counts.records, records_a_pass * passes);
        return Err(Error::Answer(format!("{found} records were read where offsets promise {asked}")));
    }
    if let Some(expected) = plan.expect_bytes
        && counts.bytes != expected * passes
    {
        return Err(Error::Answer(format!("{} bytes were read, not {}", counts.bytes, expected * passes)));
    }
    let server_cpu_s = after.zip(before).map(|(after, before)| after.cpu_s() - before.cpu_s());
    Ok(Fetched {
        batch_bytes: counts.bytes,
        records: counts.records,
        requests: counts.requests,
        seconds,
        mb_per_s: counts.bytes as f64 / 1e6 / seconds,
        records_per_s: counts.records as f64 / seconds,
        latency: counts.latencies.percentiles(),
        own_cpu_s: own,
        server_cpu_s,
        server_cpu_s_per_gb: server_cpu_s.map(|cpu| cpu * 1e9 / counts.bytes.max(1) as f64),
        server: after,
    })
}

fn work(plan: &Plan, mut connection: Connection, mine: &[Cursor]) -> Result<Counts, Error> {
    let mut counts = Counts::default();
    for _ in 0..plan.passes {
        let mut open: Vec<Cursor> = mine.iter().copied().filter(|cursor| cursor.next < cursor.end).collect();
        while !open.is_empty() {
            let sent = Instant::now();
            connection.send(&mut request(plan, &open))?;
            counts.requests += 1;
            let mut answer = connection.receive()?;
            counts.latencies.record(sent.elapsed());
            answer.i32()?;
            Error::check("Fetch", answer.i16()?, || plan.topic.clone())?;
            answer.i32()?;
            let mut progress = false;
            for _ in 0..answer.count()? {
                answer.string()?;
                for _ in 0..answer.count()? {
                    let partition = answer.i32()?;
                    Error::check("Fetch", answer.i16()?, || format!("{}-{partition}", plan.topic))?;
                    for _ in 0..3 {
                        answer.i64()?; // high watermark, last stable offset, log start offset
                    }
                    for _ in 0..answer.count()? {
                        answer.i64()?;
                        answer.i64()?;
                    }
                    answer.i32()?;
                    let size = answer.count()?;
                    let bytes = answer.raw(size)?;
                    let Some(cursor) = open.iter_mut().find(|cursor| cursor.partition == partition) else {
                        return Err(Error::Answer(format!("Fetch answered partition {partition}, unasked")));
                    };
                    let walked = batch::walk(bytes, cursor.next)?;
                    progress |= walked.next_offset > cursor.next;
                    counts.bytes += walked.bytes;
                    counts.records += walked.records;
                    cursor.next = walked.next_offset;
                }
            }
            if !progress && sent.elapsed().as_millis() > 20_000 {
                return Err(Error::Answer(format!("Fetch gave nothing of {} for 20 s", plan.topic)));
            }
            // Brokers fill an answer in the order of the partitions: each comes first in turn.
            open.retain(|cursor| cursor.next < cursor.end);
            if !open.is_empty() {
                open.rotate_left(1);
            }
        }
    }
    Ok(counts)
}

/// A full fetch without a session.
fn request(plan: &Plan, open: &[Cursor]) -> Vec<u8> {
    let mut request = Writer::request(FETCH);
    request.i32(-1).i32(500).i32(1).i32(plan.bytes_max).i8(0).i32(0).i32(-1);
    request.count(1).string(&plan.topic).count(open.len());
    for cursor in open {
        request.i32(cursor.partition).i32(-1).i64(cursor.next).i64(-1).i32(plan.partition_bytes_max);
    }
    request.count(0).string("");
    request.finish()
}
