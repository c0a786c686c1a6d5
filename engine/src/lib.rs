//! The durable log beneath every Headwater API.
pub mod batch;
pub mod env;
mod ids;
pub use ids::*;
