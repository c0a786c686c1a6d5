//! Partitions that nobody writes to or reads: their memory, the CPU time that they take, and how soon they are there again.

use crate::usage::{CpuWatch, memory_mb};
use crate::{figure, load};
use anyhow::{Result, ensure};
use headwater_benches::kafka::batch::Shape;
use headwater_tests::calls;
use headwater_tests::client::Client;
use headwater_tests::server::{Server, Setup};
use std::path::Path;
use std::time::{Duration, Instant};

/// Partitions of one topic.
const OF_A_TOPIC: u64 = 1_000;

/// With records, each partition has one.
pub fn run(partitions: u64, seconds: u64, with_records: bool) {
    let _alone = headwater_tests::alone();
    if let Err(error) = measure(partitions, seconds, with_records) {
        panic!("{error:?}");
    }
}

fn measure(partitions: u64, seconds: u64, with_records: bool) -> Result<()> {
    let setup = Setup::new(Path::new(crate::FOLDER))?;
    let server = setup.start()?;
    let topics = partitions / OF_A_TOPIC;
    let mut client = Client::connect(server.kafka)?;
    let begun = Instant::now();
    for number in 0..topics {
        let (error, _) = calls::create_topic(&mut client, &format!("idle-{number}"), OF_A_TOPIC as i32, &[])?;
        ensure!(error == 0, "topic {number} was not made: error {error}");
    }
    println!("{partitions} partitions in {topics} topics were made in {:.2?}", begun.elapsed());
    if with_records {
        let batch = Shape::plain(100, 100).batch()?;
        let begun = Instant::now();
        for number in 0..topics {
            load::closed(server.kafka, &format!("idle-{number}"), OF_A_TOPIC, &batch, (1, 2, 250), 1)?;
        }
        println!("a record in each was acknowledged after {:.2?}", begun.elapsed());
    }
    let when = if with_records { "with a record each" } else { "empty" };
    look(&server, &format!("{when}, at first"), seconds)?;
    server.kill()?;
    for again in ["after kill -9", "after another"] {
        let server = setup.start()?;
        figure(&format!("{when}, ready {again}"), server.ready_after.as_secs_f64(), "s", 3.0);
        look(&server, &format!("{when}, {again}"), seconds)?;
        let mut client = Client::connect(server.kafka)?;
        let known = calls::topics(&mut client)?;
        ensure!(known.values().map(|(_, count)| *count as u64).sum::<u64>() == partitions, "partitions are missing");
        for number in [0, topics / 2, topics - 1] {
            let end = calls::offset(&mut client, &format!("idle-{number}"), OF_A_TOPIC as i32 - 1, -1)?;
            ensure!(end == (0, i64::from(with_records)), "the end of a partition is {end:?}");
        }
        server.kill()?;
    }
    setup.check_log()
}

fn look(server: &Server, when: &str, seconds: u64) -> Result<()> {
    // What was begun before is finished: checkpoints, files that are closed.
    if headwater_tests::is_long() {
        std::thread::sleep(Duration::from_secs(12));
    }
    let watch = CpuWatch::start(server.pid())?;
    std::thread::sleep(Duration::from_secs(seconds));
    let (_, percent) = watch.read()?;
    figure(&format!("{when}, memory"), memory_mb(server.pid())?, "MB", 150.0);
    figure(&format!("{when}, CPU of {seconds} s"), percent, "% of a core", 1.0);
    Ok(())
}
