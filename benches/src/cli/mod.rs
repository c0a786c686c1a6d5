//! The command line of `headwater bench`: every subcommand with its options. What they do is in the modules beside it.

mod broker;
mod compare;
mod limits;
mod load;
mod output;
mod ready;
mod scenario;

pub use broker::resolve;

use crate::kafka::Error;
use clap::Subcommand;

/// `headwater bench`.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Produce as fast as batches are acknowledged, or at a rate
    Produce(scenario::ProduceArgs),
    /// Read everything that a topic holds; an empty one is filled first
    Consume(scenario::ConsumeArgs),
    /// Measure from the moment a record is due to the moment a consumer has it
    EndToEnd(scenario::EndToEndArgs),
    /// Read a topic from its beginning, by offset or time, with consumers that read different parts
    Replay(scenario::ReplayArgs),
    /// Produce at a rate alone, and again beside a replay
    Mixed(scenario::MixedArgs),
    /// Produce at a rate to many partitions
    Partitions(scenario::ProduceArgs),
    /// Produce 1 MB/s to each of many shards, as clients with a linger of 5 ms do
    Shards(scenario::ShardsArgs),
    /// Compare servers under the same loads, rounds interleaved
    Compare(compare::CompareArgs),
    /// Measure what the machine itself can do: memory, loopback, disk
    Limits(limits::LimitsArgs),
    /// Answer producers and store nothing, to measure what a load costs by itself
    Sink(compare::SinkArgs),
    /// Wait until every partition of a topic has a leader and takes a record
    Ready(ready::ReadyArgs),
}

impl Bench {
    /// Runs it; the result goes to standard output.
    pub fn run(&self) -> Result<(), Error> {
        match self {
            Bench::Produce(args) => args.produce(),
            Bench::Consume(args) => args.run(),
            Bench::EndToEnd(args) => args.run(),
            Bench::Replay(args) => args.run(),
            Bench::Mixed(args) => args.run(),
            Bench::Partitions(args) => args.partitions(),
            Bench::Shards(args) => args.run(),
            Bench::Compare(args) => args.run(),
            Bench::Sink(args) => args.run(),
            Bench::Limits(args) => args.run(),
            Bench::Ready(args) => args.run(),
        }
    }
}
