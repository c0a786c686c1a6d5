//! A compacted topic under load, through a real server: updates of many keys while consumers replay it from the beginning, again and
//! again, and the server is killed once. Short: 300,000 updates of 5,000 keys. Long: 10 million of 100,000.
//!
//! What a record holds follows from its offset alone (`Plan::record`), so that everybody knows what must be where: a record
//! that is there is the one that was written at that offset, and a replay that begins when offset W is acknowledged meets the last record before W
//! of every key, or a later one. Memory is measured all the while.
#![allow(clippy::disallowed_methods, reason = "these tests run real processes on a real disk, by the real clock")]

mod load;
mod plan;
mod replay;

use anyhow::{Context, Result, ensure};
use headwater_benches::kafka::process::Usage;
use headwater_tests::server::{Server, Setup};
use headwater_tests::{alone, calls, is_long};
use load::{Shared, write_all, write_some};
use plan::Plan;
use replay::replay;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// Below the target folder, so that it lies on a disk and not in memory.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
/// What the server may take for the keys of a pass ...
const MAP_MIB_MAX: u64 = 16;
/// ... and in all. It idles at some 10 MiB, and holds requests and answers of a few connections.
const ANONYMOUS_MIB_MAX: f64 = 128.0;

/// A number on the metrics page.
fn metric(admin: SocketAddr, name: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let line = page.lines().find_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(' ')));
    let line = line.with_context(|| format!("{name} is not on the page"))?;
    Ok(line.trim().parse()?)
}

/// Looks at the server's memory until all is done. Gives the most of it: anonymous, and the map of keys.
fn watch_memory(shared: &Shared) -> (f64, f64) {
    let (mut anonymous, mut map) = (0.0f64, 0.0f64);
    while !shared.is_done.load(Ordering::Relaxed) {
        let place = *shared.place.lock();
        // The server may be on its way down or up.
        if let Ok(usage) = Usage::of(place.pid) {
            anonymous = anonymous.max(usage.anonymous_mb * 1e6 / f64::from(1 << 20));
        }
        if let Ok(bytes) = metric(place.admin, "headwater_compaction_map_bytes") {
            map = map.max(bytes / f64::from(1 << 20));
        }
        thread::sleep(Duration::from_millis(50));
    }
    (anonymous, map)
}

