//! The engine end to end on the simulated disk, driven by hand.

use bytes::Bytes;
use headwater_engine::batch::{self, BatchBuilder, CheckedBatch};
use headwater_engine::env::sim;
use headwater_engine::{
    Batches, Drive, Engine, NewTopic, Offset, Options, Partition, Read, ReadRequest, TimestampMs, Topic, TopicError,
};
use std::sync::Arc;

fn options() -> Options {
    Options { wal_size_initial: 256 << 10, wal_size_max: 1 << 20, disk_reserve_bytes: 0, ..Options::new("data".into()) }
}

fn new_topic(name: &str, settings: &[(&str, &str)]) -> NewTopic {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    NewTopic { name: name.to_owned(), partitions: 2, settings }
}

fn batch(timestamp: i64, values: &[&str]) -> CheckedBatch {
    let mut builder = BatchBuilder::new();
    for (index, value) in values.iter().enumerate() {
        builder.push(TimestampMs(timestamp + index as i64), None, Some(value.as_bytes()), &[]).expect("a short record");
    }
    let bytes = builder.finish().expect("a small batch");
    batch::check(bytes, &batch::Rules::new(TimestampMs(timestamp))).expect("a valid batch")
}

fn create(engine: &Engine, drive: &mut Drive, new: NewTopic) -> Arc<Topic> {
    let pending = engine.create_topic(new);
    while drive.commit().expect("the disk is healthy") {}
    pending.wait_blocking().expect("a new topic")
}

fn append(engine: &Engine, drive: &mut Drive, partition: &Arc<Partition>, batch: &CheckedBatch) -> Offset {
    let ack = engine.ack();
    let appended = partition.append(batch, &ack).expect("room for a batch");
    while !ack.is_done() {
        drive.commit().expect("the disk is healthy");
    }
    appended.base_offset
}

/// What is there, and whether it had to be waited for.
fn read(partition: &Arc<Partition>, from: Offset, bytes_max: usize) -> (Batches, bool) {
    let request = ReadRequest { from, bytes_max, at_least_one: true, stable_only: false };
    match partition.read(&request).expect("a kept offset") {
        Read::Ready(batches) => (batches, false),
        Read::Cold(cold) => (cold.read().expect("a kept offset"), true),
    }
}

fn read_all(partition: &Arc<Partition>) -> Vec<String> {
    let mut values = Vec::new();
    let mut from = partition.bounds().log_start;
    while from < partition.bounds().high_watermark {
        let (batches, _waited) = read(partition, from, 100);
        let bytes: Bytes = batches.range.expect("there is more").bytes().expect("a readable file");
        let headers: Vec<_> = batch::headers(&bytes).collect();
        for (position, header) in headers {
            let one = bytes.slice(position..position + header.size);
            for record in batch::records_of(&one, 1 << 20).expect("a whole batch").iter() {
                let record = record.expect("a valid record");
                assert!(record.offset >= from || from < header.next_offset());
                values.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
            }
            from = header.next_offset();
        }
        assert_eq!(from, batches.next);
    }
    values
}

#[test]
fn records_survive_a_kill_and_a_power_cut() {
    let (env, disk, clock) = sim::env(7);
    let engine = Engine::open(env, options()).expect("an empty folder");
    let mut drive = engine.drive().expect("not started");
    let topic = create(&engine, &mut drive, new_topic("orders", &[("segment.bytes", "400")]));
    let partition = topic.partition(0).expect("two partitions");
    let mut expected = Vec::new();
    for number in 0..50 {
        let value = format!("value {number}");
        let offset = append(&engine, &mut drive, &partition, &batch(1000 + number, &[&value, "second"]));
        assert_eq!(offset, Offset(number * 2));
        expected.extend([value, "second".to_owned()]);
        if number == 20 {
            drive.settle().expect("the disk is healthy");
        }
    }
    assert_eq!(read_all(&partition), expected);
    for seed in 0..20 {
        let image = if seed == 0 { disk.kill_image() } else { disk.crash_image(seed) };
        let engine = Engine::open(sim::env_on(&image, &clock, seed), options()).expect("a crashed folder");
        let partition = engine.topic("orders").expect("it was acknowledged").partition(0).expect("two partitions");
        assert_eq!(read_all(&partition), expected, "seed {seed}");
        let mut drive = engine.drive().expect("not started");
        assert_eq!(append(&engine, &mut drive, &partition, &batch(5000, &["more"])), Offset(100));
        let found = partition.find_time(TimestampMs(1030)).expect("readable").expect("such a record");
        assert_eq!((found.offset, found.timestamp), (Offset(59), TimestampMs(1030)));
        assert_eq!(partition.max_timestamp().expect("readable").map(|point| point.offset), Some(Offset(100)));
        assert_eq!(partition.leader_epoch().0, 1);
        assert_eq!(partition.epoch_end(headwater_engine::Epoch(0)).map(|(_, end)| end), Some(Offset(100)));
    }
}

