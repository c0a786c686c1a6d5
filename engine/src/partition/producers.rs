//! What a partition remembers of idempotent producers, so that a repeated batch is answered and not appended again.

use crate::batch::BatchHeader;
use crate::encoding::{Malformed, Reader};
use crate::ids::{Offset, ProducerId, TimestampMs};
use bytes::BufMut;
use std::collections::{HashMap, VecDeque};

/// Batches remembered per producer: as many as a client may have in flight.
pub const BATCHES_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sequences {
    first: i32,
    last: i32,
    base: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_time: TimestampMs,
    batches: VecDeque<Sequences>,
}

/// What a producer's next batch is.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The one that comes next, or the first of a producer that we do not know.
    Next,
    /// One that was appended at this offset.
    Repeat(Offset),
    /// It leaves a gap, or goes back further than we remember.
    OutOfOrder { expected: i32 },
    /// A later incarnation of the producer has taken over.
    StaleEpoch { current: i16 },
}

/// The producers of one partition. Most partitions have none and pay one word for it.
#[allow(clippy::box_collection, reason = "one word in a hundred thousand idle partitions instead of six")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerTable(Option<Box<HashMap<ProducerId, Producer>>>);

fn after(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

/// An idempotent producer that a partition remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownProducer {
    /// Its id.
    pub id: ProducerId,
    /// Its latest epoch.
    pub epoch: i16,
    /// The last sequence that it sent; none when it has sent nothing under its epoch.
    pub last_sequence: Option<i32>,
    /// When its last batch came.
    pub last_append: TimestampMs,
}

