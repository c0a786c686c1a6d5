//! Counts of what a listener does: plain atomics that the server's `/metrics` reads.
//!
//! A head names its operations once, by their rows; nothing is looked up by name while requests run.

use crate::budget::Budget;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Upper bounds of the latency buckets in microseconds: powers of two from 64 us to 67 s. One more bucket has no bound.
pub const LATENCY_BOUNDS_US: [u64; 21] = {
    let mut bounds = [0; 21];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = 64 << index;
        index += 1;
    }
    bounds
};

/// How bytes left. `sendfile` is the proof of zero copy: those bytes never were in user space.
#[derive(Default)]
pub struct Traffic {
    received: AtomicU64,
    memory: AtomicU64,
    mapped: AtomicU64,
    copied: AtomicU64,
    sendfile: AtomicU64,
}

impl Traffic {
    /// Bytes came in.
    pub fn received(&self, count: usize) {
        self.received.fetch_add(count as u64, Relaxed);
    }

    /// Bytes went out that a codec wrote.
    pub(crate) fn sent_memory(&self, count: usize) {
        self.memory.fetch_add(count as u64, Relaxed);
    }

    /// Record bytes went out through a file's map.
    pub(crate) fn sent_mapped(&self, count: usize) {
        self.mapped.fetch_add(count as u64, Relaxed);
    }

    /// Record bytes went out that were read from a file just before.
    pub(crate) fn sent_copied(&self, count: usize) {
        self.copied.fetch_add(count as u64, Relaxed);
    }

    /// Record bytes went out by `sendfile`.
    pub(crate) fn sent_by_sendfile(&self, count: usize) {
        self.sendfile.fetch_add(count as u64, Relaxed);
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ended {
    /// The client closed it.
    ByClient,
    /// The network broke.
    Broken,
    /// It sent no request for too long.
    Idle,
    /// It stopped in the middle of a request or did not read an answer.
    Stalled,
    /// It sent what is no request, or one that the protocol answers by closing.
    Refused,
    /// The server shuts down.
    Shutdown,
    /// A bug of ours: a request panicked. The connection is closed and the others live on.
    Panicked,
}

impl Ended {
    /// All of them, for metrics.
    pub const ALL: [Ended; 7] =
        [Ended::ByClient, Ended::Broken, Ended::Idle, Ended::Stalled, Ended::Refused, Ended::Shutdown, Ended::Panicked];

    /// Its metric label.
    pub fn label(self) -> &'static str {
        match self {
            Ended::ByClient => "client",
            Ended::Broken => "broken",
            Ended::Idle => "idle",
            Ended::Stalled => "stalled",
            Ended::Refused => "refused",
            Ended::Shutdown => "shutdown",
            Ended::Panicked => "panicked",
        }
    }
}

/// One operation's counters.
struct Operation {
    name: &'static str,
    version_min: i16,
    /// One per version.
    requests: Vec<AtomicU64>,
    latency: Histogram,
    /// By error number. Errors are rare, so a lock does no harm.
    errors: Mutex<BTreeMap<i16, u64>>,
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_US.partition_point(|&bound| bound < us);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(us, Relaxed);
    }
}

