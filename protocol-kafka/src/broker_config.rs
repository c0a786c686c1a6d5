//! The broker's settings that clients and tools read, with what is true of this server. The reference has some 350; those
//! that would say nothing here (its threads, its tiers, its controllers) are left out rather than made up.
//!
//! They are read-only: the server's own configuration sets them.

use crate::context::Context;
use crate::limits::PARTITIONS_DESCRIBED_MAX;
use crate::topic_config::{self, Kind, SETTINGS, Setting, Source};
use std::fmt::Write;

/// One name.
struct Row {
    name: &'static str,
    kind: Kind,
    /// The value when the server's configuration says nothing; none when it is unset then.
    default: Option<&'static str>,
    value: fn(&Context) -> Option<String>,
    documentation: &'static str,
}

const ANY: Kind = Kind::Int { min: i32::MIN, max: i32::MAX };
const ANY_LONG: Kind = Kind::Long { min: i64::MIN };

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { name: "advertised.listeners", kind: Kind::List, default: None,
        value: |ctx| Some(format!("PLAINTEXT://{}:{}", ctx.options.advertised_host, ctx.options.advertised_port)),
        documentation: "Where clients are told to connect." },
    Row { name: "auto.create.topics.enable", kind: Kind::Bool, default: Some("true"),
        value: |ctx| Some(ctx.options.auto_create_topics.to_string()),
        documentation: "Whether a topic that a client asks for is made when it does not exist." },
    Row { name: "broker.id", kind: ANY, default: Some("-1"), value: |ctx| Some(ctx.options.node_id.to_string()),
        documentation: "The id of this broker." },
    Row { name: "broker.rack", kind: Kind::Text, default: None, value: |ctx| ctx.options.rack.clone(),
        documentation: "The rack that this broker is in." },
    Row { name: "connections.max.idle.ms", kind: ANY_LONG, default: Some("600000"),
        value: |ctx| Some(ctx.options.limits.idle_max.as_millis().to_string()),
        documentation: "A connection without a request for so long is closed." },
    Row { name: "default.replication.factor", kind: ANY, default: Some("1"), value: |_| Some("1".to_owned()),
        documentation: "Replicas of a topic that is made without a number: this server is one node." },
    Row { name: "delete.topic.enable", kind: Kind::Bool, default: Some("true"), value: |_| Some("true".to_owned()),
        documentation: "Whether topics may be deleted." },
    Row { name: "fetch.max.bytes", kind: ANY, default: Some("57671680"),
        value: |ctx| Some(ctx.options.limits.fetch_bytes_max.to_string()),
        documentation: "Bytes of records in one fetch answer, whatever the client asks for." },
    Row { name: "group.initial.rebalance.delay.ms", kind: ANY, default: Some("3000"),
        value: |ctx| Some(ctx.options.groups.initial_rebalance_delay_ms.to_string()),
        documentation: "How long the first members of a group wait for further ones." },
    Row { name: "group.max.session.timeout.ms", kind: ANY, default: Some("1800000"),
        value: |ctx| Some(ctx.options.groups.session_timeout_max_ms.to_string()),
        documentation: "The longest session that a member of a group may ask for." },
    Row { name: "group.max.size", kind: ANY, default: Some("2147483647"),
        value: |ctx| Some(ctx.options.groups.members_max.to_string()),
        documentation: "Members of a group. Whatever it says, there are no more than 20,000." },
    Row { name: "group.min.session.timeout.ms", kind: ANY, default: Some("6000"),
        value: |ctx| Some(ctx.options.groups.session_timeout_min_ms.to_string()),
        documentation: "The shortest session that a member of a group may ask for." },
    Row { name: "offset.metadata.max.bytes", kind: ANY, default: Some("4096"),
        value: |ctx| Some(ctx.options.groups.offset_metadata_max.to_string()),
        documentation: "Characters that a client may have kept beside a committed offset." },
    Row { name: "offsets.retention.check.interval.ms", kind: ANY_LONG, default: Some("600000"),
        value: |ctx| Some(ctx.options.groups.retention_check_interval.as_millis().to_string()),
        documentation: "Time between two looks for offsets that have expired." },
    Row { name: "offsets.retention.minutes", kind: ANY, default: Some("10080"),
        value: |ctx| Some((ctx.options.groups.offsets_retention_ms / 60_000).to_string()),
        documentation: "How long committed offsets outlive the last member of their group, or the last commit of a group that has no members." },
    Row { name: "offsets.topic.num.partitions", kind: ANY, default: Some("50"),
        value: |ctx| Some(ctx.options.groups.topic_partitions.to_string()),
        documentation: "Partitions of `__consumer_offsets`, when it is made." },
    Row { name: "offsets.topic.segment.bytes", kind: ANY, default: Some("104857600"),
        value: |ctx| Some(ctx.options.groups.topic_segment_bytes.to_string()),
        documentation: "Size of the segments of `__consumer_offsets`." },
    Row { name: "max.connections", kind: ANY, default: Some("2147483647"),
        value: |ctx| Some(ctx.options.limits.connections_max.to_string()),
        documentation: "Open connections." },
    Row { name: "max.incremental.fetch.session.cache.slots", kind: ANY, default: Some("1000"),
        value: |ctx| Some(ctx.options.limits.fetch_sessions_max.to_string()),
        documentation: "Incremental fetch sessions." },
    Row { name: "max.request.partition.size.limit", kind: ANY, default: Some("2000"),
        value: |_| Some(PARTITIONS_DESCRIBED_MAX.to_string()),
        documentation: "Partitions in one answer of DescribeTopicPartitions." },
    Row { name: "node.id", kind: ANY, default: None, value: |ctx| Some(ctx.options.node_id.to_string()),
        documentation: "The id of this node." },
    Row { name: "num.partitions", kind: ANY, default: Some("1"), value: |ctx| Some(ctx.options.default_partitions.to_string()),
        documentation: "Partitions of a topic that is made without a number." },
    Row { name: "process.roles", kind: Kind::List, default: None, value: |_| Some("broker,controller".to_owned()),
        documentation: "What this node does: all of it." },
    Row { name: "queued.max.request.bytes", kind: ANY_LONG, default: Some("-1"),
        value: |ctx| Some(ctx.options.limits.request_memory_max.to_string()),
        documentation: "Bytes of requests in memory, of all connections together." },
    Row { name: "socket.request.max.bytes", kind: ANY, default: Some("104857600"),
        value: |ctx| Some(ctx.options.limits.request_bytes_max.to_string()),
        documentation: "Bytes of one request." },
    Row { name: "log.retention.hours", kind: ANY, default: Some("168"), value: |_| Some("168".to_owned()),
        documentation: "The age limit of records in hours. `log.retention.ms` goes before it when it is set." },
    Row { name: "log.retention.minutes", kind: ANY, default: None, value: |_| None,
        documentation: "The age limit of records in minutes. Not used: `log.retention.ms` is set instead." },
    Row { name: "log.roll.hours", kind: ANY, default: Some("168"), value: |_| Some("168".to_owned()),
        documentation: "The age limit of a current segment in hours. `log.roll.ms` goes before it when it is set." },
];

