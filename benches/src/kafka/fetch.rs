//! Fetch requests without a session, and a walk through their answers.

use super::FETCH;
use super::batch::{self, Walked};
use super::connection::{Connection, Incoming};
use super::error::Error;
use super::wire::{Reader, Source, Writer};

/// A partition and how far it is read.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// The partition.
    pub partition: i32,
    /// The next offset.
    pub next: i64,
    /// The offset before which reading ends.
    pub end: i64,
}

/// What a Fetch request asks for, apart from the partitions.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The topic.
    pub topic: String,
    /// The most bytes of an answer.
    pub bytes_max: i32,
    /// The most bytes of a partition in an answer.
    pub partition_bytes_max: i32,
    /// How long the broker may wait for a first byte.
    pub wait_ms: i32,
    /// Whether the checksums of batches are compared.
    pub sums: bool,
}

impl Asking {
    /// A full fetch without a session.
    #[must_use]
    pub fn request(&self, cursors: &[Cursor]) -> Vec<u8> {
        let mut request = Writer::request(FETCH);
        request.i32(-1).i32(self.wait_ms).i32(1).i32(self.bytes_max).i8(0).i32(0).i32(-1);
        request.count(1).string(&self.topic).count(cursors.len());
        for cursor in cursors {
            request.i32(cursor.partition).i32(-1).i64(cursor.next).i64(-1).i32(self.partition_bytes_max);
        }
        request.count(0).string("");
        request.finish()
    }

    /// The time of the batch that a cursor stands at.
    pub fn time_at(&self, connection: &mut Connection, cursor: Cursor) -> Result<i64, Error> {
        let one = Self { partition_bytes_max: 1, ..self.clone() };
        connection.send(&mut one.request(&[cursor]))?;
        let mut time = None;
        one.batches(connection.incoming()?, |_, _, answer, size| {
            let Some(rest) = size.checked_sub(batch::HEAD) else { return answer.skip(size) };
            let head: [u8; batch::HEAD] = answer.array()?;
            time = Some(Reader::new(&head[27..]).i64()?);
            answer.skip(rest)
        })?;
        time.ok_or_else(|| Error::Answer(format!("{}-{} has nothing at {}", self.topic, cursor.partition, cursor.next)))
    }

    /// Asks once and moves the cursors on. `each` is told a partition and the records of every batch that came.
    pub fn fetch(
        &self,
        connection: &mut Connection,
        cursors: &mut [Cursor],
        each: impl FnMut(i32, u64),
    ) -> Result<Walked, Error> {
        connection.send(&mut self.request(cursors))?;
        self.read(connection.incoming()?, cursors, each)
    }

    /// Reads an answer, checks what is in it and moves the cursors on. The records that are counted are those before the
    /// cursors' ends, the bytes those of all whole batches.
    pub fn read(
        &self,
        answer: Incoming<'_>,
        cursors: &mut [Cursor],
        mut each: impl FnMut(i32, u64),
    ) -> Result<Walked, Error> {
        let mut sum = Walked::default();
        self.batches(answer, |nth, partition, answer, size| {
            // Brokers answer in the order of the request, as a rule.
            let at = match cursors.get(nth) {
                Some(cursor) if cursor.partition == partition => Some(nth),
                _ => cursors.iter().position(|cursor| cursor.partition == partition),
            };
            let Some(cursor) = at.and_then(|at| cursors.get_mut(at)) else {
                return Err(Error::Answer(format!("Fetch answered partition {partition}, unasked")));
            };
            let walked = batch::walk_from(answer, size, cursor.next, self.sums, |records| each(partition, records))?;
            let until = walked.next_offset.min(cursor.end);
            sum.records += u64::try_from(until - cursor.next).unwrap_or(0);
            sum.bytes += walked.bytes;
            cursor.next = cursor.next.max(walked.next_offset);
            Ok(())
        })?;
        Ok(sum)
    }

    /// The batches in an answer: which partition in it, its number, where to read them and how many bytes.
    fn batches(
        &self,
        mut answer: Incoming<'_>,
        mut each: impl FnMut(usize, i32, &mut Incoming<'_>, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        answer.i32()?;
        Error::check("Fetch", answer.i16()?, || self.topic.clone())?;
        answer.i32()?;
        for _ in 0..answer.count()? {
            answer.skip_string()?;
            for nth in 0..answer.count()? {
                let partition = answer.i32()?;
                Error::check("Fetch", answer.i16()?, || format!("{}-{partition}", self.topic))?;
                for _ in 0..3 {
                    answer.i64()?; // high watermark, last stable offset, log start offset
                }
                for _ in 0..answer.count()? {
                    answer.i64()?;
                    answer.i64()?;
                }
                answer.i32()?;
                let size = answer.count()?;
                each(nth, partition, &mut answer, size)?;
            }
        }
        match answer.left() {
            0 => Ok(()),
            left => Err(Error::Answer(format!("a Fetch answer has {left} bytes too many"))),
        }
    }
}
