//! The system's ways to ask for an end: SIGTERM and SIGINT. The first one drains, a second one ends at once.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a process that a second signal ended, as a shell would report it.
pub const ENDED_AT_ONCE: i32 = 130;

/// Both signals.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over; from now on they end nothing by themselves.
    pub fn listen() -> io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one, by name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
