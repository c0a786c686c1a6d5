//! `headwater bench` with a scenario.

use super::broker::Broker;
use super::load::{ConsumeOptions, ProduceOptions, seconds};
use super::output::{Output, print};
use crate::kafka::Error;
use crate::kafka::batch::Shape;
use crate::load::end_to_end;
use crate::load::phase::{Phase, Watch};
use crate::load::producer::Plan;
use crate::load::schedule::Rate;
use crate::report::{About, Report};
use crate::scenario::shards::Verdict;
use crate::{load, scenario};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Where the load goes, and where the result.
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    broker: Broker,
    /// The server's process id, to report its CPU time and memory; it must run on this machine
    #[arg(long)]
    pid: Option<u32>,
    /// Wait this long at the end of a phase before CPU time is read, so that work put off counts
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    settle: f64,
    /// What the broker promises when it acknowledges, in words, for the result
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    durability: String,
    /// Also write the result as JSON and Markdown, with plots, into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// What those files are called (default: the scenario)
    #[arg(long)]
    name: Option<String>,
    /// No line for each second
    #[arg(long, short)]
    quiet: bool,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Common {
    fn watch(&self) -> Result<Watch, Error> {
        Ok(Watch { pid: self.pid, progress: !self.quiet, settle: seconds(self.settle)?, write_back: false })
    }

    fn report(&self, scenario: &str, settings: serde_json::Value, phases: Vec<Phase>) -> Result<(), Error> {
        self.report_with(scenario, settings, phases, None)
    }

    fn report_with(
        &self,
        scenario: &str,
        settings: serde_json::Value,
        phases: Vec<Phase>,
        verdict: Option<Verdict>,
    ) -> Result<(), Error> {
        let report = Report {
            scenario: scenario.into(),
            about: About::here(self.out.as_deref().unwrap_or_else(|| ".".as_ref())),
            durability: self.durability.clone(),
            settings,
            phases,
            verdict,
        };
        if let Some(out) = &self.out {
            let base = report.write(out, self.name.as_deref().unwrap_or(scenario))?;
            eprintln!("written: {}.json and .md, with plots", base.display());
        }
        print(self.output, &report, || report.table())
    }
}

/// Options of `produce`, `partitions` and `end-to-end`'s producing half.
#[derive(Debug, Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    produce: ProduceOptions,
}

impl ProduceArgs {
    /// Four partitions, four producers, batches of 64 KiB, as fast as they are acknowledged, 1 GB.
    pub fn produce(&self) -> Result<(), Error> {
        self.run("produce", |plan| Plan { total_bytes: 1_000_000_000, ..plan })
    }

    /// A thousand partitions with a record for each in turn, 20 MB/s in all.
    pub fn partitions(&self) -> Result<(), Error> {
        self.run("partitions", |plan| Plan {
            partitions: 1000,
            connections: 4,
            in_flight: 16,
            partitions_a_request: 50,
            shape: Shape { records: Some(1), batch_bytes: 16 << 10, ..plan.shape },
            rate: Rate::Bytes(20e6),
            owned: true,
            duration: Duration::from_secs(30),
            ..plan
        })
    }

    fn run(&self, name: &str, defaults: impl FnOnce(Plan) -> Plan) -> Result<(), Error> {
        let address = self.common.broker.address()?;
        let plan = self.produce.plan(address, defaults(Plan::new(address, &self.produce.topic)))?;
        let phase = scenario::produce(name, &plan, &self.common.watch()?)?;
        self.common.report(name, json!({ "produce": plan }), vec![phase])
    }
}

/// Options of `shards`.
#[derive(Debug, Args)]
pub struct ShardsArgs {
    /// How many shards: partitions, each with its own stream of records
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i32).range(1..))]
    shards: i32,
    /// The same load for so long first, which is not counted
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    warm_up: f64,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    produce: ProduceOptions,
}

/// The same load before what is counted: a server that has just made a topic has files to make, and a log to grow.
fn warm_up(plan: &Plan, for_seconds: f64) -> Result<(), Error> {
    let duration = seconds(for_seconds)?;
    if duration > Duration::ZERO {
        scenario::produce("warm-up", &Plan { duration, ..plan.clone() }, &Watch::default())?;
    }
    Ok(())
}

impl ShardsArgs {
    /// So many shards of 1 MB/s: five records of 1 KiB every 5.12 ms for each, ten shards to a producer, whose request carries
    /// the batches of all its shards, as a client's does whose linger is 5 ms.
    pub fn run(&self) -> Result<(), Error> {
        let address = self.common.broker.address()?;
        let shards = self.produce.partitions.unwrap_or(self.shards);
        let plan = Plan::new(address, &self.produce.topic);
        // Ten shards to a connection, one more connection for what is left over.
        let connections = usize::try_from(shards).unwrap_or(1).div_ceil(10);
        let defaults = Plan {
            partitions: shards,
            connections,
            in_flight: 5,
            partitions_a_request: usize::try_from(shards).unwrap_or(1) / connections,
            owned: true,
            shape: Shape { records: Some(5), batch_bytes: 16 << 10, ..plan.shape },
            rate: Rate::Bytes(f64::from(shards) * 1e6),
            linger: Duration::from_millis(5),
            duration: Duration::from_secs(60),
            ..plan
        };
        let plan = self.produce.plan(address, defaults)?;
        warm_up(&plan, self.warm_up)?;
        let phase = scenario::produce("shards", &plan, &self.common.watch()?)?;
        let verdict = Verdict::of(&plan, &phase);
        let settings = json!({ "shards": shards, "warm_up_s": self.warm_up, "produce": plan });
        self.common.report_with("shards", settings, vec![phase], verdict)
    }
}

