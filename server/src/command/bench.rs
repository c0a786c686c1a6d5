//! `headwater bench`: the benchmark harness, which is a crate of its own.

use crate::exit::{FAILED, Failure};
use headwater_benches::cli::Bench;
use headwater_benches::kafka::Error;
use std::io::ErrorKind;

/// Runs a benchmark.
pub fn run(bench: &Bench) -> Result<(), Failure> {
    bench.run().map_err(|error| match error {
        Error::Io(error) if error.kind() == ErrorKind::BrokenPipe => Failure::from(error),
        error => Failure::new(FAILED, error.to_string()),
    })
}
