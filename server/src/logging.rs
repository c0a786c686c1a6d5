//! Log lines: on standard error, as text or JSON, never on standard output, which belongs to results.

use crate::config::{Log, LogFormat};
use crate::output;
use std::io;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

/// Logs as the server's configuration says.
pub fn start(log: &Log) {
    install(log.levels.clone(), log.format);
}

/// Logs as the command line tools do: warnings, or what HEADWATER_LOG_LEVEL asks for.
pub fn start_tool() {
    let asked = std::env::var("HEADWATER_LOG_LEVEL").ok().and_then(|text| text.parse().ok());
    install(asked.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN)), LogFormat::Text);
}

fn install(levels: Targets, format: LogFormat) {
    let lines = fmt::layer().with_writer(io::stderr);
    let registry = Registry::default().with(levels);
    let installed = match format {
        LogFormat::Text => registry.with(lines.with_ansi(output::colour())).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    if let Err(error) = installed {
        eprintln!("headwater: cannot start the log: {error}");
    }
}
