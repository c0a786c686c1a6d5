//! One module for each command.

pub mod bench;
pub mod check;
pub mod completion;
pub mod config;
pub mod consume;
mod data_dir;
pub mod docs;
pub mod group;
pub mod health;
pub mod log;
mod place;
pub mod produce;
mod record_text;
mod records;
pub mod replay;
mod selection;
pub mod topic;

use crate::exit::Failure;
use std::future::Future;

/// Runs a tool's future on this thread.
pub fn run_async(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}
