//! Many partitions that are written to at once, each with small batches all the time.

use crate::figure;
use crate::load::{self, Schedule};
use crate::usage::{CpuWatch, memory_mb};
use anyhow::{Result, ensure};
use headwater_benches::kafka::admin::{self, End};
use headwater_benches::kafka::batch::Shape;
use headwater_benches::kafka::connection::Connection;
use headwater_tests::server::Setup;
use std::path::Path;
use std::time::Duration;

/// Connections that share the partitions.
const CONNECTIONS: u64 = 4;
/// Requests leave in this rhythm on each, as a producer's linger makes them.
const EVERY: Duration = Duration::from_millis(5);
/// A record to a batch: at this rate no partition has two within the rhythm.
const RECORD_BYTES: usize = 1024;

pub fn run(partitions: u64, bytes_per_second: u64, seconds: u64) {
    let _alone = headwater_tests::alone();
    if let Err(error) = measure(partitions, bytes_per_second, seconds) {
        panic!("{error:?}");
    }
}

fn measure(partitions: u64, bytes_per_second: u64, seconds: u64) -> Result<()> {
    let setup = Setup::new(Path::new(crate::FOLDER))?;
    let server = setup.start()?;
    let batch = Shape::plain(RECORD_BYTES, RECORD_BYTES).batch()?;
    let mut connection = Connection::open(server.kafka)?;
    admin::ensure_topic(&mut connection, "busy", i32::try_from(partitions)?)?;
    let per_second = 1_000 / EVERY.as_millis() as u64 * CONNECTIONS;
    let batches = (bytes_per_second / RECORD_BYTES as u64).div_ceil(per_second);
    let mut schedule = Schedule { connections: CONNECTIONS, every: EVERY, batches, requests: 0 };
    // Each partition's first batch makes its file, which is a figure of its own.
    let firsts = partitions.div_ceil(CONNECTIONS * batches);
    let rounds = [("first batches", firsts), ("then", 1_000 / EVERY.as_millis() as u64 * seconds)];
    let mut sent = 0;
    for (when, requests) in rounds {
        schedule.requests = requests;
        let watch = CpuWatch::start(server.pid())?;
        let (latencies, late) = load::open(server.kafka, "busy", partitions, &batch, schedule)?;
        let (cpu, percent) = watch.read()?;
        sent += requests * CONNECTIONS * batches;
        let bytes = (requests * CONNECTIONS * batches * RECORD_BYTES as u64) as f64;
        let times = latencies.percentiles();
        let rate = (batches * per_second * RECORD_BYTES as u64) as f64 / 1e6;
        let what = format!("{partitions} partitions, {rate:.1} MB/s, {when}");
        let [p50, p99, p999, most] = [times.p50_us, times.p99_us, times.p999_us, times.max_us].map(|us| us / 1e3);
        println!("{what}: p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, most {most:.2} ms");
        println!("  the latest request was sent {:.2} ms after its time", late.as_secs_f64() * 1e3);
        let memory = memory_mb(server.pid())?;
        println!("  CPU {percent:.1} % of a core, {:.2} s for a GB; {memory:.1} MB of memory", cpu * 1e9 / bytes);
        if when == "then" {
            figure(&format!("{what}, p99"), p99, "ms", 50.0);
        }
    }
    let ends = admin::offsets(&mut connection, "busy", i32::try_from(partitions)?, End::Latest)?;
    ensure!(ends.iter().sum::<i64>() == sent as i64, "not every record that was acknowledged is there");
    server.kill()?;
    setup.check_log()
}
