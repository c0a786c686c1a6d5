//! `headwater consume`: prints records.
//!
//! Without `--follow` it ends where the partitions ended when it began, so that it can stand in a script. The records of
//! one partition come in their order; partitions come as they are answered. Everything that is stored is shown, the
//! records of unfinished and aborted transactions too. Records that were deleted before their turn make it end with 1.

use super::place::Place;
use super::record_text::Layout;
use super::records::{each_record, is_loss};
use super::run_async;
use crate::cli::Target;
use crate::client::{At, Cluster, Fetcher, Span};
use crate::exit::{FAILED, Failure};
use clap::Args;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;

const OUT_SIZE: usize = 64 << 10;

#[derive(Debug, Args)]
pub struct ConsumeArgs {
    topic: String,
    /// Where to begin: earliest, latest, an offset, or @TIME (@1700000000000 in milliseconds, or @2025-01-31T12:00:00Z)
    #[arg(long, value_name = "WHERE", default_value = "earliest")]
    from: Place,
    /// Read this partition only; may be repeated
    #[arg(long, value_name = "PARTITION", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// Stop after this many records
    #[arg(long, value_name = "COUNT")]
    max: Option<u64>,
    /// Go on and wait for new records
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    layout: Layout,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub fn run(args: ConsumeArgs) -> Result<(), Failure> {
    run_async(consume(args))
}

async fn consume(args: ConsumeArgs) -> Result<(), Failure> {
    let mut cluster = Cluster::connect(&args.target.bootstrap, args.target.timeout).await?;
    let spans = plan(&args, &mut cluster).await?;
    let mut left = args.max.unwrap_or(u64::MAX);
    let mut out = BufWriter::with_capacity(OUT_SIZE, std::io::stdout().lock());
    let starts: Vec<i64> = spans.iter().map(|span| span.next).collect();
    let mut fetcher = Fetcher::new(&mut cluster, spans, 1);
    let (mut told, mut is_whole) = (0, true);
    while left > 0 {
        let fetched = fetcher.next().await?;
        for gap in &fetcher.gaps()[told..] {
            eprintln!("warning: {}", fetcher.describe(gap));
            is_whole &= !is_loss(gap, &starts, args.from);
        }
        told = fetcher.gaps().len();
        let Some(fetched) = fetched else { break };
        let span = &fetcher.spans()[fetched.span];
        each_record(&fetched, span, |record| {
            if left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            left -= 1;
            args.layout.write(&mut out, None, span.partition, record)?;
            Ok(ControlFlow::Continue(()))
        })?;
        out.flush()?;
    }
    if is_whole { Ok(()) } else { Err(Failure::silent(FAILED)) }
}

async fn plan(args: &ConsumeArgs, cluster: &mut Cluster) -> Result<Vec<Span>, Failure> {
    let state = cluster.topic(&args.topic, false).await?;
    let mut partitions: Vec<i32> = state.partitions.iter().map(|row| row.partition).collect();
    if let Some(unknown) = args.partition.iter().find(|partition| !partitions.contains(partition)) {
        let count = partitions.len();
        let message = format!("topic {} has {count} partitions; there is none with number {unknown}", args.topic);
        return Err(Failure::new(FAILED, message));
    }
    partitions.retain(|partition| args.partition.is_empty() || args.partition.contains(partition));
    let latest = cluster.offsets(&args.topic, &partitions, At::Latest).await?;
    let mut positions: BTreeMap<i32, i64> = match args.from {
        Place::Offset(offset) => {
            if let Some((partition, end)) = latest.iter().find(|(_, end)| offset > **end) {
                let message = format!("offset {offset} is past the end of {}/{partition}, which is {end}", args.topic);
                return Err(Failure::new(FAILED, message)
                    .hint("`headwater topic describe` shows where partitions begin and end"));
            }
            let first = cluster.offsets(&args.topic, &partitions, At::Earliest).await?;
            let later = |(partition, first): (i32, i64)| {
                if offset < first {
                    let place = format!("{}/{partition}", args.topic);
                    eprintln!("warning: {place} begins at offset {first}: what was before it is deleted");
                }
                (partition, offset.max(first))
            };
            first.into_iter().map(later).collect()
        }
        Place::At(at) => cluster.offsets(&args.topic, &partitions, at).await?,
    };
    for (partition, position) in &mut positions {
        // No record is that late: what comes next will be.
        if *position < 0 {
            *position = latest.get(partition).copied().unwrap_or_default();
        }
    }
    let span = |(partition, next)| {
        let end = latest.get(&partition).copied().filter(|_| !args.follow);
        Span { topic: args.topic.clone(), topic_id: state.id, partition, next, end }
    };
    Ok(positions.into_iter().map(span).collect())
}
