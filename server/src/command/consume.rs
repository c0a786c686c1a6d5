//! `headwater consume`: prints records.
//!
//! Without `--follow` it ends where the partitions ended when it began, so that it can stand in a script. The records of
//! one partition come in their order; partitions come as they are answered. Everything that is stored is shown, the
//! records of unfinished and aborted transactions too.

mod from;
mod print;

use super::run_async;
use crate::cli::Target;
use crate::client::{Cluster, FetchPlan, Fetched, Fetcher};
use crate::exit::{FAILED, Failure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use from::From;
use headwater_engine::batch::{headers, records_of, verify_crc};
use print::Printer;
use std::collections::BTreeMap;

/// How far a batch may inflate.
const INFLATED_SIZE_MAX: usize = 1 << 30;

#[derive(Debug, Args)]
pub struct ConsumeArgs {
    topic: String,
    /// Where to begin: earliest, latest, an offset, or @TIME (@1700000000000 in milliseconds, or @2025-01-31T12:00:00Z)
    #[arg(long, value_name = "WHERE", default_value = "earliest")]
    from: From,
    /// Read this partition only; may be repeated
    #[arg(long, value_name = "PARTITION", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Stop after this many records
    #[arg(long, value_name = "COUNT")]
    max: Option<u64>,
    /// Go on and wait for new records
    #[arg(long, short)]
    follow: bool,
    #[arg(long, value_enum, default_value_t = Format::Value)]
    format: Format,
    /// What stands between key and value with --format key-value
    #[arg(long, value_name = "TEXT", default_value = "\t", hide_default_value = true)]
    key_separator: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The value and a line end
    Value,
    /// Key, separator, value and a line end
    KeyValue,
    /// One JSON object for each record
    Json,
}

/// Runs the command.
pub fn run(args: ConsumeArgs) -> Result<(), Failure> {
    run_async(consume(args))
}

async fn consume(args: ConsumeArgs) -> Result<(), Failure> {
    let mut cluster = Cluster::connect(&args.target.bootstrap, args.target.timeout).await?;
    let plan = plan(&args, &mut cluster).await?;
    let mut left = args.max.unwrap_or(u64::MAX);
    let mut printer = Printer::new(std::io::stdout().lock(), args.format, args.key_separator.as_bytes());
    let ends = plan.ends.clone();
    let mut fetcher = Fetcher::new(&mut cluster, plan);
    while left > 0 {
        let Some(fetched) = fetcher.next().await? else { break };
        let end = ends.get(&fetched.partition).copied().unwrap_or(i64::MAX);
        print_batches(&args.topic, &fetched, end, &mut left, &mut printer)?;
        printer.flush()?;
    }
    Ok(())
}

async fn plan(args: &ConsumeArgs, cluster: &mut Cluster) -> Result<FetchPlan, Failure> {
    let state = cluster.topic(&args.topic, false).await?;
    let mut partitions: Vec<i32> = state.partitions.iter().map(|row| row.partition).collect();
    if let Some(unknown) = args.partition.iter().find(|partition| !partitions.contains(partition)) {
        let count = partitions.len();
        let message = format!("topic {} has {count} partitions; there is none with number {unknown}", args.topic);
        return Err(Failure::new(FAILED, message));
    }
    partitions.retain(|partition| args.partition.is_empty() || args.partition.contains(partition));
    let latest = cluster.offsets(&args.topic, &partitions, crate::client::At::Latest).await?;
    let mut positions: BTreeMap<i32, i64> = match args.from {
        From::Offset(offset) => {
            if let Some((partition, end)) = latest.iter().find(|(_, end)| offset > **end) {
                let message = format!("offset {offset} is past the end of {}/{partition}, which is {end}", args.topic);
                return Err(Failure::new(FAILED, message).hint("--partition picks the partitions to read"));
            }
            partitions.iter().map(|partition| (*partition, offset)).collect()
        }
        From::At(at) => cluster.offsets(&args.topic, &partitions, at).await?,
    };
    for (partition, position) in &mut positions {
        // No record is that late: what comes next will be.
        if *position < 0 {
            *position = latest.get(partition).copied().unwrap_or_default();
        }
    }
    let ends = if args.follow { BTreeMap::new() } else { latest };
    Ok(FetchPlan { topic: args.topic.clone(), positions, ends })
}

fn print_batches(
    topic: &str,
    fetched: &Fetched,
    end: i64,
    left: &mut u64,
    printer: &mut Printer<'_, impl std::io::Write>,
) -> Result<(), Failure> {
    for (position, header) in headers(&fetched.batches) {
        if header.attributes.is_control() {
            continue;
        }
        let batch: Bytes = fetched.batches.slice(position..position + header.size);
        let damaged = |error| {
            let place = format!("{topic}/{} at offset {}", fetched.partition, header.base_offset);
            Failure::new(FAILED, format!("{place} cannot be read: {error}"))
        };
        verify_crc(&batch).map_err(damaged)?;
        for record in &records_of(&batch, INFLATED_SIZE_MAX).map_err(damaged)? {
            let record = record.map_err(damaged)?;
            if record.offset.0 < fetched.from || record.offset.0 >= end {
                continue;
            }
            if *left == 0 {
                return Ok(());
            }
            printer.print(fetched.partition, record)?;
            *left -= 1;
        }
    }
    Ok(())
}
