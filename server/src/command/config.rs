//! `headwater config`: what the server would run with, and who says so.

use crate::config::{self, ConfigArgs, Effective, Problem};
use crate::exit::{Failure, USAGE};
use crate::output::{Output, Report, columns};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every option's value and where it comes from
    Show(ShowArgs),
    /// The same, for scripts: the answer says whether the configuration is valid
    Check(ShowArgs),
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    options: ConfigArgs,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub fn run(command: &ConfigCommand) -> Result<(), Failure> {
    let (ConfigCommand::Show(args) | ConfigCommand::Check(args)) = command;
    let is_check = matches!(command, ConfigCommand::Check(_));
    match config::load(&args.options) {
        Ok(effective) => {
            for warning in &effective.warnings {
                eprintln!("warning: {warning}");
            }
            let rows = rows(&effective);
            match is_check {
                true => args.output.print(&Checked { valid: true, options: rows, problems: Vec::new() })?,
                false => args.output.print(&Shown(rows))?,
            }
            Ok(())
        }
        Err(error) if is_check && args.output == Output::Json => {
            args.output.print(&Checked { valid: false, options: Vec::new(), problems: error.0 })?;
            Err(Failure::silent(USAGE))
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(serde::Serialize)]
struct Row {
    option: String,
    value: String,
    source: String,
}

#[derive(serde::Serialize)]
#[serde(transparent)]
struct Shown(Vec<Row>);

#[derive(serde::Serialize)]
struct Checked {
    valid: bool,
    options: Vec<Row>,
    problems: Vec<Problem>,
}

fn rows(effective: &Effective) -> Vec<Row> {
    let row = |value: &config::Value| Row {
        option: value.key.clone(),
        value: value.text.clone(),
        source: value.source.to_string(),
    };
    effective.values.iter().map(row).collect()
}

fn table(rows: &[Row]) -> String {
    let cells = |row: &Row| vec![row.option.clone(), row.value.clone(), row.source.clone()];
    columns(&["option", "value", "source"], &rows.iter().map(cells).collect::<Vec<_>>())
}

impl Report for Shown {
    fn table(&self) -> String {
        table(&self.0)
    }
}

impl Report for Checked {
    fn table(&self) -> String {
        table(&self.options) + "\nThe configuration is valid.\n"
    }
}
