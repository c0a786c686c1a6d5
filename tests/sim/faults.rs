//! A disk that fails: the engine stops, says why, answers nobody falsely, and after a restart everything acknowledged is
//! there.

use crate::draw::mix;
use crate::expectation::read_all;
use crate::script::script;
use crate::stops::{Lookout, When, message};
use crate::world::{Config, End, World};
use headwater_engine::env::sim::{FaultOp, SimDisk};
use headwater_engine::{Durability, OpenError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Which files fail, by a part of their path.
type Part = &'static str;

/// What came of a run with one failure.
enum Came {
    /// The engine stopped, and the folder was opened again.
    Stopped(String),
    /// Nobody minded.
    Nothing,
    /// There are not that many such operations.
    Over,
}

/// Runs the script with the `nth` operation of a kind failing.
fn run(config: &Config, op: FaultOp, nth: u64, part: Part) -> Result<Came, String> {
    let struck = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let lookout = Lookout::new(config.seed, When::End);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let disk = SimDisk::new(config.seed);
        let count = struck.clone();
        disk.inject_eio(op, nth, move |path: &Path| {
            let is_hit = path.to_string_lossy().contains(part);
            count.fetch_add(u64::from(is_hit), std::sync::atomic::Ordering::Relaxed);
            is_hit
        });
        script(World::new_on(disk, config.clone(), lookout.clone())?)?.end()
    }));
    let struck = struck.load(std::sync::atomic::Ordering::Relaxed);
    match outcome {
        Ok(Ok(())) if struck < nth => Ok(Came::Over),
        Ok(Ok(())) => Ok(Came::Nothing),
        Ok(Err(End::Failed(why))) => {
            lookout.look_at_stopped(3).map_err(|wrong| format!("{wrong} (the engine stopped: {why})"))?;
            Ok(Came::Stopped(why))
        }
        Ok(Err(End::Wrong(why))) => Err(why),
        Ok(Err(End::Stopped)) => Err("the machine stopped".to_owned()),
        Err(panic) => Err(format!("panic: {}", message(&*panic))),
    }
}

/// Every operation of a kind fails once. Gives how often the engine stopped and how often nobody minded, and a message.
fn fail_each(config: &Config, op: FaultOp, part: Part) -> (u64, u64, String) {
    let (mut stopped, mut ignored, mut said) = (0, 0, String::new());
    for nth in 1.. {
        match run(config, op, nth, part) {
            Ok(Came::Stopped(why)) => (stopped, said) = (stopped + 1, why),
            Ok(Came::Nothing) => ignored += 1,
            Ok(Came::Over) => break,
            Err(why) => panic!("{op:?} number {nth} on {part:?} fails, with {config:?}: {why}"),
        }
    }
    println!("{op:?} on {part:?}: {stopped} stops, the last '{said}'; {ignored} passed over");
    (stopped, ignored, said)
}

fn configs() -> [Config; 2] {
    [Config::new(21), Config { durability: Durability::Os, ..Config::new(22) }]
}

#[test]
fn a_failed_write_or_sync_of_the_wal_stops_the_engine() {
    for config in configs() {
        for op in [FaultOp::Write, FaultOp::Sync] {
            let (stopped, ignored, said) = fail_each(&config, op, "wal/");
            assert!(stopped > 5 && ignored == 0, "{stopped} stops, {ignored} passed over");
            assert!(said.contains("WAL"), "{said}");
        }
    }
}

#[test]
fn a_failed_write_of_a_segment_stops_the_engine() {
    for config in configs() {
        let (stopped, ignored, said) = fail_each(&config, FaultOp::Write, ".log");
        assert!(stopped > 10 && ignored == 0, "{stopped} stops, {ignored} passed over");
        assert!(said.contains("segment"), "{said}");
    }
}

