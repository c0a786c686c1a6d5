//! From batches to the bytes that are written.

use crate::client::{Fetched, Span};
use crate::command::record_text::Layout;
use crate::command::records::each_record;
use crate::exit::{FAILED, Failure};
use bytes::Bytes;
use headwater_engine::TimestampMs;
use headwater_engine::batch::{
    BatchError, BatchHeader, Fate, INFLATED_SIZE_MAX, Retained, headers, records_of, retain, verify_crc,
};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

/// How much is laid out at once, and a record more. Small batches may inflate to much, and many threads lay them out.
const PIECE_SIZE: usize = 16 << 20;

/// Lays out records, on any thread.
pub struct Encoder {
    /// None: batches stay as they are.
    layout: Option<Layout>,
    spans: Vec<Span>,
    /// Whether records of several topics come together.
    names_topics: bool,
}

/// What came of one fetch.
pub struct Encoded {
    pub span: usize,
    /// The offset after the last one that is done.
    pub next: i64,
    pub records: u64,
    /// The bytes to write, unless the batches are written as they are.
    pub buffer: Vec<u8>,
    batches: Option<Bytes>,
    /// What would have made it too large.
    pub rest: Option<Fetched>,
    /// Why the rest is missing.
    pub failure: Option<Failure>,
}

impl Encoded {
    /// What to write.
    pub fn bytes(&self) -> &[u8] {
        self.batches.as_deref().unwrap_or(&self.buffer)
    }
}

impl Encoder {
    /// Lays out the records of these spans.
    pub fn new(layout: Option<Layout>, spans: &[Span]) -> Encoder {
        let names_topics = spans.windows(2).any(|pair| pair[0].topic != pair[1].topic);
        Encoder { layout, spans: spans.to_vec(), names_topics }
    }

    /// The bytes to write for what was fetched. When something is wrong in the middle, they are those before it.
    pub fn encode(&self, fetched: &Fetched, buffer: Vec<u8>) -> Encoded {
        let span = &self.spans[fetched.span];
        let mut encoded = Encoded {
            span: fetched.span,
            next: fetched.from,
            records: 0,
            buffer,
            batches: None,
            rest: None,
            failure: None,
        };
        let result = match &self.layout {
            Some(layout) => self.records(layout, fetched, span, &mut encoded),
            None => batches(fetched, span, &mut encoded),
        };
        match result {
            Ok(()) if encoded.rest.is_some() => {}
            Ok(()) => {
                let last = headers(&fetched.batches).last().map_or(fetched.from, |(_, header)| header.next_offset().0);
                encoded.next = span.end.map_or(last, |end| last.min(end));
            }
            Err(failure) => encoded.failure = Some(failure),
        }
        encoded
    }

