//! `headwater bench limits`.

use super::output::{Output, print};
use crate::kafka::Error;
use crate::limits::{self, Part, Settings, USUAL};
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
    /// Also write the result to FILE.json and FILE.md
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
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
        if let Some(file) = &self.save {
            let beside = |ending: &str| {
                let mut name = file.clone().into_os_string();
                name.push(ending);
                name
            };
            let json = serde_json::to_string(&report).map_err(std::io::Error::from)? + "\n";
            std::fs::write(beside(".json"), json)?;
            std::fs::write(beside(".md"), report.markdown("Limits of the machine", &self.command(rounds)))?;
        }
        print(self.output, &report, || format!("{}\n", report.tables()))
    }

    /// The command without the folders it names, which are nobody's business.
    fn command(&self, rounds: usize) -> String {
        let parts: Vec<String> = self.part.iter().map(|part| format!("{part:?}").to_lowercase()).collect();
        let quick = if self.quick { " --quick" } else { "" };
        let calm = if self.calm > 0 { format!(" --calm {}", self.calm) } else { String::new() };
        format!("headwater bench limits --part {} --rounds {rounds}{quick}{calm}", parts.join(","))
    }
}
