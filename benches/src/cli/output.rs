//! How results are printed: for people or for programs, as the other commands of the program do.

use crate::kafka::Error;
use serde::Serialize;
use std::io::{self, Write};

/// The form of a result on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Prints a result.
pub fn print(output: Output, value: &impl Serialize, table: impl FnOnce() -> String) -> Result<(), Error> {
    let text = match output {
        Output::Table => table(),
        Output::Json => serde_json::to_string_pretty(value).map_err(io::Error::from)? + "\n",
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
