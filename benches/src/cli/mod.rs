//! The command line of `headwater bench`: every subcommand with its options. What they do is in the modules beside it.

mod broker;
mod limits;
mod output;
mod ready;

use crate::kafka::Error;
use clap::Subcommand;

/// `headwater bench`.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Wait until every partition of a topic has a leader and takes a record
    Ready(ready::ReadyArgs),
    /// Measure what the machine itself can do: memory, loopback, disk
    Limits(limits::LimitsArgs),
}

impl Bench {
    /// Runs it; the result goes to standard output.
    pub fn run(&self) -> Result<(), Error> {
        match self {
            Bench::Ready(args) => args.run(),
            Bench::Limits(args) => args.run(),
        }
    }
}
