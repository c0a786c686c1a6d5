//! Headwater and Apache Kafka side by side, under the same load, in one run.
//!
//! Every server runs on one CPU and the generator on another, so that neither takes from the other; all servers are up the
//! whole time and only one is loaded at once. Rounds are interleaved, in an order that reverses each time, so that noise
//! and drift fall on all alike; medians come with extremes, ratios are taken within a round. Durability differs and is
//! named: Apache Kafka acknowledges from the page cache, Headwater (unless in mode `os`) from the medium.

pub mod report;
pub mod scenario;
pub mod server;