/// Bytes that were checked once were checked again at each read of them, as only what lay a whole MiB within one read was noted.
#[test]
fn what_was_read_after_a_restart_is_read_again_without_waiting() {
    let (env, disk, clock) = sim::env(7);
    let engine = Engine::open(env, options()).expect("an empty folder");
    let mut drive = engine.drive().expect("not started");
    let topic = create(&engine, &mut drive, new_topic("orders", &[]));
    for number in 0..50 {
        append(&engine, &mut drive, &topic.partition(0).expect("two"), &batch(1000 + number, &["first", "second"]));
    }
    drive.settle().expect("the disk is healthy");
    let engine = Engine::open(sim::env_on(&disk.kill_image(), &clock, 1), options()).expect("a killed folder");
    let partition = engine.topic("orders").expect("it was acknowledged").partition(0).expect("two");
    let mut waits = Vec::new();
    for _ in 0..2 {
        let (mut from, mut waited) = (Offset(0), 0);
        while from < partition.bounds().high_watermark {
            let (batches, has_waited) = read(&partition, from, 250);
            waited += usize::from(has_waited);
            from = batches.next;
        }
        waits.push(waited);
    }
    assert!(waits[0] > 10 && waits[1] == 0, "{waits:?}");
}

#[test]
fn deleted_and_remade_topics_do_not_mix() {
    let (env, disk, clock) = sim::env(3);
    let engine = Engine::open(env, options()).expect("an empty folder");
    let mut drive = engine.drive().expect("not started");
    let old = create(&engine, &mut drive, new_topic("t", &[]));
    append(&engine, &mut drive, &old.partition(0).expect("two"), &batch(1, &["old"]));
    let deleted = engine.delete_topic(old.id());
    while drive.commit().expect("healthy") {}
    deleted.wait_blocking().expect("it was there");
    let new = create(&engine, &mut drive, new_topic("t", &[]));
    append(&engine, &mut drive, &new.partition(0).expect("two"), &batch(2, &["new"]));
    drive.settle().expect("healthy");
    assert!(
        old.partition(0)
            .expect("two")
            .read(&ReadRequest { from: Offset(0), bytes_max: 10, at_least_one: true, stable_only: false })
            .is_err()
    );
    let engine = Engine::open(sim::env_on(&disk.crash_image(1), &clock, 1), options()).expect("a crashed folder");
    let found = engine.topic("t").expect("remade");
    assert_eq!(found.id(), new.id());
    assert_eq!(read_all(&found.partition(0).expect("two")), ["new"]);
}

/// A partition that never rolled kept all its bytes in the active segment, however many of its records were deleted, so a
/// disk that it had filled could not be drained.
#[test]
fn deleting_all_records_frees_the_segment_that_still_grows() {
    let (env, disk, clock) = sim::env(4);
    let engine = Engine::open(env, options()).expect("an empty folder");
    let mut drive = engine.drive().expect("not started");
    let topic = create(&engine, &mut drive, new_topic("t", &[]));
    let partition = topic.partition(0).expect("two");
    append(&engine, &mut drive, &partition, &batch(1, &["first", "second"]));
    append(&engine, &mut drive, &partition, &batch(2, &["third"]));
    let delete = |before, drive: &mut Drive| {
        let ack = engine.ack();
        let start = partition.delete_records(before, &ack).expect("an offset in range");
        drive.settle().expect("healthy");
        assert!(ack.is_done());
        (start, partition.size_bytes())
    };
    let segments = || {
        let files = disk.files();
        let sizes = files.into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "log"));
        sizes.map(|(_, size)| size).collect::<Vec<_>>()
    };
    let full = partition.size_bytes();
    assert_eq!(delete(Some(Offset(2)), &mut drive), (Offset(2), full), "a record is left");
    assert_eq!(delete(None, &mut drive), (Offset(3), 0));
    assert!(segments().iter().all(|size| *size == 0), "{:?}", segments());
    assert_eq!(delete(None, &mut drive), (Offset(3), 0), "an empty one is left alone");
    assert_eq!(append(&engine, &mut drive, &partition, &batch(3, &["fourth"])), Offset(3));
    let engine = Engine::open(sim::env_on(&disk.crash_image(1), &clock, 1), options()).expect("a crashed folder");
    let found = engine.topic("t").expect("a topic").partition(0).expect("two");
    assert_eq!((found.bounds().log_start, read_all(&found)), (Offset(3), vec!["fourth".to_owned()]));
}

