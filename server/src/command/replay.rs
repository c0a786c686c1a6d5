//! `headwater replay`: a range of the log, to a file or a pipe, as fast as the disk and the network are.
//!
//! Three stages work at the same time: tasks of the client fetch, others check batches and lay out their records, and the
//! main thread writes. What is between them has a bound, so that a slow disk slows the network and memory stays small. Both
//! ends of the range are offsets before the first record is read: what is written meanwhile does not belong to it.

mod encode;
mod progress;
mod range;

use super::place::Place;
use super::record_text::Layout;
use super::records::is_loss;
use super::selection::Selection;
use crate::cli::Target;
use crate::client::{Cluster, Fetcher, Span};
use crate::exit::{FAILED, Failure, USAGE};
use clap::Args;
use encode::{Buffers, Encoded, Encoder};
use progress::Progress;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Threads that fetch and lay out; one more writes.
const THREADS_MAX: usize = 8;
/// A write that is larger makes the page cache look for larger pieces of memory, which can take longer than the write.
const WRITE_SIZE: usize = 64 << 10;

#[derive(Debug, Args)]
#[command(after_long_help = "\
Order: the records of a partition come by offset, each once. Between partitions nothing is promised: they come as brokers \
answer. A time stands for the first record of that time or later, by offset; the end of the range is never part of it.

The range is fixed before the first record is read: records that are written meanwhile are not in it. What is stored is what \
comes: offsets that compaction took out are passed over, and records of aborted transactions are there.

The exit code is 0 when the whole range was written, or when the reader of the pipe closed it; 1 when something could not be \
read or written, or was deleted before its turn. A damaged batch ends the replay, after everything before it was written.

Examples:
  headwater replay orders --from 2025-01-31 --to 2025-02-01 -o january-31.txt
  headwater replay orders:0,2 payments --format json | jq .value
  headwater replay orders:0 --raw -o orders-0.log && headwater log dump orders-0.log --records")]
