//! Numbers about the engine, kept in atomics so that counting costs nearly nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of a histogram: powers of two of its unit.
const BUCKETS: usize = 32;

/// Counts values in buckets of powers of two.
#[derive(Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

/// A histogram as it was at a moment.
#[derive(Clone, Debug, Default)]
pub struct HistogramSnapshot {
    /// (upper bound, values at or below it and above the bound before).
    pub buckets: Vec<(u64, u64)>,
    /// All values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

impl Histogram {
    /// Counts a value.
    pub fn record(&self, value: u64) {
        let bucket = (u64::BITS - value.saturating_sub(1).leading_zeros()) as usize;
        self.buckets[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// As it is now.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let counts = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<_> = counts.enumerate().map(|(power, count)| (1u64 << power, count)).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        HistogramSnapshot { buckets, count, sum: self.sum.load(Ordering::Relaxed) }
    }
}

/// What is counted.
#[derive(Default)]
pub struct Stats {
    pub round_us: Histogram,
    pub round_bytes: Histogram,
    pub round_batches: Histogram,
    pub appended_bytes: AtomicU64,
    pub appended_batches: AtomicU64,
    pub appended_records: AtomicU64,
    pub checkpoints: AtomicU64,
    pub checkpoint_us: Histogram,
    pub damage: AtomicU64,
    pub scrubbed_bytes: AtomicU64,
    pub wal_size: AtomicU64,
    pub wal_used: AtomicU64,
    pub cold_reads: AtomicU64,
    pub compactions: AtomicU64,
    pub compaction_failures: AtomicU64,
    pub compaction_read_bytes: AtomicU64,
    pub compaction_written_bytes: AtomicU64,
    pub compaction_dropped_records: AtomicU64,
    pub compaction_map_bytes: AtomicU64,
    pub compaction_us: AtomicU64,
    pub dirtiest_permille: AtomicU64,
}

impl Stats {
    pub fn round(&self, took: Duration, bytes: u64, batches: u64) {
        self.round_us.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.round_bytes.record(bytes);
        self.round_batches.record(batches);
    }

    pub fn appended(&self, bytes: u64, records: i32) {
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.appended_batches.fetch_add(1, Ordering::Relaxed);
        self.appended_records.fetch_add(u64::try_from(records).unwrap_or(0), Ordering::Relaxed);
    }
}

/// The engine's numbers at a moment.
#[derive(Clone, Debug, Default)]
pub struct StatsSnapshot {
    /// Time from a round's start to its durability, microseconds.
    pub round_us: HistogramSnapshot,
    /// WAL bytes per round.
    pub round_bytes: HistogramSnapshot,
    /// Batches per round.
    pub round_batches: HistogramSnapshot,
    /// Batch bytes made durable.
    pub appended_bytes: u64,
    /// Batches made durable.
    pub appended_batches: u64,
    /// Records made durable.
    pub appended_records: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Time a checkpoint took, microseconds.
    pub checkpoint_us: HistogramSnapshot,
    /// Damaged ranges met by reads or the scrub.
    pub damage: u64,
    /// Bytes that the scrub checked.
    pub scrubbed_bytes: u64,
    /// Bytes of all WAL slots.
    pub wal_size: u64,
    /// Bytes of those that no checkpoint covers yet.
    pub wal_used: u64,
    /// Reads that had to wait for the medium.
    pub cold_reads: u64,
    /// Passes of compaction that were finished.
    pub compactions: u64,
    /// Passes that failed and will be tried again.
    pub compaction_failures: u64,
    /// Bytes that compaction read.
    pub compaction_read_bytes: u64,
    /// Bytes that compaction wrote.
    pub compaction_written_bytes: u64,
    /// Records that compaction took out.
    pub compaction_dropped_records: u64,
    /// Bytes of the map of keys, in the pass under way or the last one.
    pub compaction_map_bytes: u64,
    /// Time that the last pass took, microseconds.
    pub compaction_last_us: u64,
    /// The largest part, in thousandths, of a compacted partition's closed segments that was not compacted when the compactor
    /// last looked.
    pub dirtiest_permille: u64,
    /// Commands in the committer's queue.
    pub queued_commands: u64,
    /// Bytes of batches in the committer's queue.
    pub queued_bytes: u64,
    /// Segment files open.
    pub open_files: u64,
    /// Topics.
    pub topics: u64,
    /// Partitions.
    pub partitions: u64,
    /// Free bytes on the disk, less what was admitted and is not written yet.
    pub disk_free: u64,
    /// Free bytes below which producers are refused.
    pub disk_reserve: u64,
    /// Whether producers are refused because the disk is nearly full.
    pub is_disk_short: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_at_or_below_their_bucket_bound() {
        let histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 5, 1000, u64::MAX] {
            histogram.record(value);
        }
        let snapshot = histogram.snapshot();
        let at = |bound: u64| snapshot.buckets.iter().find(|bucket| bucket.0 == bound).map(|bucket| bucket.1);
        assert_eq!((at(1), at(2), at(4), at(8), at(1024)), (Some(2), Some(1), Some(2), Some(1), Some(1)));
        assert_eq!(snapshot.count, 8);
    }
}
