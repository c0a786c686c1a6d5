//! Rounds of load, kill, restart and comparison.

use crate::churn::{self, Done};
use crate::model::Model;
use crate::producer::Producer;
use crate::{tail, verify};
use anyhow::{Context, Result, ensure};
use headwater_engine::env::sim::SimRng;
use headwater_tests::calls;
use headwater_tests::client::Client;
use headwater_tests::server::{Server, Setup};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// A partition that holds more is trimmed between two rounds, so that comparing stays quick.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// A test.
pub struct Plan {
    pub test: &'static str,
    pub rounds: u32,
    pub options: &'static [(&'static str, &'static str)],
    /// How many batches are large, as a part of all.
    pub large_share: f64,
    /// Large batches of a round take about so many bytes in all; small ones go on for as long as the round does.
    pub large_bytes: i64,
    /// What the server must have logged in some round: else the test would not have met what it is for.
    pub logged: Option<&'static str>,
}

impl Plan {
    /// What tests have where they ask for nothing else.
    pub const USUAL: Plan =
        Plan { test: "", rounds: 0, options: &[], large_share: 0.2, large_bytes: 24 << 20, logged: None };
}

type Settings = &'static [(&'static str, &'static str)];

/// Topics that live through all rounds: name, partitions, settings.
const STEADY: [(&str, i32, Settings); 3] = [
    ("steady-one", 1, &[]),
    ("steady-rolling", 3, &[("segment.bytes", "1048576")]),
    ("steady-wide", 12, &[("batch.validation", "header")]),
];

/// Runs it; a failure panics.
pub fn run(plan: &Plan) {
    let _alone = headwater_tests::alone();
    let draw = headwater_tests::draw(plan.test);
    let mut setup = Setup::new(Path::new(crate::FOLDER)).expect("a folder");
    for (name, value) in plan.options {
        setup = setup.option(name, value);
    }
    if let Err(error) = rounds(plan, &setup, &draw) {
        panic!("{error:?}");
    }
}

fn rounds(plan: &Plan, setup: &Setup, draw: &SimRng) -> Result<()> {
    let begun = Instant::now();
    let mut model = Model::default();
    let mut producers: Vec<Producer> = (0..4)
        .map(|number| {
            let name = format!("producer-{number}");
            Producer::new(name, SimRng::new(draw.next_u64()), number % 2 == 0, plan.large_share)
        })
        .collect();
    let (mut totals, mut slowest) = (Totals::default(), Duration::ZERO);
    for round in 0..plan.rounds {
        let server = start(setup, draw, round).with_context(|| format!("starting round {round}"))?;
        let compared = Instant::now();
        if round == 0 {
            let mut client = Client::connect(server.kafka)?;
            for (name, partitions, settings) in STEADY {
                let (code, id) = calls::create_topic(&mut client, name, partitions, settings)?;
                ensure!(code == 0, "creating {name} is answered with error {code}");
                model.add(id, name, partitions as usize, true)?;
            }
        }
        let found = verify::check(server.kafka, &mut model).with_context(|| format!("after round {round}"))?;
        let compared = compared.elapsed();
        if found.bytes > LOG_BYTES_MAX {
            trim(server.kafka, &mut model)?;
        }
        slowest = slowest.max(server.ready_after);
        let ready = server.ready_after;
        let load = load(server, &mut model, &mut producers, draw, plan.large_bytes)
            .with_context(|| format!("in round {round}"))?;
        totals.add(&load, found.survivors, found.vanished);
        println!(
            "{} {round:3}: ready in {ready:4.0?}, compared {} batches, {} MB in {compared:.0?} ({} of the unanswered there, \
             {} not); {} after {:.0?}: {} batches, {} MB acknowledged, {:?}",
            plan.test,
            found.batches,
            found.bytes / 1_000_000,
            found.survivors,
            found.vanished,
            if load.killed { "killed" } else { "ended" },
            load.lasted,
            load.acknowledged.0,
            load.acknowledged.1 / 1_000_000,
            load.done,
        );
    }
    finish(setup, &mut model, &mut producers).context("at the end")?;
    setup.check_log()?;
    if let Some(text) = plan.logged {
        ensure!(setup.log_text().contains(text), "the server never logged {text:?}");
    }
    let repeated: u64 = producers.iter().map(|producer| producer.repeated).sum();
    println!(
        "{}: {} rounds in {:.1?}, ready within {slowest:.0?}; {totals:?}; {repeated} batches were sent again and were there",
        plan.test,
        plan.rounds,
        begun.elapsed()
    );
    Ok(())
}

