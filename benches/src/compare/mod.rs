//! Brokers side by side under the same load, in one run.
//!
//! Every server runs on one CPU and the generator on another, so that neither takes from the other; all servers are up the
//! whole time and only one is loaded at once. Rounds are interleaved, in an order that reverses each time, so that noise and drift
//! fall on all alike; medians come with extremes, ratios are taken within a round. Durability differs and is named.
//!
//! A case ([`case`]) is one load with its figures; real clients ([`client`]) can be the load. Beside the servers may stand a sink ([`sink`]) that answers and stores
//! nothing: what the generator and the sockets cost by themselves.

pub mod case;
pub mod client;
pub mod plots;
pub mod report;
pub mod run;
pub mod server;
pub mod sink;
