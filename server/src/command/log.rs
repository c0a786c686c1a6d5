//! `headwater log`: looks into the files of a log, offline and without changing anything.

mod dump;
mod segment;

use crate::command::data_dir::DataDir;
use crate::exit::{FAILED, Failure};
use crate::output::Output;
use clap::{Args, Subcommand};
use dump::{Known, Source};
use headwater_engine::{Options, SegmentOnDisk};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print the batches of a topic, or of segment files
    Dump(DumpArgs),
}

#[derive(Debug, Args)]
pub struct DumpArgs {
    /// Segment files (any file of version 2 record batches, Apache Kafka's too)
    #[arg(required_unless_present = "topic", conflicts_with_all = ["topic", "partition"])]
    path: Vec<PathBuf>,
    /// The files of this topic in the data folder
    #[arg(long)]
    topic: Option<String>,
    /// Of the topic, this partition alone
    #[arg(long, value_name = "NUMBER", requires = "topic")]
    partition: Option<u32>,
    #[command(flatten)]
    data_dir: DataDir,
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
    let sources = match &args.topic {
        Some(topic) => of_topic(&args.data_dir, topic, args.partition)?,
        None => args.path.iter().map(|path| Source { path: path.clone(), known: None }).collect(),
    };
    dump::run(&sources, &dump::Options { records: args.records, verify: args.verify, output: args.output })
}

fn of_topic(dir: &DataDir, name: &str, partition: Option<u32>) -> Result<Vec<Source>, Failure> {
    let found = headwater_engine::topic_on_disk(dir.open()?, Options::new(dir.path.clone()), name);
    let place = dir.path.display();
    let Some(topic) = found.map_err(|error| dir.failure("look into", &error))? else {
        return Err(Failure::new(FAILED, format!("there is no topic `{name}` in {place}")));
    };
    if let Some(number) = partition.filter(|number| *number as usize >= topic.partitions) {
        let last = topic.partitions.saturating_sub(1);
        return Err(Failure::new(FAILED, format!("`{name}` has no partition {number}: its last one is {last}")));
    }
    let wanted = |segment: &SegmentOnDisk| partition.is_none_or(|number| segment.partition == number);
    let source = |segment: SegmentOnDisk| Source {
        path: segment.path,
        known: Some(Known {
            partition: segment.partition,
            base: segment.base.0,
            size: segment.size,
            checkpointed: segment.checkpointed,
        }),
    };
    Ok(topic.segments.into_iter().filter(wanted).map(source).collect())
}