/// A setting of the broker, as DescribeConfigs shows it.
pub struct BrokerSetting {
    /// The name on the wire.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What it is; none when it is unset.
    pub value: Option<String>,
    /// What it is when nobody sets it.
    pub default: Option<String>,
    /// What it is for.
    pub documentation: &'static str,
}

impl BrokerSetting {
    /// Who set it.
    pub fn source(&self) -> Source {
        if self.value == self.default { Source::Default } else { Source::Server }
    }
}

/// All of them, by name.
pub fn all(ctx: &Context) -> Vec<BrokerSetting> {
    let own = ROWS.iter().map(|row| BrokerSetting {
        name: row.name,
        kind: row.kind,
        value: (row.value)(ctx),
        default: row.default.map(str::to_owned),
        documentation: row.documentation,
    });
    let defaults = ctx.engine.topic_defaults();
    let of_topics = SETTINGS.iter().filter_map(|setting| {
        let (name, default) = broker_name(setting)?;
        let value = topic_config::server_value(setting, defaults);
        // What is unset shows no value: an older setting stands behind it.
        let text = if default.is_none() && value.source == Source::Default { None } else { Some(value.text) };
        Some(BrokerSetting { name, kind: setting.kind, value: text, default, documentation: setting.documentation })
    });
    let mut all: Vec<BrokerSetting> = own.chain(of_topics).collect();
    all.sort_by_key(|setting| setting.name);
    all
}

/// The broker's name for a topic setting, with its own default.
fn broker_name(setting: &Setting) -> Option<(&'static str, Option<String>)> {
    match setting.synonym {
        Some(synonym) => Some((synonym.name, synonym.has_default.then(|| topic_config::default_of(setting)))),
        // Headwater's own settings have one name for both.
        None if setting.name == "batch.validation" || setting.name.starts_with("headwater.") => {
            Some((setting.name, Some(topic_config::default_of(setting))))
        }
        None => None,
    }
}

/// The broker settings of `docs/configuration.md`, as a table. Those behind topic settings stand in that table.
pub fn broker_settings_page() -> String {
    let mut page = String::from("| Name | Default | What it is |\n| --- | --- | --- |\n");
    for row in ROWS {
        let default = row.default.map_or("unset".to_owned(), |text| format!("`{text}`"));
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{}` | {default} | {} |", row.name, row.documentation);
    }
    page
}
