//! The command line: every command, its options, and the help text. The server's own options come from the table in
//! `config::options`.

use crate::client::Cluster;
use crate::command::{check, completion, config, consume, docs, group, health, log, produce, replay, topic};
use crate::config::ConfigArgs;
use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, Parser, Subcommand};
use headwater_benches::cli::Bench;
use std::time::Duration;

/// One durable log with every streaming and queueing API on top of it.
///
/// Without a command, `serve`, with its options.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, propagate_version = true, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    pub serve: ConfigArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(ConfigArgs),
    /// Show or check the server's configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// List, create, describe, change and delete topics
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Write records: one for each line of standard input
    Produce(produce::ProduceArgs),
    /// Read records and print them
    Consume(consume::ConsumeArgs),
    /// Read a range of the log, by offset or time, to a file or a pipe
    Replay(replay::ReplayArgs),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Look into the files of a log
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Ask whether a server is well, for supervisors and health checks
    Health(health::HealthArgs),
    /// Verify a data folder while no server uses it
    Check(check::CheckArgs),
    /// Load a Kafka broker and measure it
    #[command(subcommand)]
    Bench(Box<Bench>),
    /// Print a script that completes this command line in a shell
    Completion(completion::CompletionArgs),
    /// Print a generated page of the documentation
    #[command(subcommand, hide = true)]
    Docs(docs::DocsCommand),
}

/// Which broker a command talks to.
#[derive(Debug, Args)]
pub struct Target {
    /// A broker to start from, or several with commas between them
    #[arg(
        long,
        alias = "bootstrap-server",
        value_name = "HOST:PORT",
        env = "HEADWATER_BOOTSTRAP",
        default_value = "127.0.0.1:9092"
    )]
    pub bootstrap: String,
    /// Give up after this long, retries included
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
}

/// What a command takes that asks a broker and prints the answer.
#[derive(Debug, Args)]
pub struct Asking {
    #[command(flatten)]
    pub target: Target,
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

impl Asking {
    /// The cluster to ask.
    pub async fn connect(&self) -> Result<Cluster, Failure> {
        Ok(Cluster::connect(&self.target.bootstrap, self.target.timeout).await?)
    }
}

/// Reads a time in seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "is not a number of seconds".to_owned())?;
    if !(0.001..=86_400.0).contains(&seconds) {
        return Err("must lie between 0.001 and 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Reads `NAME=VALUE`.
pub fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("is not NAME=VALUE".to_owned()),
    }
}
