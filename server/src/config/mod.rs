//! The server's configuration: one table of options ([`options`]), four places that may set each of them (flag,
//! environment, file, default; [`resolve`]), and the checks that cross options ([`checks`]).
//!
//! It owns no decision about what an option does: it hands out a typed [`Config`], and the wiring acts on it.

mod address;
mod args;
mod checks;
mod file;
pub mod options;
mod resolve;
mod size;
#[cfg(test)]
mod tests;
mod topic_defaults;

pub use address::Address;
pub use args::ConfigArgs;
pub use resolve::{Effective, Inputs, Value, resolve};
pub use size::parse as parse_size;

use headwater_protocol::Limits;
use headwater_protocol_kafka::GroupOptions;
use std::fmt;
use std::path::{Path, PathBuf};
use tracing_subscriber::filter::Targets;

/// What the server runs with, typed and checked.
#[derive(Debug)]
pub struct Config {
    /// The engine's own options; what no option of ours names stays at the engine's default.
    pub engine: headwater_engine::Options,
    /// The network's bounds, likewise.
    pub limits: Limits,
    pub kafka: Address,
    /// What Metadata answers tell clients to connect to; the bound address when not set.
    pub kafka_advertised: Option<Address>,
    pub aws: Address,
    pub admin: Address,
    /// Host names, beside the loopback ones, under which the admin port may be asked.
    pub admin_hosts: Vec<String>,
    pub insecure_no_auth: bool,
    /// Threads that serve connections; `None` is one per core.
    pub worker_threads: Option<usize>,
    pub log: Log,
    /// Whether a client that names a missing topic makes it.
    pub auto_create_topics: bool,
    /// Partitions of a topic that is made without a number.
    pub default_partitions: u32,
    /// Consumer groups; what no option of ours names stays at the head's default.
    pub groups: GroupOptions,
}

impl Default for Config {
    /// Before any option is read: every row of the table sets its own part.
    fn default() -> Config {
        Config {
            engine: headwater_engine::Options::new(PathBuf::new()),
            limits: Limits::default(),
            kafka: Address::default(),
            kafka_advertised: None,
            aws: Address::default(),
            admin: Address::default(),
            admin_hosts: Vec::new(),
            insecure_no_auth: false,
            worker_threads: None,
            log: Log::default(),
            auto_create_topics: false,
            default_partitions: 0,
            groups: GroupOptions::default(),
        }
    }
}

/// How the server logs.
#[derive(Debug, Default)]
pub struct Log {
    pub levels: Targets,
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Everything that is wrong with a configuration, so that it can be put right in one go.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

/// One thing that is wrong, and where it was said.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    pub at: String,
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {}", problem.at, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Reads flags, environment and file, and resolves them.
pub fn load(args: &ConfigArgs) -> Result<Effective, ConfigError> {
    let mut inputs = Inputs { flags: args.values.clone(), ..Inputs::default() };
    let mut problems = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(options::ENV_PREFIX)) else { continue };
        match value.into_string() {
            Ok(value) => inputs.env.push((name.to_owned(), value)),
            Err(_) => problems.push(Problem { at: name.to_owned(), message: "is not valid UTF-8".into() }),
        }
    }
    let from_env = inputs.env.iter().find(|(name, _)| name == "HEADWATER_CONFIG").map(|(_, path)| PathBuf::from(path));
    if let Some(path) = args.config.clone().or(from_env) {
        match read(&path) {
            Ok(text) => inputs.file = Some((path.display().to_string(), text)),
            Err(error) => {
                problems.push(Problem { at: path.display().to_string(), message: format!("cannot be read: {error}") });
            }
        }
    }
    if problems.is_empty() { resolve(&inputs) } else { Err(ConfigError(problems)) }
}

#[allow(clippy::disallowed_methods, reason = "a configuration file is read before there is an engine, by design")]
fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read(path).and_then(|bytes| {
        String::from_utf8(bytes).map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "is not UTF-8"))
    })
}