impl ProducerTable {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(0, |table| table.len())
    }

    /// All of them, by id.
    pub fn known(&self) -> Vec<KnownProducer> {
        let table = self.0.iter().flat_map(|table| table.iter());
        let known = table.map(|(id, producer)| KnownProducer {
            id: *id,
            epoch: producer.epoch,
            last_sequence: producer.batches.back().map(|batch| batch.last),
            last_append: producer.last_time,
        });
        let mut known: Vec<_> = known.collect();
        known.sort_by_key(|producer| producer.id);
        known
    }

    /// What a batch of an idempotent producer is.
    pub fn judge(&self, header: &BatchHeader) -> Verdict {
        let Some(producer) = self.0.as_ref().and_then(|table| table.get(&header.producer_id)) else {
            return Verdict::Next;
        };
        if header.producer_epoch < producer.epoch {
            return Verdict::StaleEpoch { current: producer.epoch };
        }
        if header.producer_epoch > producer.epoch {
            let starts_anew = header.base_sequence == 0;
            return if starts_anew { Verdict::Next } else { Verdict::OutOfOrder { expected: 0 } };
        }
        let last = header.last_sequence();
        let same = |batch: &&Sequences| batch.first == header.base_sequence && batch.last == last;
        if let Some(batch) = producer.batches.iter().find(same) {
            return Verdict::Repeat(batch.base);
        }
        match producer.batches.back().map(|batch| after(batch.last)) {
            Some(expected) if expected != header.base_sequence => Verdict::OutOfOrder { expected },
            _ => Verdict::Next,
        }
    }

    /// Notes an appended batch. Over `producers_max` the producer that was silent longest is forgotten.
    pub fn note(&mut self, header: &BatchHeader, base: Offset, time: TimestampMs, producers_max: usize) {
        if header.producer_id.0 < 0 || header.attributes.is_control() {
            return;
        }
        let table = self.0.get_or_insert_default();
        if table.len() >= producers_max.max(1) && !table.contains_key(&header.producer_id) {
            let silent = table.iter().min_by_key(|(id, producer)| (producer.last_time, **id)).map(|(id, _)| *id);
            silent.and_then(|id| table.remove(&id));
        }
        let producer = table.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            last_time: time,
            batches: VecDeque::with_capacity(1),
        });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.last_time = time;
        producer.batches.push_back(Sequences { first: header.base_sequence, last: header.last_sequence(), base });
    }

    /// Forgets producers that were silent since `before`.
    pub fn expire(&mut self, before: TimestampMs) {
        let Some(table) = &mut self.0 else { return };
        table.retain(|_, producer| producer.last_time >= before);
        if table.is_empty() {
            self.0 = None;
        }
    }

    /// Writes all onto the end of `out`, in a fixed order.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut producers: Vec<_> = self.0.iter().flat_map(|table| table.iter()).collect();
        producers.sort_by_key(|(id, _)| **id);
        out.put_u32_le(u32::try_from(producers.len()).unwrap_or(u32::MAX));
        for (id, producer) in producers {
            out.put_i64_le(id.0);
            out.put_i16_le(producer.epoch);
            out.put_i64_le(producer.last_time.0);
            out.put_u8(u8::try_from(producer.batches.len()).unwrap_or(u8::MAX));
            for batch in &producer.batches {
                out.put_i32_le(batch.first);
                out.put_i32_le(batch.last);
                out.put_i64_le(batch.base.0);
            }
        }
    }

    /// Reads what `encode` wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<ProducerTable, Malformed> {
        let count = reader.count(19)?;
        let mut table = HashMap::with_capacity(count);
        for _ in 0..count {
            let id = ProducerId(reader.i64()?);
            let epoch = reader.i16()?;
            let last_time = TimestampMs(reader.i64()?);
            let batches = (0..reader.u8()?)
                .map(|_| Ok(Sequences { first: reader.i32()?, last: reader.i32()?, base: Offset(reader.i64()?) }))
                .collect::<Result<_, Malformed>>()?;
            table.insert(id, Producer { epoch, last_time, batches });
        }
        Ok(ProducerTable((!table.is_empty()).then(|| Box::new(table))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;

    fn header(producer: i64, epoch: i16, sequence: i32, count: i64) -> BatchHeader {
        let mut builder = BatchBuilder::new().producer(ProducerId(producer), epoch, sequence);
        for record in 0..count {
            builder.push(TimestampMs(record), None, Some(b"v"), &[]).expect("a short record");
        }
        *builder.build().expect("a small batch").header()
    }

    fn table(batches: &[(i32, i64)]) -> ProducerTable {
        let mut table = ProducerTable::default();
        let mut base = 0;
        for (sequence, count) in batches {
            table.note(&header(1, 0, *sequence, *count), Offset(base), TimestampMs(base), 10);
            base += count;
        }
        table
    }

    #[test]
    fn a_repeat_of_any_of_the_last_five_batches_is_known() {
        let table = table(&[(0, 2), (2, 1), (3, 1), (4, 1), (5, 1), (6, 3)]);
        assert_eq!(table.judge(&header(1, 0, 6, 3)), Verdict::Repeat(Offset(6)));
        assert_eq!(table.judge(&header(1, 0, 2, 1)), Verdict::Repeat(Offset(2)));
        assert_eq!(table.judge(&header(1, 0, 0, 2)), Verdict::OutOfOrder { expected: 9 });
        assert_eq!(table.judge(&header(1, 0, 9, 1)), Verdict::Next);
        assert_eq!(table.judge(&header(1, 0, 10, 1)), Verdict::OutOfOrder { expected: 9 });
        assert_eq!(table.judge(&header(1, 0, 6, 2)), Verdict::OutOfOrder { expected: 9 });
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let table = table(&[(i32::MAX, 1)]);
        assert_eq!(table.judge(&header(1, 0, 0, 1)), Verdict::Next);
        let across = self::table(&[(i32::MAX - 1, 4)]);
        assert_eq!(across.judge(&header(1, 0, 2, 1)), Verdict::Next);
        assert_eq!(across.judge(&header(1, 0, i32::MAX - 1, 4)), Verdict::Repeat(Offset(0)));
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut table = table(&[(0, 2)]);
        assert_eq!(table.judge(&header(1, 1, 2, 1)), Verdict::OutOfOrder { expected: 0 });
        assert_eq!(table.judge(&header(1, 1, 0, 1)), Verdict::Next);
        table.note(&header(1, 1, 0, 1), Offset(2), TimestampMs(3), 10);
        assert_eq!(table.judge(&header(1, 0, 2, 1)), Verdict::StaleEpoch { current: 1 });
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(ProducerTable::default().judge(&header(9, 3, 77, 1)), Verdict::Next);
    }

    #[test]
    fn over_the_bound_the_longest_silent_producer_is_forgotten() {
        let mut table = ProducerTable::default();
        for producer in 0..20 {
            table.note(&header(producer, 0, 0, 1), Offset(producer), TimestampMs(100 - producer), 5);
        }
        assert_eq!(table.0.as_ref().map(|table| table.len()), Some(5));
        assert_eq!(table.judge(&header(19, 0, 0, 1)), Verdict::Repeat(Offset(19)));
        assert_eq!(table.judge(&header(10, 0, 0, 1)), Verdict::Next);
        table.expire(TimestampMs(1000));
        assert_eq!(table, ProducerTable::default());
    }

    #[test]
    fn encoding_gives_back_the_same_table() {
        let table = table(&[(0, 2), (2, 1), (3, 1)]);
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        assert_eq!(ProducerTable::decode(&mut Reader(&bytes)), Ok(table));
    }
}
