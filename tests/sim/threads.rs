//! The engine with its own threads, several producers and readers, and a machine that stops under them.

use crate::batches::{Recipe, Stored};
use crate::draw::{Draw, mix};
use crate::expectation::{read, read_all};
use headwater_engine::env::sim::{self, FaultOp, SimClock, SimDisk, SimRng};
use headwater_engine::env::{Env, RealClock};
use headwater_engine::{
    Ack, AppendError, Durability, Engine, GatherBounds, NewTopic, Offset, Options, Partition, ReadRequest, Stopped,
    TopicError,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

const PRODUCERS: u64 = 3;
const PARTITIONS: u32 = 4;
/// Whoever has to wait longer waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

fn options(durability: Durability) -> Options {
    Options {
        durability,
        wal_size_initial: 128 << 10,
        wal_size_max: 512 << 10,
        checkpoint_bytes: 64 << 10,
        checkpoint_interval: Duration::from_millis(20),
        retention_interval: Duration::from_millis(10),
        disk_reserve_bytes: 0,
        replay_threads: 1,
        gathers: GatherBounds { piece: 4096, files: 2, waiting: 8 << 10, readers_stay: Duration::ZERO },
        ..Options::new("data".into())
    }
}

/// What was answered, by partition.
type Answered = Vec<(u32, Stored)>;

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> (JoinHandle<()>, mpsc::Receiver<T>) {
    let (done, result) = mpsc::channel();
    let run = move || done.send(work()).unwrap_or_default();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread");
    (thread, result)
}

/// Waits for an answer, but not for ever.
fn wait(ack: &Ack) -> Result<(), Stopped> {
    let (sender, outcome) = mpsc::channel();
    if let Some(outcome) = ack.poll_done() {
        return outcome;
    }
    let waiting = ack.clone();
    let run = move || sender.send(waiting.wait_blocking()).unwrap_or_default();
    std::thread::Builder::new().name("ack".to_owned()).spawn(run).expect("a thread");
    outcome.recv_timeout(PATIENCE).expect("whoever waits is told")
}

fn produce(engine: &Engine, partitions: &[Arc<Partition>], seed: u64, stop: &AtomicBool) -> Answered {
    let draw = Draw::new(seed);
    let mut answered = Vec::new();
    let mut salt = seed << 32;
    while !stop.load(Ordering::Relaxed) {
        let ack = engine.ack();
        let mut sent = Vec::new();
        for _ in 0..draw.within(1..=5) {
            salt += 1;
            let recipe = Recipe { value_size: draw.below(2_000), ..Recipe::small(engine.clock().wall().0, salt) };
            let (batch, partition) = (recipe.build(), &partitions[draw.below(partitions.len() as u64) as usize]);
            match partition.append(&batch, &ack) {
                Ok(appended) => {
                    let stored =
                        Stored::new(&batch, appended.base_offset.0, engine.node_epoch(), appended.append_time, 0);
                    sent.push((partition.index(), stored));
                }
                Err(AppendError::Busy) => std::thread::sleep(Duration::from_millis(1)),
                Err(AppendError::Stopped) => return answered,
                Err(error) => panic!("{error}"),
            }
        }
        match wait(&ack) {
            Ok(()) => answered.extend(sent),
            Err(Stopped) => return answered,
        }
    }
    answered
}

/// Reads to the end again and again: offsets without a gap, nothing beyond what is durable.
fn consume(partition: &Arc<Partition>, stop: &AtomicBool) -> Result<i64, String> {
    let mut from = Offset(0);
    while !stop.load(Ordering::Relaxed) {
        let request = ReadRequest { from, bytes_max: 10_000, at_least_one: true, stable_only: false };
        let (bytes, next) = match read(partition, &request) {
            Ok(read) => read,
            // The machine has stopped.
            Err(why) if why.contains("stopped") => return Ok(from.0),
            Err(why) => return Err(why),
        };
        let mut expected = from;
        for (_, header) in headwater_engine::batch::headers(&bytes) {
            if header.base_offset > expected {
                return Err(format!("offset {} follows {expected}", header.base_offset));
            }
            expected = header.next_offset();
        }
        if expected != next && !bytes.is_empty() {
            return Err(format!("a read that ends at {expected} is said to end at {next}"));
        }
        from = next;
        std::thread::yield_now();
    }
    Ok(from.0)
}

/// Makes and deletes topics. Gives those whose creation was answered last, and those whose deletion was.
fn administer(engine: &Engine, seed: u64, stop: &AtomicBool) -> BTreeMap<String, bool> {
    let draw = Draw::new(seed);
    let mut known = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let name = draw.pick(&["a", "b", "c"]);
        let there = engine.topic(name);
        known.remove(name);
        let outcome = match &there {
            None => engine
                .create_topic(NewTopic { name: name.to_owned(), partitions: 1, ..NewTopic::default() })
                .wait_blocking()
                .map(|_| true),
            Some(topic) => engine.delete_topic(topic.id()).wait_blocking().map(|()| false),
        };
        match outcome {
            Ok(exists) => {
                known.insert(name.to_owned(), exists);
            }
            Err(TopicError::Stopped) => return known,
            Err(TopicError::Busy) => {}
            Err(error) => panic!("{error}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    known
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// The machine stops after so many operations.
    Stops(u64),
    /// The process is killed.
    Killed,
    /// The engine is shut down under load.
    ShutDown,
}

fn run(seed: u64, durability: Durability, ending: Ending) {
    let disk = SimDisk::new(seed);
    let env =
        Env { disk: Arc::new(disk.clone()), clock: Arc::new(RealClock::default()), rng: Arc::new(SimRng::new(seed)) };
    let engine = Engine::open(env, options(durability)).expect("an empty folder");
    engine.start().expect("threads");
    let settings = [("segment.bytes".to_owned(), "20000".to_owned())].into();
    let new = NewTopic { name: "orders".to_owned(), partitions: PARTITIONS, settings };
    let topic = engine.create_topic(new).wait_blocking().expect("a new topic");
    let partitions = topic.partitions().to_vec();
    if let Ending::Stops(after) = ending {
        disk.stop_after(disk.ops() + after);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut producers = Vec::new();
    for number in 0..PRODUCERS {
        let (engine, partitions, stop) = (engine.clone(), partitions.clone(), stop.clone());
        producers.push(spawn("producer", move || produce(&engine, &partitions, mix(seed, number), &stop)));
    }
    let (partition, stopping) = (partitions[0].clone(), stop.clone());
    let consumer = spawn("consumer", move || consume(&partition, &stopping));
    let (administered, stopping) = (engine.clone(), stop.clone());
    let admin = spawn("admin", move || administer(&administered, seed, &stopping));

    let image = match ending {
        Ending::Stops(_) => {
            let (told, hears) = mpsc::channel();
            engine.on_failure(Box::new(move |why| told.send(why.to_owned()).unwrap_or_default()));
            let why = hears.recv_timeout(PATIENCE).expect("a stopped machine stops the engine");
            assert_eq!(engine.failure(), Some(why));
            None
        }
        Ending::Killed => {
            std::thread::sleep(Duration::from_millis(100));
            None
        }
        Ending::ShutDown => {
            std::thread::sleep(Duration::from_millis(100));
            engine.shut_down().expect("a healthy engine");
            Some(disk.kill_image())
        }
    };
    stop.store(true, Ordering::Relaxed);
    let mut answered = Answered::new();
    for (thread, result) in producers {
        answered.extend(result.recv_timeout(PATIENCE).expect("a producer ends"));
        thread.join().expect("no panic");
    }
    let seen = consumer.1.recv_timeout(PATIENCE).expect("a consumer ends").expect("what is read is right");
    let topics = admin.1.recv_timeout(PATIENCE).expect("the administrator ends");
    assert!(!answered.is_empty(), "{ending:?}: something was answered");

    let images = match image {
        Some(image) => vec![image],
        None if durability == Durability::Os => vec![disk.kill_image()],
        None => (0..4).map(|number| disk.crash_image(mix(seed, number))).chain([disk.kill_image()]).collect(),
    };
    if ending == Ending::Killed {
        engine.shut_down().expect("a healthy engine");
    }
    for image in images {
        let again = Engine::open(sim::env_on(&image, &SimClock::default(), seed), options(durability));
        let again = again.expect("a stopped folder opens");
        check(&again, &answered, seen, &topics);
    }
}

fn check(engine: &Engine, answered: &Answered, seen: i64, topics: &BTreeMap<String, bool>) {
    let topic = engine.topic("orders").expect("its creation was answered");
    for index in 0..PARTITIONS {
        let partition = topic.partition(index).expect("it has as many");
        let all = read_all(&partition).expect("readable");
        let mut places = BTreeMap::new();
        let mut next = Offset(0);
        for (position, header) in headwater_engine::batch::headers(&all) {
            assert_eq!(header.base_offset, next, "offsets have no gaps");
            next = header.next_offset();
            places.insert(header.base_offset.0, position);
        }
        for (_, batch) in answered.iter().filter(|(at, _)| *at == index) {
            let position = places.get(&batch.base).unwrap_or_else(|| panic!("offset {} was answered", batch.base));
            assert!(all[*position..].starts_with(&batch.bytes), "offset {} holds another batch", batch.base);
        }
        assert!(index != 0 || next.0 >= seen, "what was read up to {seen} ends at {next}");
    }
    for (name, exists) in topics {
        assert_eq!(engine.topic(name).is_some(), *exists, "topic {name}");
    }
}

/// Runs of the kind, more of them in the long form.
fn runs() -> u64 {
    if crate::is_long() { 200 } else { 6 }
}

#[test]
fn a_machine_that_stops_under_threads_loses_nothing() {
    for seed in 0..runs() {
        run(seed, Durability::Fsync, Ending::Stops(Draw::new(seed).within(30..=800)));
    }
}

#[test]
fn a_killed_process_loses_nothing() {
    for seed in 0..runs() / 2 {
        run(100 + seed, Durability::Fsync, Ending::Killed);
        run(200 + seed, Durability::Os, Ending::Killed);
    }
}

#[test]
fn a_shut_down_under_load_keeps_what_was_answered() {
    for seed in 0..runs() / 2 {
        run(300 + seed, Durability::Fsync, Ending::ShutDown);
        run(400 + seed, Durability::Os, Ending::ShutDown);
    }
}

/// The committer waits for a place in the WAL that only a checkpoint can free, and the checkpoint fails. It went on waiting,
/// and with it everybody whose batches were queued.
#[test]
fn a_failed_checkpoint_behind_a_full_wal_leaves_nobody_waiting() {
    let disk = SimDisk::new(1);
    let clock = Arc::new(RealClock::default());
    let env = Env { disk: Arc::new(disk.clone()), clock, rng: Arc::new(SimRng::new(1)) };
    let never = Duration::from_secs(3_600);
    let options = Options { wal_size_max: 128 << 10, checkpoint_interval: never, ..options(Durability::Fsync) };
    let engine = Engine::open(env, options).expect("an empty folder");
    engine.start().expect("threads");
    let new = NewTopic { name: "orders".to_owned(), partitions: 1, ..NewTopic::default() };
    let partition = engine.create_topic(new).wait_blocking().expect("a new topic").partition(0).expect("it has one");
    disk.inject_eio(FaultOp::Sync, 1, |path| path.starts_with("data/checkpoints"));
    let mut acks = Vec::new();
    while engine.failure().is_none() {
        let ack = engine.ack();
        let recipe = Recipe { value_size: 3_000, ..Recipe::small(engine.clock().wall().0, acks.len() as u64) };
        if partition.append(&recipe.build(), &ack).is_ok() {
            acks.push(ack);
        }
        assert!(acks.len() < 100_000, "the WAL is full long before");
    }
    let outcomes: Vec<_> = acks.iter().map(wait).collect();
    let answered = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
    assert!(answered < outcomes.len(), "the last ones find no place");
    assert!(outcomes[answered..].iter().all(Result::is_err), "answers come in order");
    assert!(engine.shut_down().is_err());
    assert_eq!(partition.append(&Recipe::small(0, 0).build(), &engine.ack()), Err(AppendError::Stopped));
}
