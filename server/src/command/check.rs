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
    /// When the log is damaged, cut it where the damage begins: what was acknowledged after that point is lost
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
    damage: Vec<String>,
}

impl Report for Checked {
    fn table(&self) -> String {
        let mut text = format!(
            "{}\n  {} topics, {} partitions\n  {} WAL blocks behind the last checkpoint\n  {} segments, {} bytes, every CRC \
             compared\n",
            self.data_dir, self.topics, self.partitions, self.wal_blocks, self.segments, self.bytes
        );
        if let Some(repaired) = &self.repaired {
            text += &format!("  repaired: {repaired}\n");
        }
        for damage in &self.damage {
            text += &format!("  DAMAGED: {damage}\n");
        }
        text + if self.damage.is_empty() { "all is well\n" } else { "the data folder is damaged\n" }
    }
}
