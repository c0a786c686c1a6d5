//! Headwater and Apache Kafka side by side: server CPU per gigabyte, rates and latencies of produce and fetch.
//!
//! Fetches Apache Kafka into the user's cache folder at the first run, builds Headwater unless a program is given, starts
//! both on loopback with data in a temporary folder, and cleans up. Writes `<out>/<date>-<name>.json` and `.md`.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock and the real disk")]

use clap::Parser;
use headwater_benches::compare::report::{Comparison, Contender, line};
use headwater_benches::compare::scenario::Load;
use headwater_benches::compare::server::{Kind, Server, Site, kafka_version};
use headwater_benches::machine::{self, Machine};
use headwater_benches::sys;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitCode};
use std::{env, fs, io};

/// Compares servers under the same load.
#[derive(Parser)]
struct Args {
    /// The servers; the first is what the others are compared to.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kafka,headwater")]
    servers: Vec<Kind>,
    /// The `headwater` program (default: built from this repository).
    #[arg(long)]
    headwater: Option<PathBuf>,
    /// How many rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Megabytes produced in a round.
    #[arg(long, default_value_t = 1000)]
    round_mb: u64,
    /// Megabytes produced and fetched before the first round.
    #[arg(long, default_value_t = 3000)]
    warm_mb: u64,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    /// Bytes of a batch, at most.
    #[arg(long, default_value_t = 65536)]
    batch_bytes: usize,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Producing connections.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Produce requests in flight on each.
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// Fetching connections.
    #[arg(long, default_value_t = 2)]
    fetch_connections: usize,
    /// How often a round's records are fetched.
    #[arg(long, default_value_t = 3)]
    fetch_passes: u32,
    /// The CPU of the servers.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// The CPU of the generator.
    #[arg(long, default_value_t = 1)]
    generator_cpu: usize,
    /// Leaves servers and generator on any CPU.
    #[arg(long)]
    no_pin: bool,
    /// Servers keep their data in a temporary folder in this one.
    #[arg(long, default_value_os_t = env::temp_dir())]
    dir: PathBuf,
    /// Where the result goes (default: bench-results of this repository).
    #[arg(long)]
    out: Option<PathBuf>,
    /// What the result is called.
    #[arg(long, default_value = "first-figures")]
    name: String,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let dir = args.dir.join(format!("compare-{}", process::id()));
    let result = run(&args, &dir);
    if let Err(error) = fs::remove_dir_all(&dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("compare: {} is left behind: {error}", dir.display());
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, dir: &Path) -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let about_kafka = if args.servers.contains(&Kind::Kafka) { kafka_version()? } else { String::new() };
    let headwater = match &args.headwater {
        Some(path) => path.canonicalize()?,
        None if args.servers.iter().all(|&kind| kind == Kind::Kafka) => PathBuf::new(),
        None => build(&root)?,
    };
    let machine = Machine::describe(&args.dir);
    fs::create_dir(dir)?;
    let server_cpu = (!args.no_pin).then_some(args.server_cpu);
    if !args.no_pin {
        sys::pin_to_cpu(args.generator_cpu)?;
    }
    let site = Site { dir: dir.to_owned(), server_cpu, headwater };
    let load = Load {
        round_bytes: args.round_mb * 1_000_000,
        warm_bytes: args.warm_mb * 1_000_000,
        record_bytes: args.record_bytes,
        batch_bytes: args.batch_bytes,
        partitions: args.partitions,
        connections: args.connections,
        in_flight: args.in_flight,
        fetch_connections: args.fetch_connections,
        fetch_passes: args.fetch_passes,
        pings: 500,
        settle_ms: 1500,
    };
    let mut servers = Vec::new();
    let mut contenders = Vec::new();
    for &kind in &args.servers {
        let server = Server::start(kind, &site)?;
        let about = match kind {
            Kind::Kafka => format!("Apache Kafka {about_kafka}, default settings, acknowledges from the page cache"),
            Kind::Headwater => "acknowledges from the medium (durability fsync)".into(),
            Kind::HeadwaterOs => "acknowledges from the page cache (durability os)".into(),
        };
        eprintln!("{} serves after {:.2} s", kind.name(), server.start_s);
        contenders.push(Contender { name: kind.name(), about, start_s: server.start_s, rounds: Vec::new() });
        servers.push(server);
    }
    for server in &servers {
        load.warm(server)?;
        eprintln!("{} is warm", server.kind.name());
    }
    for round in 0..args.rounds {
        let mut order: Vec<usize> = (0..servers.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let figures = load.round(&servers[at], round)?;
            eprintln!("{}", line(contenders[at].name, round + 1, &figures));
            contenders[at].rounds.push(figures);
        }
    }
    drop(servers);
    let mut comparison = Comparison {
        command: command(),
        commit: machine::commit(),
        date: today()?,
        machine,
        pinning: match server_cpu {
            Some(cpu) => format!("servers on CPU {cpu}, generator on CPU {}", args.generator_cpu),
            None => "servers and generator on any CPU".into(),
        },
        load,
        contenders,
        summary: BTreeMap::new(),
        ratios: BTreeMap::new(),
    };
    comparison.sum_up();
    let markdown = comparison.markdown();
    println!("{markdown}");
    let out = args.out.clone().unwrap_or_else(|| root.join("bench-results"));
    fs::create_dir_all(&out)?;
    let base = format!("{}-{}", comparison.date, args.name);
    fs::write(out.join(format!("{base}.md")), markdown)?;
    fs::write(out.join(format!("{base}.json")), serde_json::to_vec_pretty(&comparison)?)?;
    Ok(())
}

/// Builds the server as a release and returns where it is.
fn build(root: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let status = Command::new("cargo").args(["build", "--release"]).current_dir(root).status()?;
    if !status.success() {
        return Err("the server does not build".into());
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release/headwater").canonicalize()?)
}

/// The command without the folders that it names, which are nobody's business.
fn command() -> String {
    let mut words = vec!["compare".to_owned()];
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        if matches!(arg.as_str(), "--dir" | "--out" | "--headwater") {
            args.next();
        } else if !["--dir=", "--out=", "--headwater="].iter().any(|flag| arg.starts_with(flag)) {
            words.push(arg);
        }
    }
    words.join(" ")
}

fn today() -> Result<String, Box<dyn Error>> {
    let out = Command::new("date").args(["-u", "+%F"]).output()?;
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}
