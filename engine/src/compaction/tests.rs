//! Passes over real partitions on a simulated disk, against a naive model.

use crate::batch::{self, BatchBuilder, Codec, TimestampType, headers, records_of};
use crate::engine::{Drive, Engine, GatherBounds, Options};
use crate::env::Clock;
use crate::env::sim::{self, SimClock, SimDisk};
use crate::ids::{Offset, TimestampMs};
use crate::partition::{Partition, Read, ReadRequest};
use crate::topic::NewTopic;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A record, as it was appended and as it must be read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    header: Option<Vec<u8>>,
}

/// The records of a batch with their end offset, and when its null values may go.
#[derive(Clone, Debug)]
struct KnownBatch {
    records: Vec<Known>,
    end: i64,
    horizon: Option<i64>,
}

/// What a pass leaves, told in the simplest way.
#[derive(Clone, Debug, Default)]
struct Model {
    batches: Vec<KnownBatch>,
    clean: i64,
}

impl Model {
    fn pass(&mut self, end: i64, now: i64, delete_retention: i64) {
        let mut last = BTreeMap::new();
        let all = self.batches.iter().flat_map(|batch| batch.records.clone());
        for record in all.filter(|record| record.offset >= self.clean && record.offset < end) {
            last.insert(record.key.clone(), record.offset);
        }
        for batch in &mut self.batches {
            let is_expired = batch.horizon.is_some_and(|horizon| now >= horizon);
            batch.records.retain(|record| {
                let is_last = last.get(&record.key).is_none_or(|last| *last <= record.offset);
                record.offset >= end || (record.key.is_some() && is_last && (record.value.is_some() || !is_expired))
            });
            let has_tombstone = batch.records.iter().any(|record| record.value.is_none());
            if has_tombstone && batch.end <= end && batch.horizon.is_none() {
                batch.horizon = Some(now + delete_retention);
            }
        }
        self.clean = end;
    }

    fn records(&self) -> Vec<Known> {
        self.batches.iter().flat_map(|batch| batch.records.clone()).collect()
    }
}

struct Machine {
    disk: SimDisk,
    clock: SimClock,
    options: Options,
    engine: Engine,
    drive: Drive,
}

const TOPIC: &str = "state";

impl Machine {
    fn new(map_bytes_max: usize, settings: &[(&str, &str)]) -> Machine {
        let (disk, clock) = (SimDisk::new(1), SimClock::default());
        clock.set_wall(TimestampMs(1_000_000));
        let options = Options {
            wal_size_initial: 1 << 20,
            disk_reserve_bytes: 0,
            compaction_map_bytes_max: map_bytes_max,
            gathers: GatherBounds { piece: 4096, files: 2, waiting: 8 << 10, readers_stay: Duration::ZERO },
            ..Options::new("data".into())
        };
        let (engine, mut drive) = Machine::open(&disk, &clock, &options);
        let settings: BTreeMap<String, String> =
            [("cleanup.policy", "compact")].iter().chain(settings).map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let created = engine.create_topic(NewTopic { name: TOPIC.to_owned(), partitions: 1, settings });
        drive.settle().expect("a healthy disk");
        created.wait_blocking().expect("a new topic");
        Machine { disk, clock, options, engine, drive }
    }

    fn open(disk: &SimDisk, clock: &SimClock, options: &Options) -> (Engine, Drive) {
        let engine = Engine::open(sim::env_on(disk, clock, 7), options.clone()).expect("a healthy folder");
        let drive = engine.drive().expect("not started");
        (engine, drive)
    }

    fn restart(self) -> Machine {
        let Machine { disk, clock, options, engine, drive } = self;
        drop((engine, drive));
        let disk = disk.kill_image();
        let (engine, mut drive) = Machine::open(&disk, &clock, &options);
        drive.sweep_orphans().expect("a healthy disk");
        Machine { disk, clock, options, engine, drive }
    }

    fn partition(&self) -> Arc<Partition> {
        self.engine.topic(TOPIC).expect("it was made").partition(0).expect("it has one")
    }

    fn now(&self) -> i64 {
        self.clock.wall().0
    }

