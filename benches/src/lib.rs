//! Benchmarks and load generators.
//!
//! Three programs live here, each a thin `main` in `src/bin` over a module of this crate:
//! - `wal-bench` ([`wal`]): how a write reaches the medium, the evidence behind `docs/decisions/0001` and `0002`.
//!
//! - `kload` ([`kafka`]): loads any Kafka broker.
//! - `compare` ([`compare`]): Headwater and Apache Kafka side by side under the same load.
//!
//! Beside them, [`plot`] draws results.
//!
//! They measure real time and real disks, so they use the clock and the file system directly and are no part of any
//! simulation. Nothing here is linked into the server.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock and the real disk")]

pub mod compare;
pub mod kafka;
pub mod latency;
pub mod machine;
pub mod plot;
pub mod sys;
pub mod wal;