#[test]
fn two_changes_of_settings_at_a_time_are_both_kept_and_act_once_durable() {
    let (env, disk, clock) = sim::env(4);
    let engine = Engine::open(env, options()).expect("an empty folder");
    let mut drive = engine.drive().expect("not started");
    let topic = create(&engine, &mut drive, new_topic("orders", &[("retention.ms", "5")]));
    let set = |name: &'static str, value: &'static str| {
        engine.alter_topic(topic.id(), move |settings| {
            let mut settings = settings.clone();
            settings.insert(name.to_owned(), value.to_owned());
            Ok::<_, TopicError>(settings)
        })
    };
    // The second is decided while the first is on its way.
    let pending = [set("segment.bytes", "400"), set("retention.bytes", "9")];
    assert_eq!(topic.settings().segment_bytes, 1 << 30, "nothing acts before it is durable");
    let refused = set("segment.ms", "never");
    while drive.commit().expect("the disk is healthy") {}
    for pending in pending {
        pending.wait_blocking().expect("a good change");
    }
    assert!(matches!(refused.wait_blocking(), Err(TopicError::InvalidSetting(_))));
    let check = |topic: &Topic| {
        let settings = topic.settings();
        assert_eq!((settings.segment_bytes, settings.retention_bytes, settings.retention_ms), (400, 9, 5));
    };
    check(&topic);
    let partition = topic.partition(0).expect("two partitions");
    assert_eq!(partition.settings().segment_bytes, 400, "a partition sees what its topic has");

    let checked = engine.check_altered_topic(topic.id(), |_| Ok::<_, TopicError>(Default::default()));
    while drive.commit().expect("the disk is healthy") {}
    checked.wait_blocking().expect("a good change");
    check(&topic);
    for seed in 0..10 {
        if seed == 5 {
            drive.settle().expect("the disk is healthy");
        }
        let image = disk.crash_image(seed);
        let engine = Engine::open(sim::env_on(&image, &clock, seed), options()).expect("a crashed folder");
        check(&engine.topic("orders").expect("it was acknowledged"));
    }
}

/// A block was closed by what settings are thought to take, 64 bytes each: some thousand large ones made a block of hundreds of MiB.
#[test]
fn large_settings_are_bounded_and_count_for_a_block() {
    let (disk, clock) = (sim::SimDisk::new(1), sim::SimClock::default());
    let options = Options { wal_size_initial: 16 << 20, ..options() };
    let engine = Engine::open(sim::env_on(&disk, &clock, 1), options.clone()).expect("an empty folder");
    let mut drive = engine.drive().expect("not started");
    let topic = create(&engine, &mut drive, new_topic("orders", &[]));
    let value = |number: usize| format!("{number:0>60000}");
    let before = engine.stats().round_bytes;
    let alter = |value: String| {
        engine.alter_topic(topic.id(), |_| Ok::<_, TopicError>([("some.list".to_owned(), value)].into()))
    };
    let altered: Vec<_> = (0..40).map(|number| alter(value(number))).collect();
    while drive.commit().expect("the disk is healthy") {}
    for pending in altered {
        pending.wait_blocking().expect("a good change");
    }
    let after = engine.stats().round_bytes;
    assert!(after.count - before.count >= 3, "{} blocks for 2.4 MB", after.count - before.count);

    let refused = alter("x".repeat(70_000));
    let new = engine.create_topic(new_topic("more", &[("some.list", &"x".repeat(70_000))]));
    while drive.commit().expect("the disk is healthy") {}
    let Err(TopicError::InvalidSetting(invalid)) = refused.wait_blocking() else { panic!("too large") };
    assert_eq!((invalid.name.as_str(), invalid.value.as_str()), ("some.list", "of 70000 bytes"));
    assert!(matches!(new.wait_blocking(), Err(TopicError::InvalidSetting(_))));
    let image = disk.kill_image();
    drop((drive, engine));
    let engine = Engine::open(sim::env_on(&image, &clock, 2), options).expect("a killed folder");
    let settings = engine.topic("orders").expect("it was acknowledged").settings();
    assert_eq!(settings.overrides().get("some.list"), Some(&value(39)));
}
