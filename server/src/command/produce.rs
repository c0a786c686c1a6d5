//! `headwater produce`: one record for each line.
//!
//! A thread of its own reads the input (reading a terminal blocks), the rest gathers lines into batches and sends them.
//! While a request is under way the thread reads on, as far as the channel allows.

mod batches;
mod input;

use super::run_async;
use crate::cli::{Target, name_value};
use crate::client::{Cluster, Partitioner, Sender};
use crate::exit::{FAILED, Failure};
use crate::output::{Output, Report};
use batches::{Batches, Line};
use clap::{Args, ValueEnum};
use headwater_engine::batch::Codec;
use headwater_engine::env::{Clock, RealClock};
use input::Chunk;
use kafka_protocol::error::ResponseError;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

#[derive(Debug, Args)]
pub struct ProduceArgs {
    topic: String,
    /// Read this file instead of standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What stands between key and value in each line; without it a line is a value
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    key_separator: Option<String>,
    /// A header for every record; may be repeated
    #[arg(long, alias = "header", value_name = "NAME=VALUE", value_parser = name_value)]
    headers: Vec<(String, String)>,
    /// Write to this partition; otherwise the key decides, and records without one spread
    #[arg(long)]
    partition: Option<u32>,
    #[arg(long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// What to wait for
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// Make repeated sending safe: no record is stored twice
    #[arg(long)]
    idempotent: bool,
    /// How long a batch may wait for more records
    #[arg(long, value_name = "MS", default_value_t = 5)]
    linger: u64,
    /// How large a batch may get, before compression
    #[arg(long, value_name = "SIZE", default_value = "512KiB", value_parser = batch_bytes)]
    batch_bytes: usize,
    #[command(flatten)]
    target: Target,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Acks {
    /// Nothing
    #[value(name = "0")]
    None,
    /// The leader
    #[value(name = "1")]
    Leader,
    /// Every in-sync replica
    #[value(name = "all", alias = "-1")]
    All,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

fn batch_bytes(text: &str) -> Result<usize, String> {
    let size = crate::config::parse_size(text)?;
    usize::try_from(size).ok().filter(|size| (1..=1 << 30).contains(size)).ok_or_else(|| "must be at most 1GiB".into())
}

/// Runs the command.
pub fn run(args: ProduceArgs) -> Result<(), Failure> {
    if args.idempotent && args.acks != Acks::All {
        return Err(Failure::new(crate::exit::USAGE, "--idempotent needs --acks all"));
    }
    run_async(produce(args))
}

async fn produce(args: ProduceArgs) -> Result<(), Failure> {
    // The input first: a file that cannot be opened should not make a topic.
    let mut input = input::read(args.file.as_deref())?;
    let mut cluster = Cluster::connect(&args.target.bootstrap, args.target.timeout).await?;
    let (state, first) = match cluster.topic(&args.topic, false).await {
        Err(error) if error.is(ResponseError::UnknownTopicOrPartition) => {
            // Without a line there is no reason to make it.
            let Some(first) = input.recv().await.transpose()? else {
                eprintln!("warning: topic {} is not there, and was not made: the input is empty", args.topic);
                return args.report(0, 0, 0.0);
            };
            let state = cluster.topic(&args.topic, true).await?;
            eprintln!("topic {} created", args.topic);
            (state, Some(first))
        }
        state => (state?, None),
    };
    let count = u32::try_from(state.partitions.len()).unwrap_or(u32::MAX);
    if let Some(partition) = args.partition.filter(|partition| *partition >= count) {
        let message = format!("topic {} has {count} partitions; there is none with number {partition}", args.topic);
        return Err(Failure::new(FAILED, message));
    }
    let identity = match args.idempotent {
        true => Some(cluster.new_identity().await?),
        false => None,
    };
    let clock = RealClock::default();
    let mut batches = Batches::new(Partitioner::new(count, args.partition), args.codec(), identity, args.batch_bytes);
    let mut sender = Sender::new(&mut cluster, &args.topic, args.acks_number(), identity.is_some());
    let mut bytes = 0;
    let result = pump(&args, first, &mut input, &mut batches, &mut sender, &clock, &mut bytes).await;
    let sent = sender.done;
    if let Err(mut failure) = result {
        failure.message = format!("{} ({sent} records were acknowledged before)", failure.message);
        return Err(failure);
    }
    let seconds = clock.monotonic().as_secs_f64();
    args.report(sent, bytes, seconds)
}

async fn pump(
    args: &ProduceArgs,
    mut first: Option<Vec<u8>>,
    input: &mut tokio::sync::mpsc::Receiver<Chunk>,
    batches: &mut Batches,
    sender: &mut Sender<'_>,
    clock: &RealClock,
    bytes: &mut u64,
) -> Result<(), Failure> {
    let linger = Duration::from_millis(args.linger);
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        args.headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
    let mut due = Instant::now();
    loop {
        let chunk = match first.take() {
            Some(first) => Some(Ok(first)),
            None => tokio::select! {
                chunk = input.recv() => chunk,
                () = sleep_until(due), if !batches.is_empty() => {
                    sender.send(batches.take()?).await?;
                    continue;
                }
            },
        };
        let Some(chunk) = chunk else { break };
        for text in chunk?.split_inclusive(|byte| *byte == b'\n') {
            let text = text.strip_suffix(b"\n").unwrap_or(text);
            let line = Line::split(text, args.key_separator.as_deref().map(str::as_bytes));
            if !batches.has_room(&line, &headers) {
                sender.send(batches.take()?).await?;
            }
            if batches.is_empty() {
                due = Instant::now() + linger;
            }
            batches.push(&line, &headers, clock.wall())?;
            *bytes += text.len() as u64;
        }
    }
    sender.send(batches.take()?).await?;
    Ok(())
}

impl ProduceArgs {
    fn report(self, records: u64, bytes: u64, seconds: f64) -> Result<(), Failure> {
        let acknowledged = self.acks != Acks::None;
        Ok(self.output.print(&Produced { topic: self.topic, records, bytes, acknowledged, seconds })?)
    }

    fn codec(&self) -> Codec {
        match self.compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }

    fn acks_number(&self) -> i16 {
        match self.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

#[derive(serde::Serialize)]
struct Produced {
    topic: String,
    records: u64,
    bytes: u64,
    acknowledged: bool,
    seconds: f64,
}

impl Report for Produced {
    fn table(&self) -> String {
        let what = if self.acknowledged { "acknowledged" } else { "sent, not acknowledged" };
        format!("{} records to {}, {} bytes, {what}, in {:.3} s\n", self.records, self.topic, self.bytes, self.seconds)
    }
}