fn load(plan: &Plan) -> Result<()> {
    let keys_max = MAP_MIB_MAX.to_string() + "MiB";
    let setup = Setup::new(Path::new(FOLDER))?
        .option("--topic-compaction-check-seconds", "1")
        .option("--limits-compaction-memory-max", &keys_max);
    let mut server = setup.start()?;
    let shared = Shared::new(&server);
    let mut client = shared.connect()?;
    let segment_bytes = plan.segment_bytes.to_string();
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", segment_bytes.as_str()),
        ("min.cleanable.dirty.ratio", "0.3"),
        ("delete.retention.ms", "1000"),
        ("max.compaction.lag.ms", "2000"),
    ];
    let (code, _) = calls::create_topic(&mut client, plan::TOPIC, plan::PARTITIONS as i32, &configs)?;
    ensure!(code == 0, "CreateTopics answers {code}");
    let begun = Instant::now();
    let running = &mut server;
    let replays = thread::scope(|scope| -> Result<u64> {
        let writers: Vec<_> = (0..plan::PARTITIONS)
            .map(|partition| {
                let shared = &shared;
                scope.spawn(move || write_all(plan, shared, partition))
            })
            .collect();
        let readers: Vec<_> = (0..plan::PARTITIONS)
            .map(|partition| {
                let shared = &shared;
                scope.spawn(move || {
                    let mut replays = 0;
                    // All is written before the first replay ends where the disk is quick.
                    while !shared.is_written.load(Ordering::Relaxed)
                        || (replays == 0 && !shared.is_done.load(Ordering::Relaxed))
                    {
                        let left = replay(plan, shared, partition)?;
                        replays += u64::from(left.is_some_and(|left| !left.is_empty()));
                    }
                    Ok::<u64, anyhow::Error>(replays)
                })
            })
            .collect();
        let memory = scope.spawn(|| watch_memory(&shared));
        // Once in the middle of it all the server is killed.
        let course = (|| {
            while shared.acknowledged() < plan.updates / 2 {
                ensure!(running.ended()?.is_none(), "the server ended by itself");
                ensure!(writers.iter().all(|writer| !writer.is_finished()), "a writer gave up");
                thread::sleep(Duration::from_millis(20));
            }
            let before = metric(running.admin, "headwater_compactions_total")?;
            kill_and_start(running, &setup, &shared)?;
            ensure!(!is_long() || before > 0.0, "it compacts while it is written to");
            for writer in writers {
                writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
            }
            println!("{} updates in {:.1?}", shared.acknowledged(), begun.elapsed());
            Ok(())
        })();
        shared.is_written.store(true, Ordering::Relaxed);
        let settled = course.and_then(|()| settle(plan, &shared));
        // Writers that are still there give up as well.
        shared.is_done.store(true, Ordering::Relaxed);
        let (anonymous, map) = memory.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
        let mut replays = 0;
        for reader in readers {
            replays += reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        }
        settled?;
        println!("{replays} replays meanwhile; at most {anonymous:.0} MiB anonymous, {map:.1} MiB for keys");
        ensure!(map > 0.0 && map <= MAP_MIB_MAX as f64, "{map} MiB for keys where {MAP_MIB_MAX} are allowed");
        ensure!(anonymous <= ANONYMOUS_MIB_MAX, "{anonymous} MiB of anonymous memory");
        Ok(replays)
    })?;
    ensure!(replays > 0, "nobody replayed");
    let number = |name: &str| metric(server.admin, name);
    let (read, written) =
        (number("headwater_compaction_read_bytes_total")?, number("headwater_compaction_written_bytes_total")?);
    println!(
        "since the kill: {} passes read {:.0} MB and wrote {:.0} MB; the last took {:.2} s",
        number("headwater_compactions_total")?,
        read / 1e6,
        written / 1e6,
        number("headwater_compaction_last_seconds")?
    );
    ensure!(number("headwater_compactions_failed_total")? == 0.0, "passes failed");
    ensure!(number("headwater_damaged_ranges_total")? == 0.0, "damage was found");
    server.terminate()?;
    setup.check_log()
}

fn kill_and_start(server: &mut Server, setup: &Setup, shared: &Shared) -> Result<()> {
    server.kill_now()?;
    *server = setup.start()?;
    shared.moved(server);
    println!("killed, and ready again after {:.1?}", server.ready_after);
    Ok(())
}

/// Writes a little now and then, which closes segments, until one record of each key is left and no null value.
fn settle(plan: &Plan, shared: &Shared) -> Result<()> {
    let ends = shared.ends();
    let deadline = Instant::now() + Duration::from_secs(if is_long() { 300 } else { 60 });
    loop {
        thread::sleep(Duration::from_millis(700));
        let mut is_settled = true;
        for (partition, end) in ends.into_iter().enumerate() {
            write_some(plan, shared, partition, 1)?;
            let left = replay(plan, shared, partition)?.context("the server went away")?;
            let old = left.before(end);
            is_settled &= old.records <= plan.keys && old.null_values == 0;
            if is_settled {
                let alive = plan.alive(partition, end);
                ensure!(old.records <= alive, "{} records are left of {alive} keys", old.records);
            } else if Instant::now() > deadline {
                anyhow::bail!("{old:?} of partition {partition} are left, for {} keys", plan.keys);
            }
        }
        if is_settled {
            return Ok(());
        }
    }
}

#[test]
fn the_last_value_of_every_key_survives_load_replays_and_a_kill() {
    let _alone = alone();
    let plan = if is_long() {
        Plan { updates: 10_000_000, keys: 100_000, records_per_batch: 500, segment_bytes: 16 << 20 }
    } else {
        Plan { updates: 300_000, keys: 5_000, records_per_batch: 200, segment_bytes: 1 << 20 }
    };
    if let Err(error) = load(&plan) {
        panic!("{error:?}");
    }
}