#[derive(Debug, Default)]
#[allow(dead_code, reason = "they are printed")]
struct Totals {
    batches: u64,
    bytes: u64,
    survivors: u64,
    vanished: u64,
}

impl Totals {
    fn add(&mut self, load: &Load, survivors: u64, vanished: u64) {
        self.batches += load.acknowledged.0;
        self.bytes += load.acknowledged.1;
        self.survivors += survivors;
        self.vanished += vanished;
    }
}

/// Starts the server; now and then it is killed while it recovers, and started again.
fn start(setup: &Setup, draw: &SimRng, round: u32) -> Result<Server> {
    while round > 0 && draw.chance(0.3) {
        setup.start_and_kill(Duration::from_millis(draw.below(120)))?;
    }
    setup.start()
}

struct Load {
    lasted: Duration,
    killed: bool,
    acknowledged: (u64, u64),
    done: Done,
}

/// Loads the server, and kills it after a while. One time in ten it is asked to end instead.
fn load(
    server: Server,
    model: &mut Model,
    producers: &mut [Producer],
    draw: &SimRng,
    large_bytes: i64,
) -> Result<Load> {
    let address = server.kafka;
    let lasts = Duration::from_millis(if draw.chance(0.25) { draw.below(60) } else { draw.below(1_200) });
    let killed = draw.chance(0.9);
    let shared = Mutex::new(std::mem::take(model));
    let (stop, allowance) = (AtomicBool::new(false), AtomicI64::new(large_bytes));
    let mut done = Done::default();
    let begun = Instant::now();
    let outcome = thread::scope(|scope| -> Result<Duration> {
        let (shared, stop, allowance, done) = (&shared, &stop, &allowance, &mut done);
        let mut threads = Vec::new();
        for producer in producers {
            let run = move || producer.run(address, shared, stop, allowance);
            threads.push(Builder::new().name("producer".into()).spawn_scoped(scope, run)?);
        }
        let own = SimRng::new(draw.next_u64());
        let run = move || churn::run(address, shared, stop, &own, done);
        threads.push(Builder::new().name("churn".into()).spawn_scoped(scope, run)?);
        let own = SimRng::new(draw.next_u64());
        let run = move || tail::run(address, shared, stop, &own);
        threads.push(Builder::new().name("consumer".into()).spawn_scoped(scope, run)?);
        thread::sleep(lasts);
        let lasted = begun.elapsed();
        let ended = if killed { server.kill() } else { server.terminate().map(|_| ()) };
        if ended.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        ended.map(|()| lasted)
    });
    *model = shared.into_inner().map_err(|_| anyhow::anyhow!("a client panicked"))?;
    let acknowledged = std::mem::take(&mut model.acknowledged);
    Ok(Load { lasted: outcome?, killed, acknowledged, done })
}

/// Deletes most records of every topic.
fn trim(address: SocketAddr, model: &mut Model) -> Result<()> {
    let mut client = Client::connect(address)?;
    for topic in model.topics.values_mut() {
        for (index, partition) in topic.partitions.iter_mut().enumerate() {
            let keep = partition.kept.len() / 8;
            let Some((&offset, _)) = partition.kept.iter().rev().nth(keep) else { continue };
            let (code, start) = calls::delete_records(&mut client, &topic.name, index as i32, offset)?;
            ensure!(code == 0 && start == offset, "{}-{index} is trimmed to {start}, error {code}", topic.name);
            (partition.start_min, partition.start_max) = (start, start);
            partition.forget_below(start);
        }
    }
    Ok(())
}

/// Everything that is still unacknowledged is sent again; then all of it is there, also after a clean end.
fn finish(setup: &Setup, model: &mut Model, producers: &mut [Producer]) -> Result<()> {
    let server = setup.start()?;
    verify::check(server.kafka, model)?;
    let shared = Mutex::new(std::mem::take(model));
    let (stop, allowance) = (AtomicBool::new(true), AtomicI64::new(0));
    for producer in producers.iter_mut() {
        producer.run(server.kafka, &shared, &stop, &allowance)?;
        ensure!(producer.is_done(), "batches were not acknowledged at the end");
    }
    *model = shared.into_inner().map_err(|_| anyhow::anyhow!("a client panicked"))?;
    let found = verify::check(server.kafka, model)?;
    ensure!(found.survivors == 0 && found.vanished == 0, "unacknowledged batches remain: {found:?}");
    server.terminate()?;
    let server = setup.start()?;
    verify::check(server.kafka, model)?;
    server.terminate()?;
    Ok(())
}