    /// Appends records of these keys and values, and gives them as they must be read.
    fn append(&mut self, codec: Codec, is_stamped: bool, records: &[(Option<u16>, Option<usize>, i64)]) -> KnownBatch {
        let mut builder = BatchBuilder::new().codec(codec);
        if is_stamped {
            builder = builder.timestamp_type(TimestampType::LogAppendTime);
        }
        let base = self.partition().bounds().high_watermark.0;
        let mut known = Vec::new();
        for (index, (key, size, age)) in records.iter().enumerate() {
            let offset = base + index as i64;
            let key = key.map(|key| key.to_be_bytes().to_vec());
            let value = size.map(|size| vec![offset as u8; size]);
            let header = (index % 3 == 0).then(|| offset.to_be_bytes().to_vec());
            let timestamp = self.now() - age;
            let headers: Vec<(&[u8], Option<&[u8]>)> = header.iter().map(|h| (b"h".as_slice(), Some(&h[..]))).collect();
            builder.push(TimestampMs(timestamp), key.as_deref(), value.as_deref(), &headers).expect("short");
            known.push(Known { offset, timestamp, key, value, header });
        }
        if is_stamped {
            let latest = known.iter().map(|record| record.timestamp).max().expect("records");
            known.iter_mut().for_each(|record| record.timestamp = latest);
        }
        let ack = self.engine.ack();
        self.partition().append(&builder.build().expect("records"), &ack).expect("room");
        self.commit();
        assert_eq!(ack.poll_done(), Some(Ok(())));
        KnownBatch { end: base + known.len() as i64, records: known, horizon: None }
    }

    /// Commits what is queued, and makes a checkpoint before the WAL is full.
    fn commit(&mut self) {
        while self.drive.commit().expect("a healthy disk") {}
        let stats = self.engine.stats();
        if stats.wal_used * 2 > stats.wal_size {
            self.drive.settle().expect("a healthy disk");
        }
    }

    /// Compacts until nothing is due. Calls `passed` after each pass.
    fn compact(&mut self, mut passed: impl FnMut(&Machine)) {
        let mut passes = self.engine.stats().compactions;
        for _ in 0..100_000 {
            let goes_on = self.drive.compact();
            self.commit();
            let stats = self.engine.stats();
            assert_eq!((stats.compaction_failures, stats.damage), (0, 0));
            if stats.compactions > passes {
                passes = stats.compactions;
                passed(self);
            }
            if !goes_on {
                return;
            }
        }
        panic!("compaction does not end");
    }

    /// Reads everything, in reads of `bytes_max`, holding the batches against each other.
    fn read(&self, bytes_max: usize) -> Vec<Known> {
        let partition = self.partition();
        let bounds = partition.bounds();
        let (mut from, mut found) = (bounds.log_start, Vec::new());
        while from < bounds.high_watermark {
            let request = ReadRequest { from, bytes_max, at_least_one: true, stable_only: false };
            let batches = match partition.read(&request).expect("readable") {
                Read::Ready(batches) => batches,
                Read::Cold(cold) => cold.read().expect("readable"),
            };
            let bytes = batches.range.expect("there is more").bytes().expect("readable");
            let mut next = None;
            for (position, header) in headers(&bytes) {
                assert!(next.is_none_or(|next| next == header.base_offset), "batches follow one another without a gap");
                assert!(next.is_some() || (header.base_offset <= from && header.next_offset() > from));
                next = Some(header.next_offset());
                let batch = bytes.slice(position..position + header.size);
                found.extend(known(&batch).into_iter().filter(|record| record.offset >= from.0));
            }
            assert_eq!(next, Some(batches.next), "a read says where it ends");
            from = batches.next;
        }
        assert_eq!(from, bounds.high_watermark);
        found
    }
}

fn known(batch: &Bytes) -> Vec<Known> {
    batch::verify_crc(batch).expect("a right CRC");
    let records = records_of(batch, 1 << 20).expect("readable");
    let each = records.iter().map(|record| {
        let mut record = record.expect("readable");
        Known {
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            header: record.headers.next().and_then(|(_, value)| value).map(<[u8]>::to_vec),
        }
    });
    each.collect()
}

