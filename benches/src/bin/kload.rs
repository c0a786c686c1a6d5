//! Loads a Kafka broker, by address: `kload produce|fetch|ping|ready|delete`.
//!
//! A result goes to standard output as one line of JSON, and in words to standard error. Any error that the broker answers
//! is reported and makes the exit code 1.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures the real clock and the real disk")]

use clap::{Args, Parser, Subcommand};
use headwater_benches::kafka::connection::Connection;
use headwater_benches::kafka::process::Usage;
use headwater_benches::kafka::{Error, admin, fetch, ping, produce, ready};
use headwater_benches::latency::Percentiles;
use serde::Serialize;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

/// Loads a Kafka broker.
#[derive(Parser)]
struct Cli {
    /// The broker.
    #[arg(long, global = true, default_value = "127.0.0.1:9092")]
    broker: String,
    /// The server's process id, to report its CPU time and memory.
    #[arg(long, global = true)]
    pid: Option<u32>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Target {
    /// The topic; made when missing.
    #[arg(long, default_value = "kload")]
    topic: String,
    /// Its partitions.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// all (-1), 1 or 0.
    #[arg(long, default_value = "all", value_parser = acks, allow_hyphen_values = true)]
    acks: i16,
    /// Connections, each with a thread.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
}

#[derive(Subcommand)]
enum Verb {
    /// Produces batches, closed loop.
    Produce {
        #[command(flatten)]
        target: Target,
        /// Requests in flight on each connection.
        #[arg(long, default_value_t = 4)]
        in_flight: usize,
        /// Bytes of a batch, at most.
        #[arg(long, default_value_t = 65536)]
        batch_bytes: usize,
        /// Stop after so many value bytes (default 1 GB when no time is given).
        #[arg(long, default_value_t = 0)]
        bytes: u64,
        /// Stop after so many seconds.
        #[arg(long, default_value_t = 0.0)]
        seconds: f64,
    },
    /// Reads everything in a topic and checks it.
    Fetch {
        /// The topic.
        #[arg(long, default_value = "kload")]
        topic: String,
        /// Connections, which share the partitions.
        #[arg(long, default_value_t = 1)]
        connections: usize,
        /// The most bytes of an answer.
        #[arg(long, default_value_t = 50 << 20)]
        bytes_max: i32,
        /// The most bytes of a partition in an answer.
        #[arg(long, default_value_t = 1 << 20)]
        partition_bytes_max: i32,
        /// How often everything is read.
        #[arg(long, default_value_t = 1)]
        passes: u32,
        /// Batch bytes that one pass must find.
        #[arg(long)]
        expect_bytes: Option<u64>,
    },
    /// Measures the latency of single records.
    Ping {
        #[command(flatten)]
        target: Target,
        /// Pings of each connection.
        #[arg(long, default_value_t = 1000)]
        count: u32,
        /// Pings per second in all, on a fixed schedule; 0: one after the other.
        #[arg(long, default_value_t = 0.0)]
        rate: f64,
    },
    /// Waits until every partition of a topic has a leader and takes a record.
    Ready {
        /// The topic.
        #[arg(long, default_value = "kload")]
        topic: String,
        /// Makes the topic with so many partitions when it is missing.
        #[arg(long)]
        partitions: Option<i32>,
        /// Gives up after so many seconds.
        #[arg(long, default_value_t = 60.0)]
        seconds: f64,
    },
    /// Deletes a topic.
    Delete {
        /// The topic.
        #[arg(long, default_value = "kload")]
        topic: String,
    },
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        "0" => Ok(0),
        _ => Err("acks is all, 1 or 0".into()),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kload: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Error> {
    let pid = cli.pid;
    let address: SocketAddr =
        cli.broker.to_socket_addrs()?.next().ok_or_else(|| Error::Answer(format!("{} has no address", cli.broker)))?;
    match cli.verb {
        Verb::Produce { target, in_flight, batch_bytes, bytes, seconds } => {
            let Target { topic, partitions, acks, connections, record_bytes } = target;
            let total_bytes = if bytes == 0 && seconds == 0.0 { 1_000_000_000 } else { bytes };
            let duration = Duration::from_secs_f64(seconds);
            let done = produce::run(&produce::Plan {
                address,
                topic,
                partitions,
                acks,
                connections,
                in_flight,
                batch_bytes,
                record_bytes,
                total_bytes,
                duration,
                pid,
            })?;
            let what = format!("{:.0} MB/s, {:.0} records/s", done.mb_per_s, done.records_per_s);
            report("produce", &what, done.latency, done.own_cpu_s, done.server_cpu_s_per_gb, done.server, &done)
        }
        Verb::Fetch { topic, connections, bytes_max, partition_bytes_max, passes, expect_bytes } => {
            let done = fetch::run(&fetch::Plan {
                address,
                topic,
                connections,
                bytes_max,
                partition_bytes_max,
                passes,
                expect_bytes,
                pid,
            })?;
            let what = format!("{:.0} MB/s, {:.0} records/s", done.mb_per_s, done.records_per_s);
            report("fetch", &what, done.latency, done.own_cpu_s, done.server_cpu_s_per_gb, done.server, &done)
        }
        Verb::Ping { target, count, rate } => {
            let Target { topic, partitions, acks, connections, record_bytes } = target;
            if acks == 0 {
                return Err(Error::Answer("a ping without an answer has no latency: use acks all or 1".into()));
            }
            let done = ping::run(&ping::Plan {
                address,
                topic,
                partitions,
                acks,
                connections,
                record_bytes,
                count,
                rate,
                pid,
            })?;
            let what = format!("{:.0} records/s", done.records_per_s);
            report("ping", &what, done.latency, done.own_cpu_s, None, done.server, &done)
        }
        Verb::Ready { topic, partitions, seconds } => {
            let (took, count) = ready::wait(address, &topic, partitions, Duration::from_secs_f64(seconds))?;
            eprintln!("ready: {count} partitions of {topic} after {:.3} s", took.as_secs_f64());
            println!("{}", serde_json::json!({ "verb": "ready", "partitions": count, "seconds": took.as_secs_f64() }));
            Ok(())
        }
        Verb::Delete { topic } => admin::delete_topic(&mut Connection::open(address)?, &topic),
    }
}

/// Prints a result twice: for people and for programs.
fn report(
    verb: &str,
    what: &str,
    latency: Percentiles,
    own_cpu_s: f64,
    server_cpu_s_per_gb: Option<f64>,
    server: Option<Usage>,
    all: &impl Serialize,
) -> Result<(), Error> {
    let ms = |us: f64| us / 1e3;
    let mut line = format!(
        "{verb}: {what}; p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms; generator {own_cpu_s:.2} CPU s",
        ms(latency.p50_us),
        ms(latency.p99_us),
        ms(latency.p999_us)
    );
    if let Some(cpu) = server_cpu_s_per_gb {
        line.push_str(&format!("; server {cpu:.3} CPU s/GB"));
    }
    if let Some(server) = server {
        line.push_str(&format!(", {:.0} MB anonymous", server.anonymous_mb));
    }
    eprintln!("{line}");
    let mut value = serde_json::to_value(all).map_err(|error| Error::Answer(error.to_string()))?;
    value["verb"] = verb.into();
    println!("{value}");
    Ok(())
}
