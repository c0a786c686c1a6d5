//! The batches that are being filled, one for each partition.

use crate::client::{Identity, Outgoing, Partitioner};
use crate::exit::{FAILED, Failure};
use headwater_engine::batch::{BatchBuilder, Codec};
use headwater_engine::{ProducerId, TimestampMs};
use std::collections::HashMap;

/// What a record's framing takes beside key, value and headers, at most.
const FRAMING_SIZE_MAX: usize = 64;

type Headers<'a> = [(&'a [u8], Option<&'a [u8]>)];

/// A line of input, read as a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    key: Option<&'a [u8]>,
    value: &'a [u8],
}

impl<'a> Line<'a> {
    /// Splits at the first separator; a line without one has no key.
    pub fn split(text: &'a [u8], separator: Option<&[u8]>) -> Line<'a> {
        let at = separator.and_then(|separator| {
            text.windows(separator.len()).position(|window| window == separator).map(|at| (at, at + separator.len()))
        });
        match at {
            Some((end, next)) => Line { key: Some(&text[..end]), value: &text[next..] },
            None => Line { key: None, value: text },
        }
    }
}

/// Batches in the making.
pub struct Batches {
    open: HashMap<u32, BatchBuilder>,
    sequences: HashMap<u32, i32>,
    partitioner: Partitioner,
    codec: Codec,
    identity: Option<Identity>,
    size_max: usize,
}

impl Batches {
    /// No batch yet. A batch holds at most `size_max` bytes, or one record.
    pub fn new(partitioner: Partitioner, codec: Codec, identity: Option<Identity>, size_max: usize) -> Batches {
        Batches { open: HashMap::new(), sequences: HashMap::new(), partitioner, codec, identity, size_max }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether the line fits into its batch.
    pub fn has_room(&self, line: &Line<'_>, headers: &Headers<'_>) -> bool {
        let Some(batch) = self.open.get(&self.partitioner.pick(line.key)) else { return true };
        let of_headers: usize =
            headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) + 10).sum();
        let size = line.key.map_or(0, <[u8]>::len) + line.value.len() + of_headers + FRAMING_SIZE_MAX;
        batch.size() + size <= self.size_max
    }

    /// Adds a record.
    pub fn push(&mut self, line: &Line<'_>, headers: &Headers<'_>, now: TimestampMs) -> Result<(), Failure> {
        let partition = self.partitioner.pick(line.key);
        let codec = self.codec;
        let batch = self.open.entry(partition).or_insert_with(|| BatchBuilder::new().codec(codec));
        batch
            .push(now, line.key, Some(line.value), headers)
            .map_err(|error| Failure::new(FAILED, format!("a line cannot be a record: {error}")))
    }

    /// Closes the batches and hands them out.
    pub fn take(&mut self) -> Result<Vec<Outgoing>, Failure> {
        self.partitioner.next_batch();
        let mut outgoing = Vec::with_capacity(self.open.len());
        for (partition, mut batch) in self.open.drain() {
            let record_count = batch.record_count();
            if let Some(identity) = self.identity {
                let sequence = self.sequences.entry(partition).or_insert(0);
                batch = batch.producer(ProducerId(identity.id), identity.epoch, *sequence);
                // Sequence numbers start again at 0 after the largest.
                *sequence = ((i64::from(*sequence) + i64::from(record_count)) & i64::from(i32::MAX)) as i32;
            }
            let batch =
                batch.finish().map_err(|error| Failure::new(FAILED, format!("cannot make a batch: {error}")))?;
            let partition = i32::try_from(partition).unwrap_or(i32::MAX);
            outgoing.push(Outgoing { partition, batch, record_count: u64::try_from(record_count).unwrap_or(0) });
        }
        Ok(outgoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_engine::batch::{BatchHeader, records_of};

    #[test]
    fn lines_split_at_the_first_separator() {
        assert_eq!(Line::split(b"k=v=w", Some(b"=")), Line { key: Some(b"k"), value: b"v=w" });
        assert_eq!(Line::split(b"=v", Some(b"=")), Line { key: Some(b""), value: b"v" });
        assert_eq!(Line::split(b"kv", Some(b"=>")), Line { key: None, value: b"kv" });
        assert_eq!(Line::split(b"k=v", None), Line { key: None, value: b"k=v" });
    }

    #[test]
    fn sequence_numbers_follow_each_other_by_partition() {
        let identity = Some(Identity { id: 9, epoch: 2 });
        let mut batches = Batches::new(Partitioner::new(1, None), Codec::None, identity, 1000);
        let mut sequences = Vec::new();
        for count in [3, 2, 1] {
            for _ in 0..count {
                batches.push(&Line::split(b"v", None), &[], TimestampMs(1)).unwrap();
            }
            let sent = batches.take().unwrap();
            sequences.push(BatchHeader::parse(&sent[0].batch).unwrap().base_sequence);
        }
        assert_eq!(sequences, [0, 3, 5]);
        assert!(batches.is_empty() && batches.take().unwrap().is_empty());
    }

    #[test]
    fn a_batch_stays_below_its_size_and_takes_one_large_record() {
        let mut batches = Batches::new(Partitioner::new(1, None), Codec::Zstd, None, 500);
        let line = Line::split(&[b'x'; 200], None);
        let mut count = 0;
        while batches.has_room(&line, &[]) {
            batches.push(&line, &[], TimestampMs(1)).unwrap();
            count += 1;
        }
        assert_eq!(count, 1);
        let sent = batches.take().unwrap();
        assert_eq!(records_of(&sent[0].batch, 1 << 20).unwrap().iter().count(), 1);
        let large = [b'x'; 9000];
        assert!(batches.has_room(&Line::split(&large, None), &[]));
    }
}
