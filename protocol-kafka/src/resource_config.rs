//! Settings of groups and of client metrics subscriptions. Neither can be set yet, so DescribeConfigs shows what the
//! reference shows for one that nobody has configured: the defaults.

use crate::topic_config::Kind;

/// Kinds of resource, as they are numbered on the wire.
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;

/// One name.
pub struct ResourceSetting {
    /// The name on the wire.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The value that holds.
    pub default: &'static str,
    /// The broker's setting behind it.
    pub synonym: Option<&'static str>,
    /// What it is for.
    pub documentation: &'static str,
}

const ROW: ResourceSetting = ResourceSetting {
    name: "",
    kind: Kind::Int { min: 0, max: i32::MAX },
    default: "",
    synonym: None,
    documentation: "",
};

/// What a group may set.
#[rustfmt::skip]
#[allow(clippy::needless_update, reason = "the rows look alike")]
pub const GROUP_SETTINGS: &[ResourceSetting] = &[
    ResourceSetting { name: "consumer.session.timeout.ms", default: "45000", synonym: Some("group.consumer.session.timeout.ms"),
        documentation: "A member of a consumer group that is not heard of for so long is taken for dead.", ..ROW },
    ResourceSetting { name: "consumer.heartbeat.interval.ms", default: "5000",
        synonym: Some("group.consumer.heartbeat.interval.ms"),
        documentation: "How often members of a consumer group are asked to send a heartbeat.", ..ROW },
    ResourceSetting { name: "consumer.assignment.interval.ms", default: "1000",
        synonym: Some("group.consumer.assignment.interval.ms"),
        documentation: "Least time between two assignments of a consumer group.", ..ROW },
    ResourceSetting { name: "share.session.timeout.ms", default: "45000", synonym: Some("group.share.session.timeout.ms"),
        documentation: "A member of a share group that is not heard of for so long is taken for dead.", ..ROW },
    ResourceSetting { name: "share.heartbeat.interval.ms", default: "5000", synonym: Some("group.share.heartbeat.interval.ms"),
        documentation: "How often members of a share group are asked to send a heartbeat.", ..ROW },
    ResourceSetting { name: "share.assignment.interval.ms", default: "1000", synonym: Some("group.share.assignment.interval.ms"),
        documentation: "Least time between two assignments of a share group.", ..ROW },
    ResourceSetting { name: "share.record.lock.duration.ms", default: "30000",
        synonym: Some("group.share.record.lock.duration.ms"),
        documentation: "How long a record that a share group has handed out stays locked for its consumer.", ..ROW },
    ResourceSetting { name: "share.delivery.count.limit", default: "5", synonym: Some("group.share.delivery.count.limit"),
        documentation: "How often a share group delivers a record before it gives up.", ..ROW },
    ResourceSetting { name: "share.partition.max.record.locks", default: "2000",
        synonym: Some("group.share.partition.max.record.locks"),
        documentation: "Records of one partition that a share group may have locked at once.", ..ROW },
    ResourceSetting { name: "share.auto.offset.reset", kind: Kind::Text, default: "latest",
        synonym: Some("share.auto.offset.reset"),
        documentation: "Where a share group begins in a partition: `earliest`, `latest`, or `by_duration:` with how far back.",
        ..ROW },
    ResourceSetting { name: "share.isolation.level", kind: Kind::Text, default: "read_uncommitted",
        synonym: Some("share.isolation.level"),
        documentation: "Whether a share group sees records of transactions that are still open or were aborted.", ..ROW },
    ResourceSetting { name: "share.renew.acknowledge.enable", kind: Kind::Bool, default: "true",
        synonym: Some("share.renew.acknowledge.enable"),
        documentation: "Whether a consumer of a share group may renew its lock on a record.", ..ROW },
    ResourceSetting { name: "errors.deadletterqueue.topic.name", kind: Kind::Text, default: "",
        synonym: Some("errors.deadletterqueue.topic.name"),
        documentation: "Topic for records that a share group gives up on; none when empty.", ..ROW },
    ResourceSetting { name: "errors.deadletterqueue.copy.record.enable", kind: Kind::Bool, default: "false",
        synonym: Some("errors.deadletterqueue.copy.record.enable"),
        documentation: "Whether such a record is copied there, or only told of.", ..ROW },
    ResourceSetting { name: "streams.session.timeout.ms", default: "45000", synonym: Some("group.streams.session.timeout.ms"),
        documentation: "A member of a streams group that is not heard of for so long is taken for dead.", ..ROW },
    ResourceSetting { name: "streams.heartbeat.interval.ms", default: "5000",
        synonym: Some("group.streams.heartbeat.interval.ms"),
        documentation: "How often members of a streams group are asked to send a heartbeat.", ..ROW },
    ResourceSetting { name: "streams.assignment.interval.ms", default: "1000",
        synonym: Some("group.streams.assignment.interval.ms"),
        documentation: "Least time between two assignments of a streams group.", ..ROW },
    ResourceSetting { name: "streams.initial.rebalance.delay.ms", default: "3000",
        synonym: Some("group.streams.initial.rebalance.delay.ms"),
        documentation: "How long a new streams group waits for further members before its first assignment.", ..ROW },
    ResourceSetting { name: "streams.num.standby.replicas", default: "0", synonym: Some("group.streams.num.standby.replicas"),
        documentation: "Standby copies of each task of a streams group.", ..ROW },
    ResourceSetting { name: "streams.assignor.name", kind: Kind::Text, default: "sticky",
        synonym: Some("group.streams.assignors"),
        documentation: "How a streams group assigns its tasks.", ..ROW },
    ResourceSetting { name: "streams.rack.aware.assignment.tags", kind: Kind::List, default: "",
        synonym: Some("group.streams.rack.aware.assignment.tags"),
        documentation: "Client tags over which a streams group spreads standby tasks.", ..ROW },
];

/// What a client metrics subscription may set.
#[rustfmt::skip]
#[allow(clippy::needless_update, reason = "the rows look alike")]
pub const CLIENT_METRICS_SETTINGS: &[ResourceSetting] = &[
    ResourceSetting { name: "interval.ms", default: "300000", documentation: "How often clients send their metrics.", ..ROW },
    ResourceSetting { name: "match", kind: Kind::List, default: "", documentation: "Which clients are meant.", ..ROW },
    ResourceSetting { name: "metrics", kind: Kind::List, default: "",
        documentation: "Which metrics are wanted, by the beginning of their names.", ..ROW },
];