/// Numbers that a head has beside those of every listener, computed when they are asked for.
#[derive(Clone, Debug)]
pub struct Family {
    /// Its name, without the program's.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// Whether it only grows.
    pub is_counter: bool,
    /// Each value with its labels.
    pub values: Vec<(Vec<(&'static str, String)>, u64)>,
}

/// Computes further families.
pub type More = Box<dyn Fn() -> Vec<Family> + Send + Sync>;

/// The counters of one listener.
pub struct Metrics {
    protocol: &'static str,
    operations: Vec<Operation>,
    traffic: Traffic,
    connections_open: AtomicU64,
    connections_accepted: AtomicU64,
    connections_over_bound: AtomicU64,
    ended: [AtomicU64; Ended::ALL.len()],
    /// The memory for requests, once the listener serves.
    budget: OnceLock<Arc<Budget>>,
    /// What the head adds, once it serves.
    more: OnceLock<More>,
}

impl Metrics {
    /// Counters for the operations given by name, lowest and highest version; `protocol` is a label.
    pub fn new(protocol: &'static str, operations: impl IntoIterator<Item = (&'static str, i16, i16)>) -> Metrics {
        let operations = operations
            .into_iter()
            .map(|(name, version_min, version_max)| Operation {
                name,
                version_min,
                requests: (version_min..=version_max).map(|_| AtomicU64::new(0)).collect(),
                latency: Histogram::default(),
                errors: Mutex::default(),
            })
            .collect();
        Metrics {
            protocol,
            operations,
            traffic: Traffic::default(),
            connections_open: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_over_bound: AtomicU64::new(0),
            ended: Default::default(),
            budget: OnceLock::new(),
            more: OnceLock::new(),
        }
    }

    /// Bytes in and out.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// A request of the operation with this index was answered.
    pub fn answered(&self, operation: usize, version: i16, latency: Duration) {
        let Some(operation) = self.operations.get(operation) else { return };
        operation.latency.record(latency);
        let version = usize::try_from(version.saturating_sub(operation.version_min)).ok();
        if let Some(count) = version.and_then(|version| operation.requests.get(version)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// An answer of the operation carried an error, once for each.
    pub fn failed(&self, operation: usize, error: i16) {
        if let Some(operation) = self.operations.get(operation) {
            *operation.errors.lock().entry(error).or_default() += 1;
        }
    }

    /// Shows this budget's use too; the first one that is given stays.
    pub fn show_budget(&self, budget: &Arc<Budget>) {
        let _ = self.budget.set(budget.clone());
    }

    /// Shows what `more` computes too; the first one that is given stays.
    pub fn show_more(&self, more: More) {
        let _ = self.more.set(more);
    }

    /// What the head adds, as it is now.
    pub fn more(&self) -> Vec<Family> {
        self.more.get().map(|more| more()).unwrap_or_default()
    }

    pub(crate) fn accepted(&self) {
        self.connections_accepted.fetch_add(1, Relaxed);
        self.connections_open.fetch_add(1, Relaxed);
    }

    pub(crate) fn over_bound(&self) {
        self.connections_over_bound.fetch_add(1, Relaxed);
    }

    pub(crate) fn ended(&self, how: Ended) {
        self.connections_open.fetch_sub(1, Relaxed);
        self.ended[how as usize].fetch_add(1, Relaxed);
    }

    /// All numbers, to print.
    pub fn snapshot(&self) -> Snapshot {
        let load = |count: &AtomicU64| count.load(Relaxed);
        let operations = self.operations.iter().map(|operation| OperationSnapshot {
            name: operation.name,
            requests: (operation.version_min..).zip(operation.requests.iter().map(load)).collect(),
            latency_buckets: operation.latency.buckets.iter().map(load).collect(),
            latency_sum: Duration::from_micros(load(&operation.latency.sum_us)),
            errors: operation.errors.lock().iter().map(|(&error, &count)| (error, count)).collect(),
        });
        Snapshot {
            protocol: self.protocol,
            operations: operations.collect(),
            bytes_received: load(&self.traffic.received),
            bytes_sent_memory: load(&self.traffic.memory),
            bytes_sent_mapped: load(&self.traffic.mapped),
            bytes_sent_copied: load(&self.traffic.copied),
            bytes_sent_sendfile: load(&self.traffic.sendfile),
            request_memory: self.budget.get().map_or(0, |budget| budget.used()),
            request_memory_max: self.budget.get().map(|budget| budget.max()),
            connections_open: load(&self.connections_open),
            connections_accepted: load(&self.connections_accepted),
            connections_over_bound: load(&self.connections_over_bound),
            connections_ended: Ended::ALL.iter().map(|&how| (how, load(&self.ended[how as usize]))).collect(),
        }
    }
}

/// A listener's numbers at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The protocol's label.
    pub protocol: &'static str,
    /// Each operation's numbers, in the order of its table.
    pub operations: Vec<OperationSnapshot>,
    /// Bytes read from clients.
    pub bytes_received: u64,
    /// Bytes of answers that a codec wrote.
    pub bytes_sent_memory: u64,
    /// Record bytes sent through a file's map.
    pub bytes_sent_mapped: u64,
    /// Record bytes of small ranges, read into memory and sent with what is around them.
    pub bytes_sent_copied: u64,
    /// Record bytes sent by `sendfile`.
    pub bytes_sent_sendfile: u64,
    /// Memory that requests take now.
    pub request_memory: u64,
    /// Memory that they may take; none for a listener without such a bound.
    pub request_memory_max: Option<u64>,
    /// Connections open now.
    pub connections_open: u64,
    /// Connections taken since the start.
    pub connections_accepted: u64,
    /// Connections closed at once, because there were too many.
    pub connections_over_bound: u64,
    /// Connections that ended, by reason.
    pub connections_ended: Vec<(Ended, u64)>,
}

/// One operation's numbers at one moment.
#[derive(Clone, Debug)]
pub struct OperationSnapshot {
    /// Its name.
    pub name: &'static str,
    /// Requests by version.
    pub requests: Vec<(i16, u64)>,
    /// Requests whose latency lies in each bucket: at most the bound of `LATENCY_BOUNDS_US`, more than the one before; the last
    /// has no bound.
    pub latency_buckets: Vec<u64>,
    /// All latencies together.
    pub latency_sum: Duration,
    /// Errors in answers, by number.
    pub errors: Vec<(i16, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_latencies_and_errors_are_counted_where_they_belong() {
        let metrics = Metrics::new("test", [("A", 2, 4), ("B", 0, 0)]);
        metrics.answered(0, 3, Duration::from_micros(64));
        metrics.answered(0, 4, Duration::from_micros(65));
        metrics.answered(0, 9, Duration::from_secs(1_000));
        metrics.answered(7, 0, Duration::ZERO);
        metrics.failed(1, 3);
        metrics.failed(1, 3);
        let snapshot = metrics.snapshot();
        let [a, b] = &snapshot.operations[..] else { panic!("two operations") };
        assert_eq!(a.requests, [(2, 0), (3, 1), (4, 1)]);
        assert_eq!(a.latency_buckets[..2], [1, 1]);
        assert_eq!(*a.latency_buckets.last().unwrap(), 1, "beyond every bound");
        assert_eq!(a.latency_sum, Duration::from_micros(1_000_000_129));
        assert_eq!(b.errors, [(3, 2)]);
    }
}
