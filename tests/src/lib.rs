//! Shared pieces of the tests that watch Headwater from outside, as its clients see it: a server process ([`server`]), a
//! Kafka client that hides nothing ([`client`], [`calls`]), and record batches ([`batch`]) made without the engine's code.
#![allow(clippy::disallowed_methods, reason = "these tests run real processes on a real disk, by the real clock")]

pub mod batch;
pub mod calls;
pub mod client;
pub mod server;

use headwater_engine::env::sim::SimRng;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Whether the long form of the tests is asked for.
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os("HEADWATER_TEST_ALL").is_some()
}

/// A random number generator whose seed is printed, so that a failure can be looked at again. `HEADWATER_TEST_SEED` sets the
/// seed; the choices are then the same, though not the machine's timing.
#[must_use]
pub fn draw(test: &str) -> SimRng {
    let seed = std::env::var("HEADWATER_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        now as u64 ^ u64::from(std::process::id()) << 32
    });
    println!("{test}: HEADWATER_TEST_SEED={seed}");
    SimRng::new(seed)
}

/// Tests that measure time or memory, or load the whole machine, run one after the other.
pub fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    // A failed test says nothing about the next.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