    fn records(&self, layout: &Layout, fetched: &Fetched, span: &Span, to: &mut Encoded) -> Result<(), Failure> {
        let topic = self.names_topics.then_some(span.topic.as_str());
        let (out, count, next) = (&mut to.buffer, &mut to.records, &mut to.next);
        // Uncompressed records are about as long as what they are laid out to.
        out.reserve(fetched.batches.len().min(PIECE_SIZE));
        each_record(fetched, span, |record| {
            layout.write(out, topic, span.partition, record)?;
            *count += 1;
            *next = record.offset.0.saturating_add(1);
            Ok(if out.len() < PIECE_SIZE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if to.buffer.len() >= PIECE_SIZE {
            to.rest = Some(Fetched { span: fetched.span, from: to.next, batches: fetched.batches.clone() });
        }
        Ok(())
    }
}

/// The batches that belong to the range, as they are stored. Those at its ends lose the records outside of it, the way that
/// compaction takes records out: what stays keeps its offset.
fn batches(fetched: &Fetched, span: &Span, to: &mut Encoded) -> Result<(), Failure> {
    let end = span.end.unwrap_or(i64::MAX);
    // Batches that need no copy, as long as nothing else stands before them.
    let mut run = 0..0;
    let mut result = Ok(());
    for (position, header) in headers(&fetched.batches) {
        if header.base_offset.0 >= end {
            break;
        }
        let batch = fetched.batches.slice(position..position + header.size);
        let retained = match cut(&batch, &header, fetched.from, end) {
            Ok(retained) => retained,
            Err(error) => {
                let place = format!("{}/{} at offset {}", span.topic, span.partition, header.base_offset);
                result = Err(Failure::new(FAILED, format!("{place} cannot be read: {error}")));
                break;
            }
        };
        to.next = header.next_offset().0.max(to.next);
        match retained {
            Retained::Whole if run.end == position => run.end += header.size,
            Retained::Whole => {
                to.buffer.extend_from_slice(&fetched.batches[run]);
                run = position..position + header.size;
            }
            Retained::Changed(cut) => {
                to.records += u64::try_from(cut.header().record_count).unwrap_or(0);
                to.buffer.extend_from_slice(&fetched.batches[std::mem::take(&mut run)]);
                to.buffer.extend_from_slice(cut.bytes());
                continue;
            }
            Retained::Nothing => continue,
        }
        to.records += u64::try_from(header.record_count).unwrap_or(0);
    }
    if to.buffer.is_empty() {
        to.batches = Some(fetched.batches.slice(run));
    } else {
        to.buffer.extend_from_slice(&fetched.batches[run]);
    }
    result
}

/// A batch without the records that lie outside of the range.
fn cut(batch: &Bytes, header: &BatchHeader, from: i64, end: i64) -> Result<Retained, BatchError> {
    verify_crc(batch)?;
    if header.base_offset.0 >= from && header.last_offset().0 < end {
        return Ok(Retained::Whole);
    }
    let never = TimestampMs(0); // no record stays for a time only
    retain(&records_of(batch, INFLATED_SIZE_MAX)?, never, |record| {
        if (from..end).contains(&record.offset.0) { Fate::Stays } else { Fate::Goes }
    })
}

/// Buffers that go round between the tasks and the writer: a new one for each fetch would cost a page fault for every page.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// A buffer that is empty.
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().ok().and_then(|mut buffers| buffers.pop()).unwrap_or_default()
    }

    /// Gives one back. One that a large record made large goes.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let is_large = buffer.capacity() > 2 * PIECE_SIZE;
        if let (false, Ok(mut buffers)) = (is_large, self.0.lock()) {
            buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_engine::batch::{BatchBuilder, Codec};
    use headwater_engine::{Epoch, Offset};

    /// A batch of records `a`, `b`, `c` ... from an offset on.
    fn batch(base: i64, count: u8) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for number in 0..count {
            builder.push(TimestampMs(1), None, Some(&[b'a' + number]), &[]).unwrap();
        }
        let mut batch = builder.finish().unwrap().to_vec();
        let patch = BatchHeader::parse(&batch).unwrap().patch(Offset(base), Epoch(0));
        batch[..patch.len()].copy_from_slice(&patch);
        batch
    }

    fn layout() -> Layout {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            layout: Layout,
        }
        <Line as clap::Parser>::parse_from(["replay", "--delimiter", ","]).layout
    }

    fn encode(layout: Option<Layout>, from: i64, end: i64, bytes: Vec<u8>) -> Encoded {
        let span =
            Span { topic: "t".to_owned(), topic_id: uuid::Uuid::nil(), partition: 0, next: from, end: Some(end) };
        Encoder::new(layout, &[span]).encode(&Fetched { span: 0, from, batches: bytes.into() }, Vec::new())
    }

    #[test]
    fn records_outside_of_the_range_are_cut() {
        let bytes = [batch(10, 3), batch(20, 3), batch(30, 3)].concat();
        let encoded = encode(Some(layout()), 11, 31, bytes.clone());
        assert_eq!((encoded.bytes(), encoded.records, encoded.next), (&b"b,c,a,b,c,a,"[..], 6, 31));
        let nothing = encode(Some(layout()), 13, 20, bytes.clone());
        assert_eq!((nothing.bytes(), nothing.records), (&b""[..], 0));
    }

