//! One round on one server: produce, fetch what was produced, ping.
//!
//! Topics stay until the servers' data is removed as a whole. To delete them between rounds would charge one server for it in
//! the next round's figures, and the other, which deletes a minute later, in any round's.

use super::server::Server;
use crate::kafka::connection::Connection;
use crate::kafka::process::Usage;
use crate::kafka::{Error, admin, fetch, ping, produce};
use crate::machine;
use serde::Serialize;
use std::thread;
use std::time::Duration;

/// The load, the same for every server.
#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Value bytes produced in a round.
    pub round_bytes: u64,
    /// Value bytes produced and fetched before the first round, so that a JVM has compiled what it runs.
    pub warm_bytes: u64,
    /// Bytes of a record's value.
    pub record_bytes: usize,
    /// Bytes of a batch, at most.
    pub batch_bytes: usize,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Producing connections.
    pub connections: usize,
    /// Produce requests in flight on each.
    pub in_flight: usize,
    /// Fetching connections.
    pub fetch_connections: usize,
    /// How often a round's records are fetched.
    pub fetch_passes: u32,
    /// Single-record produces on one connection.
    pub pings: u32,
    /// Waited after producing before the CPU time is read, so that work put off to the background counts.
    pub settle_ms: u64,
}

/// The figures of a round on a server.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Server CPU seconds for 10^9 produced value bytes, until it settled.
    pub produce_cpu_s_per_gb: f64,
    /// The same, until the last answer.
    pub produce_cpu_s_per_gb_unsettled: f64,
    /// Produced value bytes per second, in MB.
    pub produce_mb_per_s: f64,
    /// Latency of a produce request under that load.
    pub produce_p50_ms: f64,
    /// 99 of 100 were faster.
    pub produce_p99_ms: f64,
    /// Server CPU seconds for 10^9 fetched batch bytes.
    pub fetch_cpu_s_per_gb: f64,
    /// Fetched batch bytes per second, in MB.
    pub fetch_mb_per_s: f64,
    /// Latency of a lone record.
    pub ping_p50_ms: f64,
    /// 99 of 100 were faster.
    pub ping_p99_ms: f64,
    /// Resident anonymous memory at the end of the round, in MB.
    pub anonymous_mb: f64,
    /// CPU seconds of the generator in the round: it must not be what limits.
    pub generator_cpu_s: f64,
    /// Load average of the machine at the end: above two, others were at work.
    pub load: f64,
}

impl Figures {
    /// Names and values, in the order of the tables.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, f64); 12] {
        [
            ("produce: server CPU s/GB", self.produce_cpu_s_per_gb),
            ("produce: server CPU s/GB, unsettled", self.produce_cpu_s_per_gb_unsettled),
            ("produce: MB/s", self.produce_mb_per_s),
            ("produce: p50 ms", self.produce_p50_ms),
            ("produce: p99 ms", self.produce_p99_ms),
            ("fetch: server CPU s/GB", self.fetch_cpu_s_per_gb),
            ("fetch: MB/s", self.fetch_mb_per_s),
            ("ping: p50 ms", self.ping_p50_ms),
            ("ping: p99 ms", self.ping_p99_ms),
            ("anonymous memory MB", self.anonymous_mb),
            ("generator CPU s", self.generator_cpu_s),
            ("load average", self.load),
        ]
    }
}

impl Load {
    fn produce(&self, server: &Server, topic: &str, bytes: u64) -> produce::Plan {
        produce::Plan {
            address: server.address,
            topic: topic.into(),
            partitions: self.partitions,
            acks: -1,
            connections: self.connections,
            in_flight: self.in_flight,
            batch_bytes: self.batch_bytes,
            record_bytes: self.record_bytes,
            total_bytes: bytes,
            duration: Duration::ZERO,
            pid: Some(server.pid),
        }
    }

    fn fetch(&self, server: &Server, topic: &str, expect_bytes: u64) -> fetch::Plan {
        fetch::Plan {
            address: server.address,
            topic: topic.into(),
            connections: self.fetch_connections,
            bytes_max: 50 << 20,
            partition_bytes_max: 1 << 20,
            passes: self.fetch_passes,
            expect_bytes: Some(expect_bytes),
            pid: Some(server.pid),
        }
    }

    /// Produces and fetches until a JVM is warm.
    pub fn warm(&self, server: &Server) -> Result<(), Error> {
        if self.warm_bytes > 0 {
            let produced = produce::run(&self.produce(server, "warm", self.warm_bytes))?;
            fetch::run(&self.fetch(server, "warm", produced.batch_bytes))?;
        }
        Ok(())
    }

    /// Runs a round.
    pub fn round(&self, server: &Server, number: usize) -> Result<Figures, Error> {
        let topic = format!("round-{number}");
        admin::ensure_topic(&mut Connection::open(server.address)?, &topic, self.partitions)?;
        let before = Usage::of(server.pid)?;
        let produced = produce::run(&self.produce(server, &topic, self.round_bytes))?;
        thread::sleep(Duration::from_millis(self.settle_ms));
        let settled = Usage::of(server.pid)?;
        let fetched = fetch::run(&self.fetch(server, &topic, produced.batch_bytes))?;
        let pinged = ping::run(&ping::Plan {
            address: server.address,
            topic: topic.clone(),
            partitions: self.partitions,
            acks: -1,
            connections: 1,
            record_bytes: self.record_bytes,
            count: self.pings,
            rate: 0.0,
            pid: Some(server.pid),
        })?;
        let after = Usage::of(server.pid)?;
        Ok(Figures {
            produce_cpu_s_per_gb: (settled.cpu_s() - before.cpu_s()) * 1e9 / produced.bytes.max(1) as f64,
            produce_cpu_s_per_gb_unsettled: produced.server_cpu_s_per_gb.unwrap_or(0.0),
            produce_mb_per_s: produced.mb_per_s,
            produce_p50_ms: produced.latency.p50_us / 1e3,
            produce_p99_ms: produced.latency.p99_us / 1e3,
            fetch_cpu_s_per_gb: fetched.server_cpu_s_per_gb.unwrap_or(0.0),
            fetch_mb_per_s: fetched.mb_per_s,
            ping_p50_ms: pinged.latency.p50_us / 1e3,
            ping_p99_ms: pinged.latency.p99_us / 1e3,
            anonymous_mb: after.anonymous_mb,
            generator_cpu_s: produced.own_cpu_s + fetched.own_cpu_s + pinged.own_cpu_s,
            load: machine::load_average(),
        })
    }
}