#[derive(Clone, Debug)]
enum Act {
    Append(Codec, bool, Vec<(Option<u16>, Option<usize>, i64)>),
    Compact,
    Advance(u64),
    Restart,
}

fn some_act() -> impl Strategy<Value = Act> {
    let key = prop_oneof![1 => Just(None), 40 => (0u16..12).prop_map(Some), 10 => any::<u16>().prop_map(Some)];
    let value = prop_oneof![1 => Just(None), 4 => (0usize..60).prop_map(Some)];
    let records = prop::collection::vec((key, value, 0i64..50_000), 1..8);
    let codec = prop::sample::select(Codec::ALL.to_vec());
    prop_oneof![
        12 => (codec, prop::bool::weighted(0.1), records).prop_map(|(c, s, r)| Act::Append(c, s, r)),
        2 => Just(Act::Compact),
        1 => (0u64..100_000).prop_map(Act::Advance),
        1 => Just(Act::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("HEADWATER_TEST_ALL").is_some() { 2_000 } else { 60 }))]

    /// After any course of appends, passes, restarts and waiting, the log holds what the model says, record by record.
    #[test]
    fn a_pass_leaves_the_last_record_of_each_key(
        acts in prop::collection::vec(some_act(), 1..60),
        map_bytes_max in prop::sample::select(vec![500usize, 4_000, 1 << 20]),
        segment_bytes in prop::sample::select(vec!["150", "600", "3000"]),
        ratio in prop::sample::select(vec!["0.0", "0.5"]),
    ) {
        let retention = 30_000;
        let settings = [
            ("segment.bytes", segment_bytes),
            ("delete.retention.ms", "30000"),
            ("min.cleanable.dirty.ratio", ratio),
        ];
        let mut machine = Machine::new(map_bytes_max, &settings);
        let mut model = Model::default();
        for act in acts.into_iter().chain([Act::Compact]) {
            match act {
                Act::Append(codec, is_stamped, records) => {
                    let batch = machine.append(codec, is_stamped, &records);
                    model.batches.push(batch);
                }
                Act::Compact => {
                    machine.drive.settle().expect("a healthy disk");
                    machine.compact(|machine| {
                        let end = machine.partition().first_dirty().0;
                        assert!(end > model.clean, "a pass comes to something");
                        model.pass(end, machine.now(), retention);
                    });
                }
                Act::Advance(ms) => machine.clock.advance(Duration::from_millis(ms)),
                Act::Restart => machine = machine.restart(),
            }
        }
        for bytes_max in [1, 300, 1 << 20] {
            prop_assert_eq!(machine.read(bytes_max), model.records());
        }
        machine.drive.settle().expect("a healthy disk");
        let machine = machine.restart();
        prop_assert_eq!(machine.read(1 << 20), model.records());
        prop_assert_eq!(machine.partition().first_dirty(), Offset(model.clean));
        let mut scrubbed = machine;
        while scrubbed.drive.scrub() > 0 {}
        prop_assert_eq!(scrubbed.engine.stats().damage, 0);
        // Nothing is left over: a file for each segment.
        let logs = scrubbed.disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "log"));
        prop_assert_eq!(logs.count(), scrubbed.partition().published().segments.len());
        // A time is found at the first record that is left.
        for at in [0, 950_000, 990_000, 1_050_000] {
            let first = model.records().into_iter().find(|record| record.timestamp >= at).map(|record| record.offset);
            let found = scrubbed.partition().find_time(TimestampMs(at)).expect("readable");
            prop_assert_eq!(found.map(|point| point.offset.0), first);
        }
    }
}

fn batch_of(keys: &[u16]) -> Vec<(Option<u16>, Option<usize>, i64)> {
    keys.iter().map(|key| (Some(*key), Some(20), 0)).collect()
}

