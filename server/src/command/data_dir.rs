//! The data folder that an offline command looks at.

use crate::exit::{FAILED, Failure};
use clap::Args;
use headwater_engine::OpenError;
use headwater_engine::env::Env;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Which folder.
#[derive(Debug, Args)]
pub struct DataDir {
    /// The data folder
    #[arg(
        id = "data_dir",
        long = "data-dir",
        value_name = "DIR",
        env = "HEADWATER_DATA_DIR",
        default_value = "./headwater-data"
    )]
    pub path: PathBuf,
}

impl DataDir {
    /// The machine, with the folder, which must be there: opening alone would make it.
    pub fn open(&self) -> Result<Env, Failure> {
        let path = self.path.display();
        if !self.path.is_dir() {
            return Err(Failure::new(FAILED, format!("there is no data folder {path}")).hint("--data-dir names it"));
        }
        Env::real(&self.path).map_err(|error| Failure::new(FAILED, format!("cannot use {path}: {error}")))
    }

    /// Why `doing` something with the folder failed, and what to do.
    pub fn failure(&self, doing: &str, error: &OpenError) -> Failure {
        let failure = Failure::new(FAILED, format!("cannot {doing} {}: {error}", self.path.display()));
        match error {
            OpenError::Io { error, .. } if error.kind() == ErrorKind::WouldBlock => {
                failure.hint("a server uses it; stop the server first")
            }
            OpenError::Io { error, .. } if error.kind() == ErrorKind::NotFound => {
                failure.hint("is it a data folder of headwater? Nothing in it looks like one")
            }
            _ => failure,
        }
    }
}
