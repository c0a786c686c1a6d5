//! Topics as they lie in checkpoints.

use super::*;
use crate::encoding::Put;
use crate::ids::{Epoch, TimestampMs};
use proptest::prelude::*;

fn record() -> TopicRecord {
    TopicRecord {
        id: TopicId([5; 16]),
        name: "orders".to_owned(),
        first: PartitionId(3),
        count: 2,
        epoch: Epoch(1),
        created: TimestampMs(7),
        settings: [("segment.bytes".to_owned(), "100".to_owned())].into(),
    }
}

/// What `Topic::encode` writes for a topic with these ranges of partitions.
fn encoded(ranges: &[(u64, u32)]) -> Vec<u8> {
    let mut bytes = vec![1];
    record().encode(&mut bytes);
    bytes.put_u32_le(ranges.len() as u32);
    for (first, count) in ranges {
        bytes.put_u64_le(*first);
        bytes.put_u32_le(*count);
    }
    bytes
}

#[test]
fn a_topic_reads_back_as_it_was_written() {
    let (found, ranges) = Topic::decode(&encoded(&[(3, 2), (90, 1)])).expect("whole");
    assert_eq!(found, record());
    assert_eq!(ranges, [(PartitionId(3), 2), (PartitionId(90), 1)]);
}

/// A count is a number, not memory: four bytes that claim four billion partitions cost nothing.
#[test]
fn a_count_is_not_spelled_out() {
    let (_, ranges) = Topic::decode(&encoded(&[(u64::MAX, u32::MAX)])).expect("whole");
    assert_eq!(ranges, [(PartitionId(u64::MAX), u32::MAX)]);
}

proptest! {
    #[test]
    fn damaged_topics_are_read_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = encoded(&[(3, 2), (90, 1)]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Topic::decode(&bytes);
    }

    #[test]
    fn cut_topics_are_refused(cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&[(3, 2), (90, 1)]);
        prop_assert!(Topic::decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(Topic::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn settings_of_any_text_survive(settings in prop::collection::btree_map(".{0,20}", ".{0,20}", 0..5)) {
        let mut bytes = Vec::new();
        bytes.put_map(&settings);
        prop_assert_eq!(Reader(&bytes).map(), Ok(settings));
    }
}
