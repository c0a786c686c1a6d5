//! `headwater bench compare` and the sink that stands beside the servers.

use super::load::name_value;
use super::output::{Output, print};
use crate::compare::case::{Case, NAMES, Size};
use crate::compare::plots::plots;
use crate::compare::run::{self, Plan};
use crate::compare::server::{Kind, Site};
use crate::compare::sink;
use crate::kafka::Error;
use crate::report::write;
use clap::Args;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::{env, fs, io, process};

/// Compares servers under the same load, round by round.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The servers, the first being what the others are compared to: kafka, kafka-flush (syncs each batch), headwater,
    /// headwater-os, sink (answers, stores nothing), which are started and ended; or NAME=HOST:PORT@PID for one that runs
    #[arg(long, value_name = "SERVER", value_delimiter = ',', default_value = "kafka,headwater", value_parser = Kind::parse)]
    servers: Vec<Kind>,
    /// The loads, in the order in which a round runs them
    #[arg(long, value_name = "CASE", value_delimiter = ',', default_value = "produce-64k,fetch-64k,e2e-ping", value_parser = case)]
    cases: Vec<Case>,
    /// How many rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Megabytes of values produced in a round, and read by a fetch
    #[arg(long, value_name = "MB", default_value_t = 1000)]
    round_mb: u64,
    /// Megabytes of values produced and fetched before the first round, shared by the cases
    #[arg(long, value_name = "MB", default_value_t = 3000)]
    warm_mb: u64,
    /// How long an end-to-end case takes
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    seconds: f64,
    /// Producing connections
    #[arg(long, value_name = "N", default_value_t = 4)]
    producers: usize,
    /// Produce requests in flight on each
    #[arg(long, value_name = "N", default_value_t = 4)]
    in_flight: usize,
    /// Fetching connections
    #[arg(long, value_name = "N", default_value_t = 2)]
    consumers: usize,
    /// How often a round's records are fetched
    #[arg(long, value_name = "N", default_value_t = 3)]
    passes: u32,
    /// Measure fetches without reading everything once before: from wherever a server has put it, the disk maybe
    #[arg(long)]
    cold_fetch: bool,
    /// Wait this long after producing before CPU time is read, so that work put off counts
    #[arg(long, value_name = "MS", default_value_t = 1500)]
    settle_ms: u64,
    /// Delete what a round produced behind it. Else it stays until the end, as the disk's work on freed blocks would be measured with the next rounds
    #[arg(long)]
    delete: bool,
    /// A setting of Apache Kafka
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_value)]
    kafka_config: Vec<(String, String)>,
    /// A setting of the topics on Apache Kafka
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_value)]
    kafka_topic_config: Vec<(String, String)>,
    /// An option for `headwater serve`, as in --headwater-option=--log=debug
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    headwater_option: Vec<String>,
    /// The `headwater` program to compare (default: this one)
    #[arg(long, value_name = "FILE")]
    headwater: Option<PathBuf>,
    /// The CPU of the servers
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    server_cpu: usize,
    /// The CPU of the generator
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    generator_cpu: usize,
    /// Leave servers and generator on any CPU
    #[arg(long)]
    no_pin: bool,
    /// Servers keep their data in a temporary folder in this one, which must lie on the disk that is to be measured
    #[arg(long, value_name = "FOLDER", default_value_os_t = env::temp_dir())]
    dir: PathBuf,
    /// Write the result as JSON and Markdown, with plots, into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// What those files are called
    #[arg(long, default_value = "compare")]
    name: String,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn case(name: &str) -> Result<Case, String> {
    Case::named(name).ok_or_else(|| format!("is none of {}", NAMES.join(", ")))
}

impl CompareArgs {
    /// Compares.
    pub fn run(&self) -> Result<(), Error> {
        let headwater = match &self.headwater {
            Some(path) => path.canonicalize()?,
            None => env::current_exe()?,
        };
        let dir = self.dir.canonicalize()?.join(format!("headwater-compare-{}", process::id()));
        fs::create_dir(&dir)?;
        let plan = Plan {
            servers: self.servers.clone(),
            cases: self.cases.clone(),
            rounds: self.rounds,
            size: Size {
                round_bytes: self.round_mb * 1_000_000,
                passes: self.passes,
                cold_fetch: self.cold_fetch,
                seconds: self.seconds,
                producers: self.producers,
                in_flight: self.in_flight,
                consumers: self.consumers,
                settle_ms: self.settle_ms,
                deletes: self.delete,
            },
            warm_bytes: self.warm_mb * 1_000_000,
            generator_cpu: (!self.no_pin).then_some(self.generator_cpu),
            site: Site {
                dir: dir.clone(),
                server_cpu: (!self.no_pin).then_some(self.server_cpu),
                headwater,
                kafka_config: self.kafka_config.clone(),
                kafka_topic_config: self.kafka_topic_config.clone(),
                headwater_options: self.headwater_option.clone(),
            },
        };
        let compared = run::run(plan);
        if let Err(error) = fs::remove_dir_all(&dir)
            && error.kind() != ErrorKind::NotFound
        {
            eprintln!("{} is left behind: {error}", dir.display());
        }
        let compared = compared?;
        if let Some(out) = &self.out {
            let base =
                write(out, &compared.about.date, &self.name, &compared.markdown(), &plots(&compared), &compared)?;
            eprintln!("written: {}.json and .md, with plots", base.display());
        }
        print(self.output, &compared, || compared.tables())
    }
}

/// Answers producers and stores nothing, to measure what a load costs by itself.
#[derive(Debug, Args)]
pub struct SinkArgs {
    /// Where it listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

impl SinkArgs {
    /// Serves until it is ended.
    pub fn run(&self) -> Result<(), Error> {
        sink::serve(self.listen, |address| {
            let mut out = io::stdout().lock();
            writeln!(out, "ready {address}")?;
            out.flush()
        })
    }
}
