//! Micro-benchmarks of the hot paths: what one step costs, in CPU time of the thread that does it.
//!
//! - [`batches`]: a producer's batch is checked, its head is written anew.
//! - [`log`]: a batch is appended, a round is committed, an offset is looked up.
//! - [`kafka`]: whole requests, from the body's bytes to the answer's: Produce, Fetch, Heartbeat.
//!
//! Everything runs on one thread: the engine is moved by hand, so that what belongs to a step is counted in it and nothing
//! else is. Run it with `cargo run --release -p headwater-micro`. No other build compiles this crate unless it is told to
//! build the whole workspace.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock and the real disk")]

mod batches;
mod harness;
mod kafka;
mod log;

use anyhow::Result;
use clap::Parser;
use harness::Harness;
use headwater_benches::latency::short;
use headwater_benches::machine::{self, Machine};
use std::path::PathBuf;

/// Measures the hot paths.
#[derive(Parser)]
struct Args {
    /// Runs only the benchmarks whose name contains this
    #[arg(long, default_value = "")]
    filter: String,
    /// Samples of a benchmark
    #[arg(long, default_value_t = 31)]
    samples: usize,
    /// Milliseconds of a sample, about
    #[arg(long, default_value_t = 10)]
    sample_ms: u64,
    /// Where the engine's temporary folder is made: one in memory leaves the disk out
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let dir = args.dir.unwrap_or_else(|| {
        let in_memory = PathBuf::from("/dev/shm");
        if in_memory.is_dir() { in_memory } else { std::env::temp_dir() }
    });
    let machine = Machine::describe(&dir);
    let mut harness = Harness::new(args.filter, args.samples, args.sample_ms);
    batches::run(&mut harness)?;
    log::run(&mut harness, &dir)?;
    kafka::run(&mut harness, &dir)?;
    let Machine { cpu, cores, memory_gib, kernel, file_system, load_at_start } = machine;
    println!(
        "- commit `{}`; {cores} x {cpu}, {memory_gib} GiB, Linux {kernel}, engine on {file_system}; load {} at the start, {} at the end",
        machine::commit().unwrap_or_else(|| "unknown".into()),
        short(load_at_start),
        short(machine::load_average()),
    );
    println!(
        "- {} samples of about {} ms each; CPU time of the thread, median (least-greatest)\n",
        args.samples, args.sample_ms
    );
    print!("{}", harness.table());
    Ok(())
}
