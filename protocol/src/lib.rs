//! What every protocol head shares: bounds, the network seam, the accept loop, memory for requests, metrics, shutdown.
//!
//! It knows the engine's ranges of files, so that record bytes go from the page cache to the socket, and no protocol's words.

pub mod budget;
mod limits;
pub mod listener;
pub mod metrics;
pub mod net;
mod shutdown;
mod wait_ends;
pub mod waiting_room;

pub use limits::Limits;
pub use shutdown::{Phase, Shutdown, Trigger};
pub use wait_ends::WaitEnds;