/// Consumers take an offset behind the end of its epoch for a log that was cut: what stands for the records of one epoch must
/// not reach into the next.
#[test]
fn no_batch_reaches_into_the_next_epoch() {
    let mut machine = Machine::new(1 << 20, &[("segment.ms", "1000")]);
    for _ in 0..4 {
        machine.append(Codec::None, false, &batch_of(&[1, 2]));
        machine.append(Codec::None, false, &batch_of(&[1]));
        machine = machine.restart();
    }
    machine.append(Codec::None, false, &batch_of(&[1, 2]));
    machine.clock.advance(Duration::from_secs(2));
    machine.append(Codec::None, false, &batch_of(&[3]));
    machine.drive.settle().expect("a healthy disk");
    machine.compact(|_| ());
    let offsets: Vec<i64> = machine.read(1 << 20).into_iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [12, 13, 14]);
    let partition = machine.partition();
    let epochs = partition.published().epochs.clone();
    let request = ReadRequest { from: Offset(0), bytes_max: 1 << 20, at_least_one: true, stable_only: false };
    let Read::Ready(batches) = partition.read(&request).expect("readable") else { panic!("it was just written") };
    let bytes = batches.range.expect("batches").bytes().expect("readable");
    let found: Vec<_> = headers(&bytes).map(|(_, header)| header).collect();
    assert_eq!((epochs.len(), found.len()), (5, 5));
    for (header, epoch) in found.iter().zip(&epochs) {
        assert_eq!((header.leader_epoch, header.base_offset), *epoch);
        let (_, end) = partition.epoch_end(header.leader_epoch).expect("a known epoch");
        assert!(header.next_offset() <= end);
    }
}

/// The map is full: the pass ends there, and others go on until all is compacted.
#[test]
fn a_small_map_takes_more_passes_and_leaves_the_same() {
    let mut passes = Vec::new();
    for map_bytes_max in [1, 2_000, 1 << 20] {
        let mut machine = Machine::new(map_bytes_max, &[("segment.bytes", "500"), ("min.cleanable.dirty.ratio", "0")]);
        for round in 0..40u16 {
            machine.append(Codec::None, false, &batch_of(&[round % 7, round % 5, 100 + round % 9]));
        }
        machine.drive.settle().expect("a healthy disk");
        machine.compact(|_| ());
        passes.push((machine.engine.stats().compactions, machine.read(1 << 20)));
    }
    assert!(
        passes[0].0 > passes[1].0 && passes[1].0 > passes[2].0 && passes[2].0 == 1,
        "{:?}",
        passes.iter().map(|p| p.0)
    );
    assert_eq!(passes[0].1, passes[2].1);
    assert_eq!(passes[1].1, passes[2].1);
}

/// What was stored without being looked into may say anything of its offsets. Were it believed, a key could be given an
/// offset beyond all others, and every later record of it would go.
#[test]
fn a_batch_that_lies_about_its_offsets_stays_and_is_not_believed() {
    let mut machine = Machine::new(1 << 20, &[("segment.bytes", "300"), ("min.cleanable.dirty.ratio", "0")]);
    machine.append(Codec::None, false, &batch_of(&[1]));
    let mut builder = BatchBuilder::new();
    for _ in 0..2 {
        builder.push(TimestampMs(5), Some(&1u16.to_be_bytes()), Some(b"lie"), &[]).expect("short");
    }
    // The second record's offset delta, 1, becomes 50.
    let mut bytes = builder.finish().expect("records").to_vec();
    let second = 61 + (bytes.len() - 61) / 2;
    assert_eq!(bytes[second + 3], 2, "zigzag for 1");
    bytes[second + 3] = 100;
    let crc = batch::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    // As a topic with `batch.validation=header` takes it: in a codec that nobody opens.
    let header = batch::BatchHeader::parse(&bytes).expect("a header");
    let lie = batch::closed_for_tests(header, &bytes[61..]);
    let ack = machine.engine.ack();
    machine.partition().append(&lie, &ack).expect("room");
    for _ in 0..8 {
        machine.append(Codec::None, false, &batch_of(&[1, 2]));
    }
    machine.drive.settle().expect("a healthy disk");
    machine.compact(|_| ());
    let last = machine.read(1 << 20).into_iter().rfind(|record| record.key == Some(vec![0, 1]));
    assert_eq!(last.map(|record| record.offset), Some(17), "the last record of the key is there");
    assert!(machine.engine.stats().compaction_dropped_records > 0);
}

