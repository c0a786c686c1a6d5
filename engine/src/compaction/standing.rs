//! How a partition stands: what compaction could do for it.

use crate::ids::{Offset, Sequence, TimestampMs};
use crate::partition::{Published, Segment};
use crate::settings::Settings;

/// What a pass over a partition would find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// The part of its bytes that was not compacted yet.
    pub ratio: f64,
    /// Whether it is due.
    pub is_due: bool,
    /// The first record that was not compacted.
    pub start: Offset,
    /// Where a pass ends, and how many segments lie before.
    pub end: Offset,
    pub segments: usize,
}

/// How the partition stands; none when there is nothing to compact. Everything up to block `checkpointed` is in a durable
/// checkpoint: only what is in one is compacted, so that the log is never needed to make a segment that is gone.
pub fn standing(
    published: &Published,
    settings: &Settings,
    now: TimestampMs,
    checkpointed: Sequence,
) -> Option<Standing> {
    if published.is_deleted {
        return None;
    }
    let start = published.clean.max(published.log_start);
    let last_stable = published.high_watermark;
    let (mut clean, mut dirty) = (0u64, 0u64);
    let (mut end, mut segments) = (start, 0);
    let mut oldest = i64::MAX;
    for pair in published.segments.windows(2) {
        let [segment, next] = pair else { break };
        if next.base <= start {
            clean += segment.size;
        } else {
            let lag = settings.compaction_lag_min_ms;
            let is_young = lag > 0 && newest(segment).0 > now.0.saturating_sub(lag);
            if segment.sealed_by > checkpointed || is_young || next.base > last_stable {
                break;
            }
            dirty += segment.size;
            end = next.base;
            // An empty one has no first append.
            if segment.size > 0 {
                oldest = oldest.min(segment.first_append.0);
            }
        }
        segments += 1;
    }
    if dirty == 0 {
        return None;
    }
    let ratio = dirty as f64 / (clean + dirty) as f64;
    let lag = settings.compaction_lag_max_ms;
    let is_overdue = lag < i64::MAX && now.0.saturating_sub(oldest) > lag;
    Some(Standing { ratio, is_due: is_overdue || ratio > settings.dirty_ratio_min, start, end, segments })
}

/// The time of the newest record, as retention sees it too.
fn newest(segment: &Segment) -> TimestampMs {
    if segment.max_timestamp.0 >= 0 { segment.max_timestamp } else { segment.last_append }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::FileId;

    /// An empty segment had its first append in 1970, and with any largest lag the partition was due at once.
    #[test]
    fn an_empty_segment_makes_no_partition_overdue() {
        let mut published = Published::default();
        published.high_watermark = Offset(10);
        for (file, base) in [(1, 0), (2, 10), (3, 10)] {
            published.roll(FileId(file), Offset(base), Sequence(0));
        }
        let full = published.segments.first_mut().expect("three");
        (full.size, full.first_append) = (1_000, TimestampMs(1_000_000));
        let mut settings = Settings::default();
        (settings.compaction_lag_max_ms, settings.dirty_ratio_min) = (5_000, 1.0);
        let is_due = |now| standing(&published, &settings, TimestampMs(now), Sequence(0)).expect("dirty bytes").is_due;
        assert!(!is_due(1_005_000));
        assert!(is_due(1_005_001));
    }
}
