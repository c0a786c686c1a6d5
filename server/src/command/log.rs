//! `headwater log`: looks into the files of a log, offline and without changing anything.

mod dump;
mod segment;

use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print the batches of segment files, or of a partition of a data folder
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["path", "data_dir"])))]
pub struct DumpArgs {
    /// Segment files (any file of version 2 record batches, Apache Kafka's too)
    path: Vec<PathBuf>,
    /// A data folder that no server uses
    #[arg(long, value_name = "DIR", requires = "topic")]
    data_dir: Option<PathBuf>,
    /// The topic, with --data-dir
    #[arg(long, requires = "data_dir")]
    topic: Option<String>,
    /// The partition, with --data-dir
    #[arg(long, requires = "data_dir", default_value_t = 0)]
    partition: u32,
    /// Print the records too
    #[arg(long)]
    records: bool,
    /// Check every batch: its CRC, its records, its place; the command fails when something is wrong
    #[arg(long)]
    verify: bool,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub fn run(command: &LogCommand) -> Result<(), Failure> {
    let LogCommand::Dump(args) = command;
    let files = match &args.data_dir {
        Some(_) => {
            return Err(Failure::new(
                crate::exit::FAILED,
                "this build cannot read a data folder yet; name its segment files instead",
            ));
        }
        None => args.path.clone(),
    };
    dump::run(&files, &dump::Options { records: args.records, verify: args.verify, output: args.output })
}
