//! What a run leaves, to be damaged and opened again.

use crate::expectation::Expectation;
use crate::world::Config;
use headwater_engine::env::Env;
use headwater_engine::env::sim::{self, SimClock, SimDisk};
use headwater_engine::{Engine, OpenError};

/// A data folder that no engine uses, and what is in it.
pub struct Frozen {
    pub disk: SimDisk,
    pub config: Config,
    pub clock: SimClock,
    pub due: Expectation,
}

impl Frozen {
    /// A copy of the disk, to damage.
    pub fn copy(&self) -> SimDisk {
        self.disk.kill_image()
    }

    pub fn env(&self, disk: &SimDisk) -> Env {
        sim::env_on(disk, &self.clock, self.config.seed)
    }

    pub fn clock_ms(&self) -> i64 {
        self.env(&self.disk).clock.wall().0
    }

    pub fn open(&self, disk: &SimDisk) -> Result<Engine, OpenError> {
        Engine::open(self.env(disk), self.config.options())
    }
}
