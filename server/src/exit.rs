//! How the program ends: exit codes, and messages that say what to do next.

use crate::client::ClientError;
use crate::config::ConfigError;
use std::io;

/// A command did not do what it was asked to.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong (clap uses the same code).
pub const USAGE: u8 = 2;
/// The server could not start: an address is taken, or the data folder is in use or damaged.
pub const NOT_STARTED: u8 = 3;
/// The server was running and stopped because it could no longer promise durability.
pub const ENGINE_FAILED: u8 = 4;

/// Why a command ends without success.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    /// Empty when there is nothing to say.
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with a message.
    pub fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// An end that says nothing: the result was printed already.
    pub fn silent(code: u8) -> Failure {
        Failure::new(code, "")
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let hint = error.hint().map(str::to_owned);
        Failure { code: FAILED, message: error.to_string(), hint }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::new(USAGE, format!("the configuration is not valid\n{error}"))
    }
}

impl From<io::Error> for Failure {
    /// A closed pipe is how `headwater consume orders | head` ends: quietly, and not as a failure.
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::silent(0);
        }
        Failure::new(FAILED, error.to_string())
    }
}