pub struct ReplayArgs {
    /// What to read: orders, or some of its partitions, orders:0,2,5-7
    #[arg(required = true, value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<Selection>,
    /// Where to begin: earliest, latest, an offset, or a time (2025-01-31T12:00:00Z, or @1700000000000 in milliseconds)
    #[arg(long, value_name = "WHERE", default_value = "earliest")]
    from: Place,
    /// Where to end, before: as above; latest is the end at the time of the call
    #[arg(long, value_name = "WHERE", default_value = "latest")]
    to: Place,
    /// Write to this file, which is replaced when it is there; - is standard output
    #[arg(long, short = 'o', value_name = "FILE", default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    layout: Layout,
    /// Write record batches as they are stored, which `headwater log dump` reads; one partition only. A batch in which the
    /// range begins or ends loses the records outside
    #[arg(long, conflicts_with_all = ["format", "key_separator", "delimiter"])]
    raw: bool,
    /// Connections to each broker, if there are as many partitions
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    connections: u8,
    /// No progress, no warnings, no sum
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub fn run(args: ReplayArgs) -> Result<(), Failure> {
    if range::is_reversed(args.from, args.to) {
        return Err(Failure::new(USAGE, "the range ends before it begins"));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(replay(&args, threads))
}

async fn replay(args: &ReplayArgs, threads: usize) -> Result<(), Failure> {
    let mut cluster = Cluster::connect(&args.target.bootstrap, args.target.timeout).await?;
    let (spans, warnings) = range::spans(&mut cluster, &args.topics, args.from, args.to).await?;
    if args.raw && spans.len() > 1 {
        let message =
            format!("--raw writes one partition, since batches do not name theirs; these are {}", spans.len());
        return Err(Failure::new(USAGE, message).hint("TOPIC:PARTITION picks one"));
    }
    if !args.quiet {
        for warning in warnings {
            eprintln!("warning: {warning}");
        }
    }
    let mut out = open(&args.file)?;
    let is_shown = !args.quiet && io::stderr().is_terminal() && !(is_stdout(&args.file) && io::stdout().is_terminal());
    let mut progress = Progress::new(&spans, is_shown);
    let layout = (!args.raw).then(|| args.layout.clone());
    let encoder = Arc::new(Encoder::new(layout, &spans));
    let buffers = Buffers::default();
    let starts: Vec<i64> = spans.iter().map(|span| span.next).collect();
    let mut fetcher = Fetcher::new(&mut cluster, spans, usize::from(args.connections));

    let (sender, receiver) = mpsc::channel(threads);
    let fetch = fetch(&mut fetcher, encoder.clone(), buffers.clone(), sender);
    let write = write(receiver, &encoder, &buffers, &mut out, &mut progress);
    let result = both(fetch, write).await;
    progress.clear();
    result.map_err(|failure| told(failure, &progress, fetcher.spans()))?;
    if !args.quiet {
        eprintln!("{}", progress.sum());
    }
    complete(&fetcher, &starts, args.from)
}

/// Runs the two until all is written. What was fetched before an error is written as well.
async fn both(
    fetch: impl Future<Output = Result<(), Failure>>,
    write: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::pin!(fetch, write);
    let mut fetched = None;
    let written = loop {
        tokio::select! {
            biased;
            written = &mut write => break written,
            result = &mut fetch, if fetched.is_none() => fetched = Some(result),
        }
    };
    written.and(fetched.unwrap_or(Ok(())))
}

/// Hands what comes to tasks that lay it out, and these to the writer in the order of arrival.
async fn fetch(
    fetcher: &mut Fetcher<'_>,
    encoder: Arc<Encoder>,
    buffers: Buffers,
    sender: mpsc::Sender<JoinHandle<Encoded>>,
) -> Result<(), Failure> {
    while let Some(fetched) = fetcher.next().await? {
        let (encoder, buffer) = (Arc::clone(&encoder), buffers.take());
        let task = tokio::spawn(async move { encoder.encode(&fetched, buffer) });
        if sender.send(task).await.is_err() {
            break; // the writer failed, and says why
        }
    }
    Ok(())
}

async fn write(
    mut receiver: mpsc::Receiver<JoinHandle<Encoded>>,
    encoder: &Encoder,
    buffers: &Buffers,
    out: &mut File,
    progress: &mut Progress,
) -> Result<(), Failure> {
    while let Some(task) = receiver.recv().await {
        let mut encoded = task.await.map_err(|error| Failure::new(FAILED, format!("a task ended early: {error}")))?;
        loop {
            for piece in encoded.bytes().chunks(WRITE_SIZE) {
                out.write_all(piece)?;
            }
            progress.add(&encoded);
            if let Some(failure) = encoded.failure {
                return Err(failure);
            }
            buffers.give(encoded.buffer);
            let Some(rest) = encoded.rest else { break };
            encoded = encoder.encode(&rest, buffers.take());
        }
    }
    Ok(())
}

/// Says how much was written before a failure, and where one partition goes on; a closed pipe is none.
fn told(mut failure: Failure, progress: &Progress, spans: &[Span]) -> Failure {
    if failure.message.is_empty() {
        return failure;
    }
    failure.message = format!("{} ({} records were written before)", failure.message, progress.records());
    if let ([Span { topic, partition, .. }], Some(next), None) = (spans, progress.next_of(0), &failure.hint) {
        failure = failure.hint(format!("what is missing begins here: {topic}:{partition} --from {next}"));
    }
    failure
}

/// A range from which records were deleted meanwhile is not complete.
fn complete(fetcher: &Fetcher<'_>, starts: &[i64], from: Place) -> Result<(), Failure> {
    match fetcher.gaps().iter().find(|gap| is_loss(gap, starts, from)) {
        Some(gap) => Err(Failure::new(FAILED, fetcher.describe(gap)).hint("the rest was written")),
        None => Ok(()),
    }
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The file to write to. Standard output is taken as one too: it would keep back what follows the last line's end.
#[allow(clippy::disallowed_methods, reason = "a tool writes the file that its user names")]
fn open(path: &Path) -> Result<File, Failure> {
    if is_stdout(path) {
        return Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?));
    }
    File::create(path).map_err(|error| Failure::new(FAILED, format!("cannot write {}: {error}", path.display())))
}
