//! `headwater check`: verifies a data folder while no server uses it.

use crate::exit::{FAILED, Failure};
use crate::output::{Output, Report};
use clap::Args;
use headwater_engine::env::Env;
use headwater_engine::{Engine, OpenError, Options};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The data folder
    #[arg(long, value_name = "DIR", env = "HEADWATER_DATA_DIR", default_value = "./headwater-data")]
    data_dir: PathBuf,
    /// When the log is damaged, cut it where the damage begins: what was acknowledged after that point is lost
    #[arg(long)]
    repair: bool,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let dir = &args.data_dir;
    // Looked at before anything is opened: opening makes the folder.
    if !dir.is_dir() {
        let message = format!("there is no data folder {}", dir.display());
        return Err(Failure::new(FAILED, message).hint("--data-dir names it"));
    }
    let repaired = if args.repair { repair(dir)? } else { None };
    let env = open_env(dir)?;
    let found = headwater_engine::check(env, Options::new(dir.clone())).map_err(|error| explain(dir, &error))?;
    let is_damaged = !found.damage.is_empty();
    args.output.print(&Checked {
        data_dir: dir.display().to_string(),
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
fn repair(dir: &Path) -> Result<Option<String>, Failure> {
    let opened = Engine::repair(open_env(dir)?, Options::new(dir.to_owned()));
    let (engine, repaired) = opened.map_err(|error| explain(dir, &error))?;
    engine.shut_down().map_err(|stopped| {
        let why = engine.failure().unwrap_or_else(|| stopped.to_string());
        Failure::new(FAILED, format!("the repair of {} did not come to its end: {why}", dir.display()))
    })?;
    Ok(repaired)
}

fn open_env(dir: &Path) -> Result<Env, Failure> {
    Env::real(dir).map_err(|error| Failure::new(FAILED, format!("cannot use {}: {error}", dir.display())))
}

fn explain(dir: &Path, error: &OpenError) -> Failure {
    let failure = Failure::new(FAILED, format!("cannot check {}: {error}", dir.display()));
    match error {
        OpenError::Io { error, .. } if error.kind() == ErrorKind::WouldBlock => {
            failure.hint("a server uses it; stop the server first")
        }
        OpenError::Io { error, .. } if error.kind() == ErrorKind::NotFound => {
            failure.hint("is it a data folder of headwater? Nothing in it looks like one")
        }
        _ => failure,
    }
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
