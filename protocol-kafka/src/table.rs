//! THE list of operations. Routing, ApiVersions, metric labels, access checks and `docs/operations.md` all come from it: to
//! add an operation, write `op/<name>.rs` and add its row.

use crate::call::{Handler, typed};
use crate::op;
use kafka_protocol::messages::ApiKey;
use std::fmt::Write;

/// One operation.
pub struct Row {
    /// Its number on the wire.
    pub key: ApiKey,
    /// Its name, as Kafka writes it; also the metric label.
    pub name: &'static str,
    /// The lowest version that ApiVersions advertises.
    pub min: i16,
    /// The highest one.
    pub max: i16,
    /// The first version with compact encoding and tagged fields.
    pub flexible: i16,
    /// The reference's highest version, where it is above ours.
    pub reference_max: i16,
    /// What an authorizer is asked.
    pub access: Access,
    /// Who needs it: 1 every common client, 2 the full feature, 3 completeness.
    pub tier: u8,
    /// What it does.
    pub handler: Handler,
    /// Whether the next request may start before this one is answered. Produce alone: its batches are queued in order, so
    /// only the wait for the medium overlaps.
    pub pipelined: bool,
    /// What is not there yet, for `docs/operations.md`; empty when nothing is missing.
    pub missing: &'static str,
}

/// What an operation does to which resource, in Kafka's own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Anyone may, before authentication too.
    Open,
    /// On each topic named in the request.
    Topic(Action),
    /// On the cluster.
    Cluster(Action),
}

/// An access action, in Kafka's own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Fetch records.
    Read,
    /// Produce records.
    Write,
    /// Make a resource.
    Create,
    /// Remove a resource or records.
    Delete,
    /// Change a resource.
    Alter,
    /// Look at a resource.
    Describe,
    /// Look at its settings.
    DescribeConfigs,
    /// Produce with an idempotent producer.
    IdempotentWrite,
}

use Access::{Cluster, Open, Topic};
use Action::{Alter, Create, Delete, Describe, DescribeConfigs, IdempotentWrite, Read, Write as WriteRecords};

const ROW: Row = Row {
    key: ApiKey::ApiVersions,
    name: "",
    min: 0,
    max: 0,
    flexible: 0,
    reference_max: 0,
    access: Open,
    tier: 1,
    handler: op::api_versions::handle,
    pipelined: false,
    missing: "",
};

/// The operations, by key.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    Row { key: ApiKey::Produce, name: "Produce", min: 0, max: 13, flexible: 9, reference_max: 13, access: Topic(WriteRecords),
        handler: op::produce::handle, pipelined: true, missing: "transactional batches", ..ROW },
    Row { key: ApiKey::Fetch, name: "Fetch", min: 4, max: 18, flexible: 12, reference_max: 18, access: Topic(Read),
        handler: op::fetch::handle, ..ROW },
    Row { key: ApiKey::ApiVersions, name: "ApiVersions", min: 0, max: 4, flexible: 3, reference_max: 5, access: Open,
        handler: op::api_versions::handle, ..ROW },
    Row { key: ApiKey::InitProducerId, name: "InitProducerId", min: 0, max: 5, flexible: 2, reference_max: 5,
        access: Cluster(IdempotentWrite), handler: typed!(op::init_producer_id::handle),
        missing: "transactional ids", ..ROW },
];
