//! `headwater bench limits`.

use super::output::{Output, print};
use crate::kafka::Error;
use crate::limits::{self, Part, Settings, USUAL};
use crate::report::write;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Measures the machine.
#[derive(Debug, Args)]
pub struct LimitsArgs {
    /// A folder on the disk to measure; a temporary one is made in it and removed
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = USUAL)]
    part: Vec<Part>,
    /// How often everything is measured, after a first time that does not count [default: 5, with --quick 3]
    #[arg(long)]
    rounds: Option<usize>,
    /// Wait for moments at which nobody else uses the machine, and repeat what was disturbed, for at most so long in all
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    calm: u64,
    /// Fewer bytes and rounds, for a first look
    #[arg(long)]
    quick: bool,
    /// The CPUs of sender and receiver; everything else runs on the first one
    #[arg(long, value_name = "CPU,CPU", value_delimiter = ',', num_args = 2, default_values_t = [0, 1])]
    cpus: Vec<usize>,
    /// Also write the result as JSON and Markdown into this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// What those files are called
    #[arg(long, default_value = "limits")]
    name: String,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl LimitsArgs {
    /// Measures.
    pub fn run(&self) -> Result<(), Error> {
        let rounds = self.rounds.unwrap_or(if self.quick { 3 } else { 5 }).max(1);
        let (Some(&first), Some(&second)) = (self.cpus.first(), self.cpus.last()) else {
            return Err(Error::Answer("--cpus wants two CPUs".into()));
        };
        let settings = Settings {
            dir: self.dir.clone(),
            parts: self.part.clone(),
            rounds,
            patience: Duration::from_secs(self.calm),
            quick: self.quick,
            cpus: (first, second),
        };
        let report = limits::measure(&settings)?;
        if let Some(out) = &self.out {
            let base = write(out, &report.about.date, &self.name, &report.markdown(), &[], &report)?;
            eprintln!("written: {}.json and .md", base.display());
        }
        print(self.output, &report, || format!("{}\n", report.tables()))
    }
}