/// Key 1 was deleted. The batch that has its value cannot be looked into, and so stays: were the null value behind it to go after
/// its time, the key would be back.
#[test]
fn a_null_value_stays_behind_a_batch_that_nobody_could_look_into() {
    let settings = [("segment.bytes", "300"), ("min.cleanable.dirty.ratio", "0"), ("delete.retention.ms", "30000")];
    let mut machine = Machine::new(1 << 20, &settings);
    machine.append(Codec::None, false, &[(Some(2), Some(20), 0), (Some(3), None, 0)]);
    let mut builder = BatchBuilder::new();
    builder.push(TimestampMs(5), Some(&1u16.to_be_bytes()), Some(b"value"), &[]).expect("short");
    let bytes = builder.finish().expect("records");
    // One record that says it is two: nothing is built on what else it says.
    let header = batch::BatchHeader { record_count: 2, ..batch::BatchHeader::parse(&bytes).expect("a header") };
    let closed = batch::closed_for_tests(header, &bytes[61..]);
    let ack = machine.engine.ack();
    machine.partition().append(&closed, &ack).expect("room");
    machine.append(Codec::None, false, &[(Some(1), None, 0), (Some(2), None, 0)]);
    for _ in 0..3 {
        for _ in 0..4 {
            machine.append(Codec::None, false, &batch_of(&[7]));
        }
        machine.drive.settle().expect("a healthy disk");
        machine.compact(|_| ());
        machine.clock.advance(Duration::from_secs(31));
    }
    let partition = machine.partition();
    let null_values: Vec<i64> = batches_of(&partition)
        .iter()
        .filter_map(|batch| records_of(batch, 1 << 20).ok())
        .flat_map(|records| {
            let each = records.iter().filter_map(Result::ok).filter(|record| record.value.is_none());
            each.map(|record| record.offset.0).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(null_values, [3, 4], "key 3 was deleted before that batch");
}

/// A batch with timestamps so far back that no delete horizon can be told in it stayed whole, old values of keys included: when the
/// null value behind had gone, the key was back.
#[test]
fn records_go_from_a_batch_that_has_no_room_for_a_delete_horizon() {
    let settings = [("segment.bytes", "300"), ("min.cleanable.dirty.ratio", "0"), ("delete.retention.ms", "30000")];
    let mut machine = Machine::new(1 << 20, &settings);
    machine.append(Codec::None, false, &[(Some(1), Some(20), i64::MAX), (Some(2), None, i64::MAX)]);
    machine.append(Codec::None, false, &[(Some(1), None, 0)]);
    for _ in 0..3 {
        for _ in 0..4 {
            machine.append(Codec::None, false, &batch_of(&[7]));
        }
        machine.drive.settle().expect("a healthy disk");
        machine.compact(|_| ());
        machine.clock.advance(Duration::from_secs(31));
    }
    let left = machine.read(1 << 20);
    let of = |key: u16| left.iter().filter(move |known| known.key == Some(key.to_be_bytes().to_vec())).count();
    assert_eq!(of(1), 0, "neither the value nor, after its time, the null value");
    assert_eq!(of(2), 1, "a null value that no horizon can be told of stays");
}

/// There was no room to begin with the dirtiest partition: that was told nowhere, and no other got its turn.
#[test]
fn a_partition_that_there_is_no_room_for_is_told_and_the_next_gets_its_turn() {
    let mut machine = Machine::new(1 << 20, &[("segment.bytes", "300"), ("min.cleanable.dirty.ratio", "0")]);
    // What was compacted once is less dirty than what never was.
    for _ in 0..6 {
        machine.append(Codec::None, false, &batch_of(&[1, 2, 3]));
    }
    machine.drive.settle().expect("a healthy disk");
    machine.compact(|_| ());
    for _ in 0..4 {
        machine.append(Codec::None, false, &batch_of(&[1, 2, 3]));
    }
    let settings = [("cleanup.policy", "compact"), ("segment.bytes", "300")];
    let settings = settings.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    let created = machine.engine.create_topic(NewTopic { name: "large".to_owned(), partitions: 1, settings });
    machine.drive.settle().expect("a healthy disk");
    let large = created.wait_blocking().expect("a new topic").partition(0).expect("it has one");
    for _ in 0..4 {
        let mut builder = BatchBuilder::new();
        builder.push(TimestampMs(5), Some(b"key"), Some(&[b'x'; 50_000]), &[]).expect("short");
        large.append(&builder.build().expect("records"), &machine.engine.ack()).expect("room");
        machine.commit();
    }
    machine.drive.settle().expect("a healthy disk");

    machine.options.disk_reserve_bytes = 1 << 30;
    let mut machine = machine.restart();
    let large = machine.engine.topic("large").expect("it was made").partition(0).expect("it has one");
    machine.drive.settle().expect("a healthy disk");
    let set_room = |machine: &mut Machine, room: u64| {
        let disk = sim::env_on(&machine.disk, &machine.clock, 7).disk;
        machine.disk.set_capacity(1 << 40);
        let used = (1 << 40) - disk.free_bytes().expect("a healthy disk");
        machine.disk.set_capacity(used + (1 << 30) + room);
        machine.drive.settle().expect("a healthy disk");
    };
    set_room(&mut machine, 50_000);
    let clean = machine.partition().first_dirty();
    for _ in 0..100 {
        machine.drive.compact();
        machine.commit();
    }
    let stats = machine.engine.stats();
    assert_eq!(
        (stats.compactions, stats.compaction_failures),
        (1, 1),
        "the failure is counted once until it is tried again"
    );
    assert!(machine.partition().first_dirty() > clean && large.first_dirty() == Offset(0));

    machine.clock.advance(Duration::from_secs(61));
    set_room(&mut machine, 1 << 20);
    for _ in 0..100 {
        machine.drive.compact();
        machine.commit();
    }
    assert_eq!(machine.engine.stats().compaction_failures, 1);
    assert!(large.first_dirty() > Offset(0));
}

/// The folder of the new segment was taken away. A pass took that for a deletion of what it reads, and nothing was told.
#[test]
#[allow(clippy::disallowed_methods, reason = "takes away a folder, which the simulated disk has no word for")]
fn a_new_segment_whose_folder_is_gone_is_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("data");
    let options = Options { wal_size_initial: 1 << 20, disk_reserve_bytes: 0, ..Options::new(root.clone()) };
    let engine = Engine::open(crate::env::Env::real(&root).expect("a folder"), options).expect("an empty folder");
    let mut drive = engine.drive().expect("not started");
    let settings = [("cleanup.policy", "compact"), ("segment.bytes", "300")];
    let settings = settings.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    let created = engine.create_topic(NewTopic { name: TOPIC.to_owned(), partitions: 1, settings });
    drive.settle().expect("a healthy disk");
    let partition = created.wait_blocking().expect("a new topic").partition(0).expect("it has one");
    for _ in 0..8 {
        let mut builder = BatchBuilder::new();
        builder.push(TimestampMs(5), Some(b"key"), Some(&[b'x'; 100]), &[]).expect("short");
        partition.append(&builder.build().expect("records"), &engine.ack()).expect("room");
        drive.settle().expect("a healthy disk");
    }
    let segments = || -> Vec<std::path::PathBuf> {
        let folders = std::fs::read_dir(root.join("segments")).expect("a folder").map(|entry| entry.expect("an entry"));
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.path()).expect("a folder"));
        files.map(|file| file.expect("an entry").path()).collect()
    };
    let before = segments();
    let mut steps = 0..100;
    let new = steps.by_ref().find_map(|_| {
        drive.compact();
        segments().into_iter().find(|path| !before.contains(path))
    });
    let new = new.expect("a pass writes a segment");
    std::fs::remove_dir_all(new.parent().expect("a folder")).expect("it is there");
    for _ in steps {
        if !drive.compact() {
            break;
        }
        drive.commit().expect("a healthy disk");
    }
    assert_eq!((engine.stats().compactions, engine.stats().compaction_failures), (0, 1));
}

