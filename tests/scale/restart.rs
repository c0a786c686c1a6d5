//! Killed in the middle of much data for many partitions: how soon is all of it there again?

use crate::usage::memory_mb;
use crate::{figure, load};
use anyhow::{Result, anyhow, ensure};
use headwater_benches::kafka::admin::{self, End};
use headwater_benches::kafka::batch::Shape;
use headwater_benches::kafka::connection::Connection;
use headwater_tests::server::Setup;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: u64 = 4;
const IN_FLIGHT: usize = 4;
/// Partitions in a request.
const BATCHES: u64 = 25;
const RECORD_BYTES: usize = 1024;
const BATCH_BYTES: usize = 16 << 10;

pub fn run(partitions: u64, bytes: u64) {
    let _alone = headwater_tests::alone();
    if let Err(error) = measure(partitions, bytes) {
        panic!("{error:?}");
    }
}

fn measure(partitions: u64, bytes: u64) -> Result<()> {
    let setup = Setup::new(Path::new(crate::FOLDER))?;
    let server = setup.start()?;
    let batch = Shape::plain(RECORD_BYTES, BATCH_BYTES).batch()?;
    let count = i32::try_from(partitions)?;
    admin::ensure_topic(&mut Connection::open(server.kafka)?, "much", count)?;
    let rounds = bytes.div_ceil(partitions * batch.value_bytes);
    let shape = (CONNECTIONS, IN_FLIGHT, BATCHES);
    let begun = Instant::now();
    let mut acked = load::closed(server.kafka, "much", partitions, &batch, shape, rounds)?;
    let written = partitions * batch.value_bytes * rounds;
    println!("{:.2} GB in {partitions} partitions were written in {:.2?}", written as f64 / 1e9, begun.elapsed());
    // It is killed under load, with as much of the log to replay as there may be.
    let address = server.kafka;
    let more = thread::scope(|scope| {
        let batch = &batch;
        let load = scope.spawn(move || load::closed(address, "much", partitions, batch, shape, rounds));
        thread::sleep(if headwater_tests::is_long() { Duration::from_secs(2) } else { Duration::from_millis(100) });
        server.kill()?;
        load.join().map_err(|_| anyhow!("the load panicked"))?
    })?;
    acked.iter_mut().zip(more).for_each(|(acked, more)| *acked += more);
    for again in ["under load", "at rest"] {
        let server = setup.start()?;
        figure(&format!("ready after kill -9 {again}"), server.ready_after.as_secs_f64(), "s", 5.0);
        println!("memory: {:.1} MB", memory_mb(server.pid())?);
        let ends = admin::offsets(&mut Connection::open(server.kafka)?, "much", count, End::Latest)?;
        let is_there = |(end, acked): (&i64, &u64)| *end >= (acked * batch.records) as i64;
        ensure!(ends.iter().zip(&acked).all(is_there), "records that were acknowledged are not there");
        server.kill()?;
    }
    setup.check_log()
}
