//! The published state changes as the log says, and lies in checkpoints as it was.

use super::*;
use crate::batch::BatchBuilder;
use crate::ids::{ProducerId, Sequence};
use crate::wal::entry::SwappedIn;
use proptest::prelude::*;

/// A batch's header: this many records, placed, perhaps of an idempotent producer.
fn header(base: i64, records: i32, epoch: i32, time: i64, producer: Option<(i64, i32)>) -> BatchHeader {
    let mut builder = BatchBuilder::new().place(Offset(base), Epoch(epoch));
    if let Some((id, sequence)) = producer {
        builder = builder.producer(ProducerId(id), 0, sequence);
    }
    for _ in 0..records {
        builder.push(TimestampMs(time), None, Some(b"value"), &[]).expect("a short record");
    }
    *builder.build().expect("a batch").header()
}

/// A state with several segments, epochs and producers.
fn some_state() -> Published {
    let mut published = Published::new(Epoch(0));
    let mut next = 0;
    for file in 1..4u64 {
        published.roll(FileId(file), Offset(next), Sequence(file));
        let mut position = 0;
        for step in 0..4 {
            let producer = (step > 0).then_some((step, next as i32));
            let header = header(next, 3, file as i32, 100 * next, producer);
            published.append(&header, FileId(file), position, TimestampMs(next), 10).expect("in order");
            position += header.size as u64;
            next += 3;
        }
    }
    published
}

fn same(left: &Published, right: &Published) -> bool {
    left.encode() == right.encode() && left.epochs == right.epochs && left.producers == right.producers
}

#[test]
fn a_state_reads_back_as_it_was_written() {
    for state in [Published::new(Epoch(3)), some_state()] {
        assert!(same(&Published::decode(&state.encode()).expect("whole"), &state));
    }
}

#[test]
fn a_batch_that_does_not_follow_is_a_contradiction() {
    let mut published = some_state();
    let end = published.segments[2].size;
    let next = published.high_watermark.0;
    let time = TimestampMs(0);
    let mut refuses = |base, file, position| {
        published.append(&header(base, 1, 3, 0, None), FileId(file), position, time, 10).is_err()
    };
    assert!(refuses(next, 2, end), "another segment");
    assert!(refuses(next, 3, end + 1), "a gap in the file");
    assert!(refuses(next, 3, 0), "over what is there");
    assert!(refuses(next + 1, 3, end), "a gap in the offsets");
    assert!(refuses(next - 1, 3, end), "an offset that was given");
    assert!(!refuses(next, 3, end));
}

#[test]
fn whole_segments_and_ended_epochs_go_with_the_log_start() {
    let mut published = some_state();
    assert_eq!(published.advance_log_start(Offset(11)), []);
    assert_eq!(published.epoch_end(Epoch(1)), Some((Epoch(1), Offset(12))));
    assert_eq!(published.advance_log_start(Offset(12)), [FileId(1)]);
    assert_eq!(published.epoch_end(Epoch(1)), None);
    assert_eq!(published.advance_log_start(Offset(5)), [], "it never goes back");
    assert_eq!(published.log_start, Offset(12));
    assert_eq!(published.advance_log_start(Offset(1_000)), [FileId(2)], "the active segment stays");
    assert_eq!((published.log_start, published.high_watermark), (Offset(36), Offset(36)));
    assert_eq!(published.epoch_end(Epoch(9)), Some((Epoch(3), Offset(36))));
}

fn swapped_in(file: u64, base: i64) -> SwappedIn {
    let time = TimestampMs(3);
    SwappedIn {
        file: FileId(file),
        base: Offset(base),
        size: 70,
        max_timestamp: time,
        first_append: time,
        last_append: time,
    }
}

#[test]
fn a_swap_takes_the_place_of_what_it_was_made_from_or_changes_nothing() {
    let whole = Swap { removed: vec![FileId(1), FileId(2)], added: vec![swapped_in(9, 0)], clean: Offset(24) };
    let mut published = some_state();
    assert_eq!(published.swap(&whole), [FileId(1), FileId(2)]);
    let bases: Vec<_> = published.segments.iter().map(|segment| (segment.file, segment.base)).collect();
    assert_eq!(bases, [(FileId(9), Offset(0)), (FileId(3), Offset(24))]);
    assert_eq!((published.clean, published.high_watermark), (Offset(24), Offset(36)));
    assert!(same(&Published::decode(&published.encode()).expect("whole"), &published));
    assert_eq!(published.swap(&whole), [FileId(9)], "what is gone cannot be replaced again");
    // A deletion came first.
    let mut cut = some_state();
    cut.advance_log_start(Offset(12));
    let before = cut.encode();
    assert_eq!(cut.swap(&whole), [FileId(9)]);
    assert_eq!(cut.encode(), before);
    let with_active = Swap { removed: vec![FileId(2), FileId(3)], added: vec![swapped_in(9, 12)], clean: Offset(36) };
    let mut published = some_state();
    assert_eq!(published.swap(&with_active), [FileId(9)], "the active segment is never replaced");
    published.delete();
    assert_eq!(published.swap(&whole), [FileId(9)]);
    assert_eq!(published.swap(&Swap::default()), []);
}

/// As the version before compaction wrote it.
#[test]
fn a_state_of_version_1_is_read() {
    let state = some_state();
    let mut bytes = state.encode();
    bytes[0] = 1;
    bytes.drain(1 + 3 * 8 + 8 + 1 + 32..1 + 3 * 8 + 8 + 1 + 32 + 8);
    let read = Published::decode(&bytes).expect("whole");
    assert!(same(&read, &state));
    assert_eq!(read.clean, Offset(0));
}

#[test]
fn a_seal_hands_over_the_index_of_what_this_process_published() {
    let mut published = some_state();
    let sealed = published.roll(FileId(4), published.high_watermark, Sequence(9)).expect("there was a segment");
    assert_eq!((sealed.file, sealed.next), (FileId(3), FileId(4)));
    assert!(sealed.index.is_complete());
    // A segment that was begun before a restart.
    let mut resumed = Published::decode(&some_state().encode()).expect("whole");
    let (next, end) = (resumed.high_watermark, resumed.segments[2].size);
    resumed.append(&header(next.0, 1, 3, 0, None), FileId(3), end, TimestampMs(0), 10).expect("in order");
    assert!(!resumed.roll(FileId(4), next.plus(1), Sequence(9)).expect("there was a segment").index.is_complete());
}

proptest! {
    /// Checkpoints are under a CRC, but whoever reads them must not fall over anything, nor reserve what the bytes cannot
    /// hold.
    #[test]
    fn damaged_states_are_read_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = some_state().encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(state) = Published::decode(&bytes) {
            prop_assert!(state.segments.len() * 48 + state.epochs.len() * 12 <= bytes.len());
        }
    }

    #[test]
    fn cut_states_are_refused(cut in any::<prop::sample::Index>()) {
        let bytes = some_state().encode();
        prop_assert!(Published::decode(&bytes[..cut.index(bytes.len())]).is_err());
        prop_assert!(Published::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn any_bytes_are_a_state_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Published::decode(&bytes);
        for version in [1, 2] {
            let _ = Published::decode(&[&[version], bytes.as_slice()].concat());
        }
    }
}
