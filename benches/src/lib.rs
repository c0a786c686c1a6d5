//! The benchmark harness, `headwater bench`, and the parts that it is made of.
//!
//! - [`cli`]: the subcommands of `headwater bench` and their options.
//! - [`kafka`]: a small Kafka client of its own, cheap for a record, to load any broker.
//! - [`load`]: producers, consumers, schedules, meters and costs; [`scenario`] puts them together, [`report`] writes what came
//!   of it.
//! - [`limits`]: what the machine itself can do; [`plot`]: results as SVG.
//! - [`compare`]: brokers side by side under the same load.
//! - [`wal`]: how a write reaches the medium, the evidence behind `docs/decisions/0001` and `0002`; a program of its own,
//!   `wal-bench`.
//!
//! It measures real time and real disks, so it uses the clock and the file system directly and is no part of any
//! simulation. The binary carries it as one of its commands; nothing that serves calls it, and it calls nothing that serves:
//! a broker is reached by its address alone.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock and the real disk")]

pub mod cli;
pub mod compare;
pub mod kafka;
pub mod latency;
pub mod limits;
pub mod load;
pub mod machine;
pub mod plot;
pub mod report;
pub mod scenario;
pub mod sys;
pub mod wal;