/// Options of `consume`.
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    produce: ProduceOptions,
    #[command(flatten)]
    consume: ConsumeOptions,
    /// How often everything is read
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    passes: u32,
}

impl ConsumeArgs {
    /// Reads a topic; an empty one is filled first.
    pub fn run(&self) -> Result<(), Error> {
        let (address, watch) = (self.common.broker.address()?, self.common.watch()?);
        let fill = Plan { total_bytes: 1_000_000_000, ..Plan::new(address, &self.produce.topic) };
        let fill = self.produce.plan(address, fill)?;
        let plan = load::consumer::Plan { passes: self.passes, ..self.consume.plan(address, &self.produce.topic) };
        let mut phases: Vec<Phase> = scenario::fill(&fill, &watch)?.into_iter().collect();
        phases.push(scenario::consume("consume", &plan, &watch)?);
        self.common.report("consume", json!({ "fill": fill, "consume": plan }), phases)
    }
}

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    produce: ProduceOptions,
    #[command(flatten)]
    consume: ConsumeOptions,
    /// Begin each range at the time of its first record, not at its offset
    #[arg(long)]
    by_time: bool,
    /// Throw the server's files below this folder out of the page cache first
    #[arg(long, value_name = "FOLDER")]
    drop_cache: Option<PathBuf>,
}

impl ReplayArgs {
    /// Reads a topic once, from its beginning; an empty one is filled first, with batches that have their own times.
    pub fn run(&self) -> Result<(), Error> {
        let (address, watch) = (self.common.broker.address()?, self.common.watch()?);
        let fill = Plan { total_bytes: 1_000_000_000, stamp: true, ..Plan::new(address, &self.produce.topic) };
        let fill = self.produce.plan(address, fill)?;
        let plan = load::consumer::Plan { by_time: self.by_time, ..self.consume.plan(address, &self.produce.topic) };
        let mut phases: Vec<Phase> = scenario::fill(&fill, &watch)?.into_iter().collect();
        if let Some(folder) = &self.drop_cache {
            scenario::drop_cache(folder)?;
        }
        phases.push(scenario::consume("replay", &plan, &watch)?);
        let settings = json!({ "fill": fill, "replay": plan, "cold": self.drop_cache.is_some() });
        self.common.report("replay", settings, phases)
    }
}

/// Options of `mixed`.
#[derive(Debug, Args)]
pub struct MixedArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    produce: ProduceOptions,
    #[command(flatten)]
    consume: ConsumeOptions,
    /// The topic that is replayed; filled first when it is empty
    #[arg(long, value_name = "TOPIC", default_value = "bench-replayed")]
    replayed: String,
    /// Megabytes of values that an empty one is filled with
    #[arg(long, value_name = "MB", default_value_t = 1000)]
    replayed_megabytes: u64,
}

impl MixedArgs {
    /// Produces 20 MB/s for half a minute alone, and again beside a replay.
    pub fn run(&self) -> Result<(), Error> {
        let (address, watch) = (self.common.broker.address()?, self.common.watch()?);
        let plan = Plan::new(address, &self.produce.topic);
        let defaults = Plan {
            rate: Rate::Bytes(20e6),
            duration: Duration::from_secs(30),
            shape: Shape { batch_bytes: 16 << 10, ..plan.shape },
            ..plan
        };
        let produce = self.produce.plan(address, defaults)?;
        let fill = Plan { total_bytes: self.replayed_megabytes * 1_000_000, ..Plan::new(address, &self.replayed) };
        let replayed = self.consume.plan(address, &self.replayed);
        let mut phases: Vec<Phase> = scenario::fill(&fill, &watch)?.into_iter().collect();
        phases.extend(scenario::mixed(&produce, &replayed, &watch)?);
        self.common.report("mixed", json!({ "produce": produce, "fill": fill, "replay": replayed }), phases)
    }
}

/// Options of `end-to-end`.
#[derive(Debug, Args)]
pub struct EndToEndArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    produce: ProduceOptions,
    #[command(flatten)]
    consume: ConsumeOptions,
}

impl EndToEndArgs {
    /// 500 records a second, each a batch, to one partition, for half a minute; with the rate `max` one after the other.
    pub fn run(&self) -> Result<(), Error> {
        let address = self.common.broker.address()?;
        let plan = Plan::new(address, &self.produce.topic);
        let defaults = Plan {
            partitions: 1,
            connections: 1,
            in_flight: 5,
            owned: true,
            shape: Shape { records: Some(1), batch_bytes: 16 << 10, ..plan.shape },
            rate: Rate::Records(500.0),
            duration: Duration::from_secs(30),
            ..plan
        };
        let produce = self.produce.plan(address, defaults)?;
        let consume = self.consume.plan(address, &self.produce.topic);
        let phase = end_to_end::end_to_end(&produce, &consume, &self.common.watch()?)?;
        self.common.report("end-to-end", json!({ "produce": produce, "consume": consume }), vec![phase])
    }
}
