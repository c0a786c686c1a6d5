//! Measures ways to make writes durable, on the real disk below a folder.
//!
//! `wal-bench methods` is the evidence of decision 0001, `wal-bench partitions` that of 0002. Run it where the data will
//! be; a folder in memory (tmpfs) measures nothing.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock and the real disk")]

use clap::{Parser, ValueEnum};
use headwater_benches::machine::{self, Machine};
use headwater_benches::wal::calm::Gate;
use headwater_benches::wal::segments::Durability;
use headwater_benches::wal::{methods, partitions, report::Report};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, process};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Ways to write the WAL (decision 0001).
    Methods,
    /// WAL and segments against synced segments (decision 0002).
    Partitions,
}

/// Measures ways to make writes durable.
#[derive(Parser)]
struct Args {
    what: What,
    /// A folder on the disk to measure; a temporary one is made in it and removed.
    #[arg(long, default_value_os_t = env::temp_dir())]
    dir: PathBuf,
    /// Fewer and shorter runs, for a first look.
    #[arg(long)]
    quick: bool,
    /// How often every case runs (default 5, with --quick 3).
    #[arg(long)]
    repeats: Option<usize>,
    /// Measured milliseconds of a run (default 500 for methods, 1500 for partitions, with --quick half of it).
    #[arg(long)]
    ms: Option<u64>,
    /// The most bytes in a round.
    #[arg(long, default_value_t = 1 << 20)]
    round_bytes_max: usize,
    /// Segment bytes between two checkpoints, in KiB.
    #[arg(long, default_value_t = 192 << 10)]
    checkpoint_kib: u64,
    /// A segment file's dirty bytes are pushed to the device in pieces of so many KiB.
    #[arg(long, default_value_t = 1 << 10)]
    writeback_kib: u64,
    /// Runs only the cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Waits for calm and repeats disturbed runs, for at most so many seconds in all: for machines that others use too.
    #[arg(long, default_value_t = 0)]
    calm_s: u64,
    /// Writes the whole result there, as JSON.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    headwater_benches::sys::raise_open_files()?;
    let dir = args.dir.join(format!("wal-bench-{}", process::id()));
    fs::create_dir(&dir)?;
    let result = run(&args, &dir);
    fs::remove_dir_all(&dir)?;
    result
}

fn run(args: &Args, dir: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let machine = Machine::describe(dir);
    let usual_ms = if args.what == What::Methods { 500 } else { 1500 };
    let ms = args.ms.unwrap_or(if args.quick { usual_ms / 2 } else { usual_ms });
    let effort = methods::Effort {
        measured: Duration::from_millis(ms),
        warm_up: Duration::from_millis(ms / 5),
        repeats: args.repeats.unwrap_or(if args.quick { 3 } else { 5 }),
    };
    let mut settings = BTreeMap::from([
        ("measured_ms", ms.to_string()),
        ("repeats", effort.repeats.to_string()),
        ("round_bytes_max", args.round_bytes_max.to_string()),
    ]);
    let mut gate = Gate::new(Duration::from_secs(args.calm_s));
    let (title, varied, columns, cases) = match args.what {
        What::Methods => {
            settings.insert("wal_bytes", methods::WAL_BYTES.to_string());
            let cases = methods::measure(dir, effort, args.round_bytes_max, &args.only, &mut gate)?;
            ("ways to write the WAL", methods::VARIED, methods::COLUMNS.to_vec(), cases)
        }
        What::Partitions => {
            settings.insert("wal_bytes", partitions::WAL_BYTES.to_string());
            settings.insert("checkpoint_kib", args.checkpoint_kib.to_string());
            settings.insert("writeback_kib", args.writeback_kib.to_string());
            let checkpoint = Durability::Checkpoint {
                // More than half of the WAL would leave no room to write while a checkpoint runs.
                every_bytes: (args.checkpoint_kib << 10).min(partitions::WAL_BYTES / 2),
                wal_bytes: partitions::WAL_BYTES,
                writeback_bytes: args.writeback_kib << 10,
            };
            let cases = partitions::measure(dir, effort, args.round_bytes_max, &args.only, &mut gate, checkpoint)?;
            ("WAL and segments, or synced segments", partitions::VARIED, partitions::COLUMNS.to_vec(), cases)
        }
    };
    settings.insert("calm_s", args.calm_s.to_string());
    settings.insert("disturbed_runs_kept", gate.disturbed.to_string());
    let report = Report {
        title: title.into(),
        command: command(),
        commit: machine::commit().unwrap_or_else(|| "unknown".into()),
        machine,
        settings,
        varied: varied.to_vec(),
        cases,
    };
    println!("{} at {}: {}", report.title, report.commit, report.command);
    println!("{:?}", report.machine);
    println!("{}", report.table(&columns));
    if let Some(out) = &args.out {
        fs::write(out, serde_json::to_vec(&report)?)?;
    }
    Ok(())
}

/// The command without the folders it names, which are nobody's business.
fn command() -> String {
    let mut words = vec!["wal-bench".to_owned()];
    let mut args = env::args().skip(1);
    while let Some(arg) = args.next() {
        if matches!(arg.as_str(), "--dir" | "--out") {
            args.next();
        } else if !arg.starts_with("--dir=") && !arg.starts_with("--out=") {
            words.push(arg);
        }
    }
    words.join(" ")
}
