//! Options of a load, which scenarios have in common.

use crate::kafka::Error;
use crate::kafka::batch::Shape;
use crate::load::keys::Distribution;
use crate::load::schedule::Rate;
use crate::load::{consumer, producer};
use clap::Args;
use headwater_engine::batch::Codec;
use std::net::SocketAddr;
use std::time::Duration;

/// What is produced, and how. Where no default is named, it is the scenario's own.
#[derive(Clone, Debug, Args)]
pub struct ProduceOptions {
    /// The topic; made when it is missing
    #[arg(long, default_value = "bench")]
    pub topic: String,
    /// Partitions of the topic
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: Option<i32>,
    /// A setting that the topic is made with
    #[arg(long = "topic-config", value_name = "NAME=VALUE", value_parser = name_value)]
    pub topic_config: Vec<(String, String)>,
    /// When the broker acknowledges: all, 1 or 0
    #[arg(long, default_value = "all", value_parser = acks, allow_hyphen_values = true)]
    pub acks: i16,
    /// Producers: connections
    #[arg(long, value_name = "N")]
    pub producers: Option<usize>,
    /// Threads that drive the producers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// Requests in flight of each producer
    #[arg(long, value_name = "N")]
    pub in_flight: Option<usize>,
    /// Bytes of a record's value
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub record_bytes: usize,
    /// Bytes of a batch before it is compressed, at most; it is filled up to them
    #[arg(long, value_name = "BYTES")]
    pub batch_bytes: Option<usize>,
    /// Records of a batch, instead of its size; on a schedule, late ones join into batches of the scenario's size
    #[arg(long, value_name = "N", conflicts_with = "batch_bytes", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_records: Option<u32>,
    /// Batches of different partitions that go into a request
    #[arg(long, value_name = "N")]
    pub request_partitions: Option<usize>,
    /// How batches are compressed: none, gzip, snappy, lz4 or zstd
    #[arg(long, default_value = "none", value_parser = codec)]
    pub compression: Codec,
    /// The share of each value that repeats itself; the rest is random (default: 0, or 0.5 when compressed)
    #[arg(long, value_name = "SHARE")]
    pub repeats: Option<f64>,
    /// How partitions are chosen: in turn, or by the keys of batches
    #[arg(long, value_enum, default_value_t)]
    pub keys: Distribution,
    /// How many keys there are
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub key_count: u32,
    /// Send on a fixed schedule: 5000 (records/s) or 20MB (value bytes/s); max: as fast as answers come
    #[arg(long, value_parser = Rate::parse)]
    pub rate: Option<Rate>,
    /// Count latency for each record, from its arrival within this time before its batch is due
    #[arg(long, value_name = "MS")]
    pub linger_ms: Option<u64>,
    /// Give each batch the time at which it is sent
    #[arg(long)]
    pub stamp: bool,
    /// Stop after this long
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// Stop after so many megabytes of values
    #[arg(long, value_name = "MB")]
    pub megabytes: Option<u64>,
}

impl ProduceOptions {
    /// The plan, with `defaults` of the scenario for what was not said.
    pub fn plan(&self, address: SocketAddr, defaults: producer::Plan) -> Result<producer::Plan, Error> {
        let compressed = self.compression != Codec::None;
        let shape = Shape {
            record_bytes: self.record_bytes,
            batch_bytes: self.batch_bytes.unwrap_or(defaults.shape.batch_bytes),
            records: match (self.batch_records, self.batch_bytes) {
                (Some(records), _) => Some(records as usize),
                (None, Some(_)) => None,
                (None, None) => defaults.shape.records,
            },
            key_bytes: if self.keys == Distribution::None { 0 } else { 8 },
            codec: self.compression,
            repeats: self.repeats.unwrap_or(if compressed { 0.5 } else { 0.0 }),
        };
        let (mut duration, mut total_bytes) = (defaults.duration, defaults.total_bytes);
        if self.duration.is_some() || self.megabytes.is_some() {
            duration = seconds(self.duration.unwrap_or(0.0))?;
            total_bytes = self.megabytes.unwrap_or(0) * 1_000_000;
        }
        Ok(producer::Plan {
            address,
            topic: self.topic.clone(),
            partitions: self.partitions.unwrap_or(defaults.partitions),
            topic_settings: self.topic_config.clone(),
            acks: self.acks,
            connections: self.producers.unwrap_or(defaults.connections),
            threads: self.threads,
            in_flight: self.in_flight.unwrap_or(defaults.in_flight),
            partitions_a_request: match (self.request_partitions, self.keys) {
                (Some(partitions), _) => partitions,
                (None, Distribution::None) => defaults.partitions_a_request,
                (None, _) => 1,
            },
            owned: defaults.owned,
            shape,
            rate: self.rate.unwrap_or(defaults.rate),
            linger: self.linger_ms.map_or(defaults.linger, Duration::from_millis),
            keys: self.keys,
            key_count: self.key_count,
            stamp: self.stamp || defaults.stamp,
            total_bytes,
            duration,
        })
    }
}

/// How it is read.
#[derive(Clone, Debug, Args)]
pub struct ConsumeOptions {
    /// Consumers: connections, each with a thread
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub consumers: usize,
    /// The most bytes of an answer
    #[arg(long, value_name = "BYTES", default_value_t = 50 << 20)]
    pub fetch_bytes: i32,
    /// The most bytes of a partition in an answer
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    pub partition_bytes: i32,
    /// Do not compare checksums: the rate is then nearer to what the server can send
    #[arg(long)]
    pub unchecked: bool,
}

impl ConsumeOptions {
    /// The plan.
    #[must_use]
    pub fn plan(&self, address: SocketAddr, topic: &str) -> consumer::Plan {
        consumer::Plan {
            consumers: self.consumers,
            bytes_max: self.fetch_bytes,
            partition_bytes_max: self.partition_bytes,
            sums: !self.unchecked,
            ..consumer::Plan::new(address, topic)
        }
    }
}

/// A time in seconds.
pub fn seconds(value: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(value).map_err(|error| Error::Answer(format!("{value} seconds: {error}")))
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        "0" => Ok(0),
        _ => Err("acks is all, 1 or 0".into()),
    }
}

fn codec(text: &str) -> Result<Codec, String> {
    let named = Codec::ALL.into_iter().find(|codec| format!("{codec:?}").eq_ignore_ascii_case(text));
    named.ok_or_else(|| "is none of none, gzip, snappy, lz4 and zstd".into())
}

/// Reads `NAME=VALUE`.
pub fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("is not NAME=VALUE".to_owned()),
    }
}