/// Every batch of the log.
fn batches_of(partition: &Arc<Partition>) -> Vec<Bytes> {
    let (mut from, mut found) = (partition.bounds().log_start, Vec::new());
    while from < partition.bounds().high_watermark {
        let request = ReadRequest { from, bytes_max: 1 << 20, at_least_one: true, stable_only: false };
        let batches = match partition.read(&request).expect("readable") {
            Read::Ready(batches) => batches,
            Read::Cold(cold) => cold.read().expect("readable"),
        };
        let bytes = batches.range.expect("there is more").bytes().expect("readable");
        found.extend(headers(&bytes).map(|(position, header)| bytes.slice(position..position + header.size)));
        from = batches.next;
    }
    found
}

/// The figures of docs/decisions/0004-compaction.md:
/// `cargo test --profile quick -p headwater-engine --lib compaction::tests::speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_methods, reason = "reads the processor time of its thread")]
fn speed() {
    let cpu = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        Duration::from_nanos(stat.split(' ').next().and_then(|spent| spent.parse().ok()).expect("nanoseconds"))
    };
    for (what, codec, records, value_size, keys) in [
        ("1 KiB records, 60 a batch", Codec::None, 60u64, 1024usize, 20_000u64),
        ("100 B records, 150 a batch", Codec::None, 150, 100, 200_000),
        ("100 B records, one a batch", Codec::None, 1, 100, 200_000),
        ("100 B records, 150 a batch, lz4", Codec::Lz4, 150, 100, 200_000),
        ("100 B records, 150 a batch, zstd", Codec::Zstd, 150, 100, 200_000),
    ] {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/../target").expect("a folder");
        let root = folder.path().join("data");
        let options = Options { queued_bytes_max: 1 << 30, ..Options::new(root.clone()) };
        let engine = Engine::open(crate::env::Env::real(&root).expect("a folder"), options).expect("an empty folder");
        let mut drive = engine.drive().expect("not started");
        let settings = [("cleanup.policy", "compact"), ("segment.bytes", "8388608")];
        let settings = settings.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let created = engine.create_topic(NewTopic { name: TOPIC.to_owned(), partitions: 1, settings });
        drive.settle().expect("a healthy disk");
        let partition = created.wait_blocking().expect("a new topic").partition(0).expect("it has one");
        let ack = engine.ack();
        let (mut size, mut count) = (0u64, 0u64);
        while size < 256 << 20 {
            let mut builder = BatchBuilder::new().codec(codec);
            for _ in 0..records {
                count += 1;
                let key = (count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % keys;
                // Text that a codec makes half as long.
                let value: Vec<u8> =
                    (0..value_size).map(|at| b'a' + ((count as usize * 7 + at * at) % 11) as u8).collect();
                builder.push(TimestampMs(1), Some(&key.to_be_bytes()), Some(&value), &[]).expect("short");
            }
            let batch = builder.build().expect("records");
            size += records * (value_size as u64 + 16);
            while partition.append(&batch, &ack).is_err() {
                drive.settle().expect("a healthy disk");
            }
            if count % (records * 64) == 0 {
                drive.commit().expect("a healthy disk");
            }
        }
        drive.settle().expect("a healthy disk");
        // What was queued behind a full WAL is in no checkpoint yet.
        drive.settle().expect("a healthy disk");
        let clock = engine.clock().clone();
        let (began, spent) = (clock.monotonic(), cpu());
        let mut read = Vec::new();
        while drive.compact() {
            read.push(engine.stats().compaction_read_bytes);
            while drive.commit().expect("a healthy disk") {}
        }
        let (took, spent) = (clock.monotonic() - began, cpu() - spent);
        let stats = engine.stats();
        let mb = stats.compaction_read_bytes as f64 / 2e6;
        println!(
            "{what}: {mb:.0} MB, {count} records; {} passes, {} dropped, {:.0} MB written, {:.1} MiB map; {:.2} s, {:.2} s CPU, {:.0} MB/s",
            stats.compactions,
            stats.compaction_dropped_records,
            stats.compaction_written_bytes as f64 / 1e6,
            stats.compaction_map_bytes as f64 / f64::from(1 << 20),
            took.as_secs_f64(),
            spent.as_secs_f64(),
            mb / took.as_secs_f64(),
        );
    }
}
