//! From batches to the bytes that are written.

use crate::client::{Fetched, Span};
use crate::command::record_text::Layout;
use crate::command::records::each_record;
use crate::exit::{FAILED, Failure};
use bytes::Bytes;
use headwater_engine::batch::{headers, verify_crc};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

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
    /// Bytes of the batches, as they came from the broker.
    pub fetched_bytes: u64,
    /// The bytes to write, unless the batches are written as they are.
    pub buffer: Vec<u8>,
    batches: Option<Bytes>,
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
        let last = headers(&fetched.batches).last().map_or(fetched.from, |(_, header)| header.next_offset().0);
        let mut encoded = Encoded {
            span: fetched.span,
            next: span.end.map_or(last, |end| last.min(end)),
            records: 0,
            fetched_bytes: fetched.batches.len() as u64,
            buffer,
            batches: None,
            failure: None,
        };
        let result = match &self.layout {
            Some(layout) => self.records(layout, fetched, span, &mut encoded),
            None => batches(fetched, span, &mut encoded),
        };
        encoded.failure = result.err();
        encoded
    }

    fn records(&self, layout: &Layout, fetched: &Fetched, span: &Span, to: &mut Encoded) -> Result<(), Failure> {
        let topic = self.names_topics.then_some(span.topic.as_str());
        let (out, count) = (&mut to.buffer, &mut to.records);
        // Uncompressed records are about as long as what they are laid out to.
        out.reserve(fetched.batches.len());
        each_record(fetched, span, |record| {
            *count += 1;
            layout.write(out, topic, span.partition, record)?;
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// The batches that belong to the range, none of them changed.
fn batches(fetched: &Fetched, span: &Span, to: &mut Encoded) -> Result<(), Failure> {
    let mut size = 0;
    let mut result = Ok(());
    for (position, header) in headers(&fetched.batches) {
        if span.end.is_some_and(|end| header.base_offset.0 >= end) {
            break;
        }
        let whole = position + header.size;
        if let Err(error) = verify_crc(&fetched.batches[position..whole]) {
            let place = format!("{}/{} at offset {}", span.topic, span.partition, header.base_offset);
            result = Err(Failure::new(FAILED, format!("{place} cannot be read: {error}")));
            break;
        }
        size = whole;
        to.records += u64::try_from(header.record_count).unwrap_or(0);
    }
    to.batches = Some(fetched.batches.slice(..size));
    result
}

/// Buffers that go round between the tasks and the writer: a new one for each fetch would cost a page fault for every page.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// A buffer that is empty.
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().ok().and_then(|mut buffers| buffers.pop()).unwrap_or_default()
    }

    /// Gives one back.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if let Ok(mut buffers) = self.0.lock() {
            buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_engine::TimestampMs;
    use headwater_engine::batch::{BatchBuilder, BatchHeader};
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
        let span = Span { topic: "t".to_owned(), partition: 0, next: from, end: Some(end) };
        Encoder::new(layout, &[span]).encode(&Fetched { span: 0, from, batches: bytes.into() }, Vec::new())
    }

    #[test]
    fn records_outside_of_the_range_are_cut() {
        let bytes = [batch(10, 3), batch(20, 3), batch(30, 3)].concat();
        let encoded = encode(Some(layout()), 11, 31, bytes.clone());
        assert_eq!((encoded.bytes(), encoded.records, encoded.next), (&b"b,c,a,b,c,a,"[..], 6, 31));
        let nothing = encode(Some(layout()), 13, 20, bytes.clone());
        assert_eq!((nothing.bytes(), nothing.records), (&b""[..], 0));
        let raw = encode(None, 11, 30, bytes.clone());
        assert_eq!(raw.bytes(), [batch(10, 3), batch(20, 3)].concat());
    }

    #[test]
    fn what_precedes_a_damaged_batch_is_there() {
        let mut bytes = [batch(10, 3), batch(20, 3)].concat();
        *bytes.last_mut().unwrap() ^= 1;
        let encoded = encode(Some(layout()), 10, 30, bytes.clone());
        assert_eq!(encoded.bytes(), b"a,b,c,");
        let why = encoded.failure.map(|failure| failure.message).unwrap_or_default();
        assert!(why.starts_with("t/0 at offset 20 cannot be read: corrupt batch: CRC"), "{why}");
        let raw = encode(None, 10, 30, bytes);
        assert!(raw.bytes() == batch(10, 3) && raw.failure.is_some());
    }
}
