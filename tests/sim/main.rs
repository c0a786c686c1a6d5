//! The engine on the simulated disk, against a plain model.
//!
//! `model` says what must be there: the effects that were acknowledged, then those that were asked for and not yet answered,
//! in the one order in which the engine queued them. `world` drives a real engine by hand and tells the model what it asked and
//! what it was answered. `stops` looks at every operation of the disk: it builds what a power cut or a kill at that moment
//! leaves, opens it and holds the result against the model. `script` and `random` are what happens meanwhile.
//!
//! ```text
//! cargo test -p headwater-tests --test sim --profile quick                 scripted runs and a few random ones
//! HEADWATER_TEST_ALL=1 cargo test ...                                      1,000 random ones
//! HEADWATER_SIM_SEEDS=200..300 cargo test ...                              these
//! HEADWATER_SIM_SEEDS=17 HEADWATER_SIM_STOP=432 cargo test ... random      this run, looked at after this operation alone
//! ```

mod batches;
mod compacted;
mod compaction;
mod draw;
mod expectation;
mod faults;
mod flips;
mod frozen;
mod full;
mod model;
mod os;
mod pressure;
mod random;
mod repair;
mod script;
mod state;
mod stops;
mod threads;
mod world;

/// Ends a test step with a message unless something holds.
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err(format!($($message)+).into());
        }
    };
}
pub(crate) use ensure;

/// Whether the long form of the tests was asked for.
fn is_long() -> bool {
    std::env::var_os("HEADWATER_TEST_ALL").is_some()
}
