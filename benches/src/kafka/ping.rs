//! Latency of single-record produces, closed loop or on a fixed schedule.

use super::admin;
use super::batch::Batch;
use super::connection::Connection;
use super::error::Error;
use super::process::Usage;
use super::produce::{Request, check, first_of};
use crate::latency::{Latencies, Percentiles};
use crate::sys;
use serde::Serialize;
use std::net::SocketAddr;
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// Who pings, how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The broker.
    pub address: SocketAddr,
    /// The topic; made when missing.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// -1 (all) or 1.
    pub acks: i16,
    /// Connections, each with a thread and one request in flight.
    pub connections: usize,
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// Pings of each connection.
    pub count: u32,
    /// Pings per second over all connections; 0: one after the other. On a schedule, latency counts from the moment at which
    /// a ping was due, so that a stall counts against the server.
    pub rate: f64,
    /// The server's process.
    pub pid: Option<u32>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Pinged {
    /// Records acknowledged.
    pub records: u64,
    /// How long it took.
    pub seconds: f64,
    /// Records per second.
    pub records_per_s: f64,
    /// From sending (or from when it was due) to the answer.
    pub latency: Percentiles,
    /// CPU seconds of the generator.
    pub own_cpu_s: f64,
    /// CPU seconds of the server.
    pub server_cpu_s: Option<f64>,
    /// The server at the end.
    pub server: Option<Usage>,
}

/// Runs it.
pub fn run(plan: &Plan) -> Result<Pinged, Error> {
    admin::ensure_topic(&mut Connection::open(plan.address)?, &plan.topic, plan.partitions)?;
    let batch = Batch::filled(plan.record_bytes, 1);
    let usage = || plan.pid.map(Usage::of).transpose();
    let (before, own, begun) = (usage()?, sys::cpu_seconds(), Instant::now());
    let latencies = thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.connections)
            .map(|worker| {
                let batch = &batch;
                let name = format!("ping-{worker}");
                Builder::new().name(name).spawn_scoped(scope, move || work(plan, worker, begun, batch))
            })
            .collect::<Result<_, _>>()?;
        let (mut all, mut errors) = (Latencies::new(), Vec::new());
        for worker in workers {
            match worker.join().map_err(|_| Error::Answer("a pinging thread panicked".into()))? {
                Ok(of_worker) => all.add(&of_worker),
                Err(error) => errors.push(error),
            }
        }
        first_of(errors).map_or(Ok(all), Err)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = usage()?;
    Ok(Pinged {
        records: latencies.count(),
        seconds,
        records_per_s: latencies.count() as f64 / seconds,
        latency: latencies.percentiles(),
        own_cpu_s: sys::cpu_seconds() - own,
        server_cpu_s: after.zip(before).map(|(after, before)| after.cpu_s() - before.cpu_s()),
        server: after,
    })
}

fn work(plan: &Plan, worker: usize, begun: Instant, batch: &Batch) -> Result<Latencies, Error> {
    let mut connection = Connection::open(plan.address)?;
    let mut request = Request::new(&plan.topic, plan.acks, batch);
    let mut latencies = Latencies::new();
    for ping in 0..plan.count {
        let mut from = Instant::now();
        if plan.rate > 0.0 {
            // The schedules of the connections are offset against each other.
            let turn = f64::from(ping) * plan.connections as f64 + worker as f64;
            let due = begun + Duration::from_secs_f64(turn / plan.rate);
            thread::sleep(due.saturating_duration_since(from));
            from = due;
        }
        let partition = (i64::from(ping) + worker as i64) % i64::from(plan.partitions);
        request.send(&mut connection, i32::try_from(partition).unwrap_or(0))?;
        check(connection.receive()?)?;
        latencies.record(from.elapsed());
    }
    Ok(latencies)
}
