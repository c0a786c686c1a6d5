//! The binary: the server, and command line tools that speak Kafka or read the files of a log.

mod admin;
mod cli;
mod client;
mod command;
mod config;
mod exit;
mod logging;
mod memory;
mod output;
mod process;
mod serve;
mod signals;

use clap::Parser;
use cli::{Cli, Command};
use exit::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command.unwrap_or(Command::Serve(cli.serve))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure);
            ExitCode::from(failure.code)
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    if !matches!(command, Command::Serve(_)) {
        logging::start_tool();
    }
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Config(command) => command::config::run(&command),
        Command::Topic(command) => command::topic::run(command),
        Command::Produce(args) => command::produce::run(args),
        Command::Consume(args) => command::consume::run(args),
        Command::Replay(args) => command::replay::run(args),
        Command::Group(command) => command::group::run(command),
        Command::Log(command) => command::log::run(&command),
        Command::Health(args) => command::run_async(command::health::run(args)),
        Command::Check(args) => command::check::run(&args),
        Command::Bench(bench) => command::bench::run(&bench),
        Command::Completion(args) => command::completion::run(&args),
        Command::Docs(command) => command::docs::run(command),
    }
}

fn report(failure: &Failure) {
    if failure.message.is_empty() {
        return;
    }
    let (red, plain) = if output::colour() { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    eprintln!("{red}error:{plain} {}", failure.message);
    if let Some(hint) = &failure.hint {
        eprintln!("hint: {hint}");
    }
}
