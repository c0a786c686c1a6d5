//! THE table of options. The flags, the environment variables, the keys of the file, `headwater config`, and
//! `docs/configuration.md` all come from its rows: add an option here and nowhere else.

use super::size::{parse_between, parse_i32, parse_number, parse_switch};
use super::{Config, LogFormat};
use headwater_engine::env::WalMethod;
use std::path::PathBuf;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// What every environment variable of the server starts with.
pub const ENV_PREFIX: &str = "HEADWATER_";

/// Variables that other parts of the program read, so that they are not reported as unknown.
pub const OTHER_ENV: &[&str] = &["HEADWATER_CONFIG", "HEADWATER_TOPIC_DEFAULTS", "HEADWATER_BOOTSTRAP"];

/// One option.
pub struct OptionRow {
    /// Its key in the file; flag and environment variable are made from it.
    pub key: &'static str,
    /// What stands for the value in a usage line; empty for a switch.
    pub value_name: &'static str,
    /// The default, as a person would write it.
    pub default: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Reads the value into the configuration, or says what is wrong with it.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

impl OptionRow {
    /// `limits.connections_max` is `limits-connections-max` on the command line.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }

    /// `limits.connections_max` is `HEADWATER_LIMITS_CONNECTIONS_MAX` in the environment.
    pub fn env(&self) -> String {
        format!("{ENV_PREFIX}{}", self.key.replace('.', "_").to_ascii_uppercase())
    }
}

/// Finds an option by its key.
pub fn find(key: &str) -> Option<&'static OptionRow> {
    OPTIONS.iter().find(|row| row.key == key)
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Every option, in the order in which people meet them.
pub const OPTIONS: &[OptionRow] = &[
    OptionRow {
        key: "data_dir",
        value_name: "DIR",
        default: "./headwater-data",
        help: "Where the data lives; made when it is missing",
        set: |config, text| {
            if text.is_empty() {
                return Err("is empty".into());
            }
            config.engine.data_dir = PathBuf::from(text);
            Ok(())
        },
    },
    OptionRow {
        key: "kafka",
        value_name: "ADDR",
        default: "127.0.0.1:9092",
        help: "Where Kafka clients connect; port 0 takes a free one",
        set: |config, text| {
            config.kafka = text.parse()?;
            Ok(())
        },
    },
    OptionRow {
        key: "kafka_advertised",
        value_name: "ADDR",
        default: "",
        help: "The address that Kafka clients are told to come back to, when it differs from the one they are served on",
        set: |config, text| {
            config.kafka_advertised = if text.is_empty() { None } else { Some(text.parse()?) };
            Ok(())
        },
    },
    OptionRow {
        key: "aws",
        value_name: "ADDR",
        default: "127.0.0.1:4566",
        help: "Where AWS clients connect, one port for all AWS APIs (none is served yet, so nothing listens there)",
        set: |config, text| {
            config.aws = text.parse()?;
            Ok(())
        },
    },
    OptionRow {
        key: "admin",
        value_name: "ADDR",
        default: "127.0.0.1:9600",
        help: "Where health and metrics are served over HTTP",
        set: |config, text| {
            config.admin = text.parse()?;
            Ok(())
        },
    },
    OptionRow {
        key: "admin_hosts",
        value_name: "NAMES",
        default: "",
        help: "Host names, separated by commas, under which the admin port may be asked, beside the loopback ones",
        set: |config, text| {
            config.admin_hosts = split_list(text);
            Ok(())
        },
    },
    OptionRow {
        key: "durability",
        value_name: "MODE",
        default: "fsync",
        help: "What an acknowledgement means: fsync = safe from a power cut, os = safe from a crash of the process",
        set: |config, text| {
            config.engine.durability = text.parse()?;
            Ok(())
        },
    },
    OptionRow {
        key: "insecure_no_auth",
        value_name: "",
        default: "false",
        help: "Listen beyond this machine although nobody has to authenticate",
        set: |config, text| {
            config.insecure_no_auth = parse_switch(text)?;
            Ok(())
        },
    },
    OptionRow {
        key: "log.level",
        value_name: "LEVEL",
        default: "info",
        help: "error, warn, info, debug or trace; per module as in info,headwater_engine=debug",
        set: |config, text| {
            config.log.levels = parse_levels(text)?;
            Ok(())
        },
    },
    OptionRow {
        key: "log.format",
        value_name: "FORMAT",
        default: "text",
        help: "The form of log lines on standard error: text or json",
        set: |config, text| {
            config.log.format = match text {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err("must be text or json".into()),
            };
            Ok(())
        },
    },
    OptionRow {
        key: "topic.auto_create",
        value_name: "BOOL",
        default: "true",
        help: "Whether a topic is made when a client that asks for it first writes to it or looks for it",
        set: |config, text| {
            config.auto_create_topics = parse_switch(text)?;
            Ok(())
        },
    },
    OptionRow {
        key: "topic.partitions",
        value_name: "COUNT",
        default: "1",
        help: "Partitions of a topic that is made without saying how many",
        set: |config, text| {
            config.default_partitions = u32::try_from(parse_number(text, 1, 100_000)?).unwrap_or(u32::MAX);
            Ok(())
        },
    },
    OptionRow {
        key: "topic.retention_check_seconds",
        value_name: "SECONDS",
        default: "60",
        help: "How often old segments are looked for that may be deleted",
        set: |config, text| {
            config.engine.retention_interval = Duration::from_secs(parse_number(text, 1, 86_400)?);
            Ok(())
        },
    },
    OptionRow {
        key: "topic.compaction_check_seconds",
        value_name: "SECONDS",
        default: "15",
        help: "How often compacted topics are looked at, while there is nothing to compact",
        set: |config, text| {
            config.engine.compaction_interval = Duration::from_secs(parse_number(text, 1, 86_400)?);
            Ok(())
        },
    },
    OptionRow {
        key: "groups.initial_rebalance_delay_ms",
        value_name: "MS",
        default: "3000",
        help: "How long the first members of a consumer group wait for further ones",
        set: |config, text| {
            config.groups.initial_rebalance_delay_ms = parse_i32(text, 0, 3_600_000)?;
            Ok(())
        },
    },
    OptionRow {
        key: "groups.session_timeout_min_ms",
        value_name: "MS",
        default: "6000",
        help: "The shortest session that a member of a consumer group may ask for",
        set: |config, text| {
            config.groups.session_timeout_min_ms = parse_i32(text, 1, i32::MAX)?;
            Ok(())
        },
    },
    OptionRow {
        key: "groups.session_timeout_max_ms",
        value_name: "MS",
        default: "1800000",
        help: "The longest session that a member of a consumer group may ask for",
        set: |config, text| {
            config.groups.session_timeout_max_ms = parse_i32(text, 1, i32::MAX)?;
            Ok(())
        },
    },
    OptionRow {
        key: "groups.members_max",
        value_name: "COUNT",
        default: "2147483647",
        help: "Members of a consumer group; never more than 20000",
        set: |config, text| {
            config.groups.members_max = usize::try_from(parse_i32(text, 1, i32::MAX)?).unwrap_or(usize::MAX);
            Ok(())
        },
    },
    OptionRow {
        key: "groups.offsets_partitions",
        value_name: "COUNT",
        default: "50",
        help: "Partitions of __consumer_offsets, when it is made; what is there stays as it is",
        set: |config, text| {
            config.groups.topic_partitions = u32::try_from(parse_number(text, 1, 10_000)?).unwrap_or(u32::MAX);
            Ok(())
        },
    },
    OptionRow {
        key: "groups.offsets_retention_minutes",
        value_name: "MINUTES",
        default: "10080",
        help: "How long committed offsets outlive the last member of their group",
        set: |config, text| {
            config.groups.offsets_retention_ms = i64::from(parse_i32(text, 1, i32::MAX)?) * 60_000;
            Ok(())
        },
    },
    OptionRow {
        key: "groups.retention_check_seconds",
        value_name: "SECONDS",
        default: "600",
        help: "How often committed offsets are looked for that have expired",
        set: |config, text| {
            config.groups.retention_check_interval = Duration::from_secs(parse_number(text, 1, 86_400)?);
            Ok(())
        },
    },
    OptionRow {
        key: "limits.connections_max",
        value_name: "COUNT",
        default: "10000",
        help: "Connections at once; further ones are closed",
        set: |config, text| {
            config.limits.connections_max = to_usize(parse_number(text, 1, 1_000_000)?);
            Ok(())
        },
    },
    OptionRow {
        key: "limits.request_size_max",
        value_name: "SIZE",
        default: "100MiB",
        help: "The largest request; a connection that announces a larger one is closed",
        set: |config, text| {
            config.limits.request_bytes_max = to_usize(parse_between(text, 64 * KIB, GIB)?);
            Ok(())
        },
    },
    OptionRow {
        key: "limits.request_memory_max",
        value_name: "SIZE",
        default: "512MiB",
        help: "Memory for requests of all connections together; further ones wait",
        set: |config, text| {
            config.limits.request_memory_max = parse_between(text, MIB, 1024 * GIB)?;
            Ok(())
        },
    },
    OptionRow {
        key: "limits.fetch_size_max",
        value_name: "SIZE",
        default: "55MiB",
        help: "Records in one answer to a fetch, whatever the client asks for",
        set: |config, text| {
            config.limits.fetch_bytes_max = to_usize(parse_between(text, 64 * KIB, GIB)?);
            Ok(())
        },
    },
    OptionRow {
        key: "limits.compaction_memory_max",
        value_name: "SIZE",
        default: "64MiB",
        help: "Memory for the keys of a partition that is being compacted; when it does not hold all, several passes are made",
        set: |config, text| {
            config.engine.compaction_map_bytes_max = to_usize(parse_between(text, MIB, 64 * GIB)?);
            Ok(())
        },
    },
    OptionRow {
        key: "limits.send_buffer",
        value_name: "SIZE",
        default: "0",
        help: "What the system may hold of answers that a connection has not taken yet; 0 lets the system decide",
        set: |config, text| {
            let bytes = to_usize(parse_between(text, 0, GIB)?);
            config.limits.send_buffer_bytes = (bytes > 0).then_some(bytes);
            Ok(())
        },
    },
    OptionRow {
        key: "limits.idle_seconds_max",
        value_name: "SECONDS",
        default: "600",
        help: "A connection that sends no request for so long is closed",
        set: |config, text| {
            config.limits.idle_max = Duration::from_secs(parse_number(text, 1, 7 * 86_400)?);
            Ok(())
        },
    },
    OptionRow {
        key: "limits.partitions_max",
        value_name: "COUNT",
        default: "200000",
        help: "Partitions of all topics together",
        set: |config, text| {
            config.engine.partitions_max = to_usize(parse_number(text, 1, 10_000_000)?);
            Ok(())
        },
    },
    OptionRow {
        key: "limits.open_files_max",
        value_name: "COUNT",
        default: "4096",
        help: "Segment files kept open; at most half of what the system lets the process open",
        set: |config, text| {
            config.engine.open_files_max = to_usize(parse_number(text, 16, 10_000_000)?);
            Ok(())
        },
    },
    OptionRow {
        key: "wal.method",
        value_name: "METHOD",
        default: "auto",
        help: "How the write-ahead log is written: auto, io_uring or portable",
        set: |config, text| {
            config.engine.wal_method = match text {
                "auto" => WalMethod::Auto,
                "io_uring" => WalMethod::IoUring,
                "portable" => WalMethod::Portable,
                _ => return Err("must be auto, io_uring or portable".into()),
            };
            Ok(())
        },
    },
    OptionRow {
        key: "wal.size_initial",
        value_name: "SIZE",
        default: "8MiB",
        help: "How large the write-ahead log is made at the first start; it grows from there",
        set: |config, text| {
            config.engine.wal_size_initial = parse_between(text, 256 * KIB, 64 * GIB)?;
            Ok(())
        },
    },
    OptionRow {
        key: "wal.size_max",
        value_name: "SIZE",
        default: "1GiB",
        help: "How far the write-ahead log may grow; a larger one takes bursts better and recovers more slowly",
        set: |config, text| {
            config.engine.wal_size_max = parse_between(text, MIB, 1024 * GIB)?;
            Ok(())
        },
    },
    OptionRow {
        key: "disk.reserve",
        value_name: "SIZE",
        default: "256MiB",
        help: "Free space below which producers are refused, so that a full disk can still be drained",
        set: |config, text| {
            config.engine.disk_reserve_bytes = parse_between(text, 0, 1024 * GIB)?;
            Ok(())
        },
    },
    OptionRow {
        key: "disk.scrub_rate",
        value_name: "SIZE",
        default: "8MiB",
        help: "How much of the old segments is compared with its CRCs in a second; 0 turns that off",
        set: |config, text| {
            config.engine.scrub_bytes_per_second = parse_between(text, 0, 64 * GIB)?;
            Ok(())
        },
    },
    OptionRow {
        key: "disk.replay_threads",
        value_name: "COUNT",
        default: "4",
        help: "Threads that read from the medium what is not in memory; all but one of them also read ahead",
        set: |config, text| {
            config.engine.replay_threads = to_usize(parse_number(text, 1, 256)?);
            Ok(())
        },
    },
    OptionRow {
        key: "worker_threads",
        value_name: "COUNT",
        default: "0",
        help: "Threads that serve connections; 0 is one per core",
        set: |config, text| {
            let count = to_usize(parse_number(text, 0, 1024)?);
            config.worker_threads = (count > 0).then_some(count);
            Ok(())
        },
    },
];

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `Targets` alone takes a misspelt level for the name of a module.
fn parse_levels(text: &str) -> Result<Targets, String> {
    let mut levels = Targets::new();
    for part in split_list(text) {
        let (module, level) = part.split_once('=').map_or((None, part.as_str()), |(m, level)| (Some(m), level));
        let level: LevelFilter =
            level.parse().map_err(|_| "is not a level: error, warn, info, debug, trace or off".to_owned())?;
        levels = match module {
            Some(module) => levels.with_target(module, level),
            None => levels.with_default(level),
        };
    }
    Ok(levels)
}

fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