#[test]
fn a_failed_sync_of_the_segments_stops_the_engine() {
    for config in configs() {
        let (stopped, ignored, said) = fail_each(&config, FaultOp::Sync, ".log");
        assert!(stopped >= 2 && ignored == 0, "{stopped} stops, {ignored} passed over");
        assert!(said.contains("segments"), "{said}");
    }
}

#[test]
fn a_failed_write_or_sync_of_a_checkpoint_stops_the_engine() {
    for config in configs() {
        for op in [FaultOp::Write, FaultOp::Sync] {
            let (stopped, ignored, said) = fail_each(&config, op, "checkpoints");
            assert!(stopped >= 2 && ignored == 0, "{stopped} stops, {ignored} passed over");
            assert!(said.contains("checkpoint"), "{said}");
        }
    }
}

#[test]
fn a_failed_write_of_an_index_is_passed_over() {
    for config in configs() {
        let (stopped, ignored, said) = fail_each(&config, FaultOp::Write, ".index");
        assert!(stopped == 0 && ignored > 0, "{stopped} stops ({said}), {ignored} passed over");
    }
}

#[test]
fn a_failed_read_fails_the_start_and_the_next_start_goes_well() {
    let frozen = World::new(Config::new(23), Lookout::new(23, When::Never)).and_then(script).and_then(World::freeze);
    let frozen = frozen.unwrap_or_else(|end| panic!("{end:?}"));
    let mut failures = 0;
    for nth in 1.. {
        let disk = frozen.copy();
        disk.inject_eio(FaultOp::Read, nth, |_| true);
        match frozen.open(&disk) {
            Ok(_) => break,
            Err(OpenError::Io { error, .. }) if error.raw_os_error() == Some(5) => failures += 1,
            Err(error) => panic!("read number {nth} fails: {error}"),
        }
        let engine = frozen.open(&disk).expect("the disk is well again");
        frozen.due.find(&engine).unwrap_or_else(|why| panic!("after read number {nth} failed: {why}"));
    }
    assert!(failures > 5, "{failures}");
}

#[test]
fn a_failed_read_is_told_to_the_reader_and_to_nobody_else() {
    let frozen = World::new(Config::new(24), Lookout::new(24, When::Never)).and_then(script).and_then(World::freeze);
    let frozen = frozen.unwrap_or_else(|end| panic!("{end:?}"));
    let disk = frozen.copy();
    let engine = frozen.open(&disk).expect("a whole folder");
    let partition = engine.topic("orders").expect("the script made it").partition(0).expect("it has one");
    disk.inject_eio(FaultOp::Read, 1, |path| path.extension().is_some_and(|extension| extension == "log"));
    let why = read_all(&partition).expect_err("the disk does not read");
    assert!(why.contains("os error 5"), "{why}");
    frozen.due.find(&engine).expect("the next read goes well");
    assert_eq!(engine.failure(), None);
    assert_eq!(engine.stats().damage, 0);
}

/// A sync fails: the medium lacks what the cache still shows, and no later sync writes it. Whoever starts again on that cache
/// must not take it for durable.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_not_taken_for_durable() {
    for config in configs() {
        for nth in 1.. {
            let lookout = Lookout::new(config.seed, When::End);
            let disk = SimDisk::new(config.seed);
            disk.inject_eio(FaultOp::Sync, nth, |path| path.starts_with("data/wal"));
            match World::new_on(disk, config.clone(), lookout.clone()).and_then(script) {
                Ok(_) => break,
                Err(End::Failed(_)) => {}
                Err(end) => panic!("{end:?}"),
            }
            let outcome = (|| {
                for number in 0..6 {
                    let world = lookout.reopen_stopped()?;
                    let image = world.disk.crash_image(mix(nth, number));
                    world.restart(image, true)?.end()?;
                }
                Ok::<(), End>(())
            })();
            outcome.unwrap_or_else(|end| panic!("sync number {nth} fails, with {config:?}: {end:?}"));
        }
    }
}
