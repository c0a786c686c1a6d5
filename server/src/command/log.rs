//! `headwater log`: looks into the files of a log, offline and without changing anything.

mod dump;
mod segment;

use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print the batches of segment files
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
pub struct DumpArgs {
    /// Segment files (any file of version 2 record batches, Apache Kafka's too)
    #[arg(required = true)]
    path: Vec<PathBuf>,
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
    dump::run(&args.path, &dump::Options { records: args.records, verify: args.verify, output: args.output })
}
