//! `headwater check`: verifies a data folder while no server uses it.

use crate::command::data_dir::DataDir;
use crate::exit::{FAILED, Failure};
use crate::output::{Output, Report};
use clap::Args;
use headwater_engine::{Engine, Options};

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    data_dir: DataDir,
    /// When a checkpoint or the log is damaged, go on from the newest state that can be read: what was acknowledged after
    /// it is no longer served. Files with what was cut are kept in the data folder, in `repaired-<number>`. Damage in segments
    /// stays
    #[arg(long)]
    repair: bool,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let dir = &args.data_dir;
    let repaired = if args.repair { repair(dir)? } else { None };
    let checked = headwater_engine::check(dir.open()?, Options::new(dir.path.clone()));
    let found = checked.map_err(|error| dir.failure("check", &error))?;
    let is_damaged = !found.damage.is_empty();
    args.output.print(&Checked {
        data_dir: dir.path.display().to_string(),
        topics: found.topics,
        partitions: found.partitions,
        wal_blocks: found.blocks,
        segments: found.segments,
        bytes: found.bytes,
        repaired,
        refuses_start: found.refuses_start,
        damage: found.damage,
    })?;
    if is_damaged { Err(Failure::silent(FAILED)) } else { Ok(()) }
}

/// Opens the folder the way that a start does, cutting at damage, and closes it again. Says what was cut.
fn repair(dir: &DataDir) -> Result<Option<String>, Failure> {
    let opened = Engine::repair(dir.open()?, Options::new(dir.path.clone()));
    let (engine, repaired) = opened.map_err(|error| dir.failure("repair", &error))?;
    engine.shut_down().map_err(|stopped| {
        let why = engine.failure().unwrap_or_else(|| stopped.to_string());
        Failure::new(FAILED, format!("the repair of {} did not come to its end: {why}", dir.path.display()))
    })?;
    Ok(repaired)
}

#[derive(serde::Serialize)]
struct Checked {
    data_dir: String,
    topics: usize,
    partitions: usize,
    wal_blocks: u64,
    segments: u64,
    bytes: u64,
    /// What a repair had to cut.
    repaired: Option<String>,
    /// Whether a server would refuse to start.
    refuses_start: bool,
    damage: Vec<String>,
}

/// A number with its noun.
fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

impl Report for Checked {
    fn table(&self) -> String {
        let mut text = format!(
            "{}\n  {} topics, {} partitions\n  {} behind the last checkpoint\n  {}, {}, every CRC compared\n",
            self.data_dir,
            self.topics,
            self.partitions,
            count(self.wal_blocks, "WAL block"),
            count(self.segments, "segment"),
            count(self.bytes, "byte"),
        );
        if let Some(repaired) = &self.repaired {
            text += &format!("  repaired: {repaired}\n");
        }
        for damage in &self.damage {
            text += &format!("  DAMAGED: {damage}\n");
        }
        if self.damage.is_empty() {
            return text + "all is well\n";
        }
        text += &format!("the data folder is damaged in {}\n", count(self.damage.len() as u64, "place"));
        text + if self.refuses_start {
            "No server starts on it. Restore a copy; or take one, then run `headwater check --repair`: it goes on from the \
             newest state that can be read, and keeps what it cuts in a folder of its own.\n"
        } else {
            "A server starts on it and answers reads of the damaged records with an error. No repair brings them back: restore \
             a copy, or consume and write the topic anew.\n"
        }
    }
}
