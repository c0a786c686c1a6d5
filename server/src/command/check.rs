//! `headwater check`: verifies a data folder while no server uses it.

use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The data folder
    #[arg(long, value_name = "DIR", env = "HEADWATER_DATA_DIR", default_value = "./headwater-data")]
    pub data_dir: PathBuf,
    /// Put right what can be put right; may give up records that are damaged
    #[arg(long)]
    pub repair: bool,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Runs the command.
pub fn run(_args: &CheckArgs) -> Result<(), Failure> {
    Err(Failure::new(crate::exit::FAILED, "this build cannot check a data folder yet"))
}