    #[test]
    fn batches_at_the_ends_are_cut_and_the_others_stay_as_they_are() {
        let bytes = [batch(10, 3), batch(20, 3), batch(30, 3), batch(40, 3)].concat();
        let raw = |from, end| encode(None, from, end, bytes.clone());
        assert_eq!(raw(10, 43).bytes(), bytes);
        assert_eq!(raw(20, 40).bytes(), [batch(20, 3), batch(30, 3)].concat());
        assert_eq!((raw(13, 40).bytes(), raw(13, 40).records), (&[batch(20, 3), batch(30, 3)].concat()[..], 6));
        assert!(raw(13, 20).bytes().is_empty());
        let cut = raw(11, 42);
        assert_eq!((cut.records, cut.next), (10, 42));
        let again = encode(Some(layout()), 0, 100, cut.bytes().to_vec());
        assert_eq!(again.bytes(), b"b,c,a,b,c,a,b,c,a,b,");
        let middle = [batch(20, 3), batch(30, 3)].concat();
        assert!(cut.bytes().windows(middle.len()).any(|part| part == middle));
        for (_, header) in headers(&cut.batches.unwrap_or_else(|| cut.buffer.clone().into())) {
            assert_eq!((header.base_offset.0 % 10, header.last_offset_delta), (0, 2), "what is cut keeps its place");
        }
    }

    #[test]
    fn what_is_large_comes_in_pieces() {
        let mut builder = BatchBuilder::new();
        let value = vec![b'x'; 1 << 20];
        for _ in 0..40 {
            builder.push(TimestampMs(1), None, Some(&value), &[]).unwrap();
        }
        let bytes = [builder.finish().unwrap().to_vec(), batch(40, 3)].concat();
        let span = Span { topic: "t".to_owned(), topic_id: uuid::Uuid::nil(), partition: 0, next: 1, end: Some(42) };
        let encoder = Encoder::new(Some(layout()), &[span]);
        let mut rest = Some(Fetched { span: 0, from: 1, batches: bytes.into() });
        let mut pieces = Vec::new();
        while let Some(fetched) = rest {
            let encoded = encoder.encode(&fetched, Vec::new());
            assert!(encoded.failure.is_none());
            pieces.push((encoded.records, encoded.next, encoded.bytes().len()));
            rest = encoded.rest;
        }
        let line = value.len() + 1;
        assert_eq!(pieces, [(16, 17, 16 * line), (16, 33, 16 * line), (9, 42, 7 * line + 4)]);
    }

    #[test]
    fn what_inflates_to_too_much_is_said() {
        let mut builder = BatchBuilder::new().codec(Codec::Zstd);
        builder.push(TimestampMs(1), None, Some(&vec![b'x'; INFLATED_SIZE_MAX]), &[]).unwrap();
        let encoded = encode(Some(layout()), 0, 1, builder.finish().unwrap().to_vec());
        let why = encoded.failure.map(|failure| failure.message).unwrap_or_default();
        assert_eq!(
            why,
            "t/0 at offset 0 cannot be read: the records inflate to more than the 67108864 bytes that are allowed"
        );
        assert!(encoded.buffer.is_empty());
    }

    #[test]
    fn what_precedes_a_damaged_batch_is_there() {
        let mut bytes = [batch(10, 3), batch(20, 3)].concat();
        *bytes.last_mut().unwrap() ^= 1;
        let encoded = encode(Some(layout()), 10, 30, bytes.clone());
        assert_eq!((encoded.bytes(), encoded.next), (&b"a,b,c,"[..], 13));
        let why = encoded.failure.map(|failure| failure.message).unwrap_or_default();
        assert!(why.starts_with("t/0 at offset 20 cannot be read: corrupt batch: CRC"), "{why}");
        let raw = encode(None, 10, 30, bytes);
        assert!(raw.bytes() == batch(10, 3) && raw.next == 13 && raw.failure.is_some());
    }
}
