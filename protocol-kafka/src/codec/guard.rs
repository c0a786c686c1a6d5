//! A buffer for crate kafka-protocol that keeps it from allocating what a hostile client announces.
//!
//! The crate decodes an array as `Vec::with_capacity(n)`, n as sent, before it looks at the first element: ten bytes could ask
//! for hundreds of gigabytes, and a failed allocation ends the process. It reads lengths and plain numbers through the same
//! calls, so the guard has to tell them apart from below:
//!
//! - In flexible versions a length is a varint, read byte by byte, and only lengths, tags and their sizes are varints. Each run
//!   of single bytes that could be one is added up; what exceeds the bytes that are left is refused. (A tag number above that
//!   is refused too; real ones are small.)
//! - In older versions an array's length is an `i32` like any other. A number larger than the bytes that are left is handed
//!   over as one more than what is left. When it was a length, decoding fails for lack of bytes, since each element takes at
//!   least one. When decoding succeeds it was a plain number, and the caller decodes once more without the guard.

use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::buf::ByteBuf;

/// The guarded bytes.
pub(super) struct Guarded {
    bytes: Bytes,
    compact: bool,
    /// Bytes of a possible varint: those with the high bit set that were just read one by one, at most four.
    run: [u8; 4],
    run_len: usize,
    exact: bool,
}

impl Guarded {
    pub(super) fn new(bytes: Bytes, compact: bool) -> Guarded {
        Guarded { bytes, compact, run: [0; 4], run_len: 0, exact: true }
    }

    /// Whether every number was handed over as it is.
    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }

    /// Looks at a byte that was read alone. It may end a varint that began at any of the bytes of the run, or here.
    fn check_varint(&mut self, byte: u8) -> Result<(), TryGetError> {
        let ends = byte < 0x80;
        for start in 0..=self.run_len {
            let bytes = self.run.get(start..self.run_len).unwrap_or_default().iter().chain([&byte]);
            let value = bytes
                .zip([0, 7, 14, 21, 28])
                .fold(0u32, |value, (&byte, shift)| value | (u32::from(byte & 0x7f) << shift));
            // A fifth byte ends a varint whatever its high bit says.
            let complete = ends || self.run_len - start == 4;
            // Lengths are sent plus one, so that null has a number.
            if complete && value as usize > self.bytes.len().saturating_add(1) {
                return Err(TryGetError { requested: value as usize, available: self.bytes.len() });
            }
        }
        if ends {
            self.run_len = 0;
        } else if let Some(slot) = self.run.get_mut(self.run_len) {
            *slot = byte;
            self.run_len += 1;
        } else {
            self.run.rotate_left(1);
            self.run[3] = byte;
        }
        Ok(())
    }
}

impl Buf for Guarded {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.run_len = 0;
        self.bytes.advance(count);
    }

    fn try_get_u8(&mut self) -> Result<u8, TryGetError> {
        let byte = self.bytes.try_get_u8()?;
        if self.compact {
            self.check_varint(byte)?;
        }
        Ok(byte)
    }

    fn try_get_i32(&mut self) -> Result<i32, TryGetError> {
        self.run_len = 0;
        let value = self.bytes.try_get_i32()?;
        let most = i32::try_from(self.bytes.len()).unwrap_or(i32::MAX).saturating_add(1);
        if !self.compact && value > most {
            self.exact = false;
            return Ok(most);
        }
        Ok(value)
    }
}

impl ByteBuf for Guarded {
    fn peek_bytes(&mut self, range: std::ops::Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    fn get_bytes(&mut self, size: usize) -> Bytes {
        self.run_len = 0;
        self.bytes.split_to(size)
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::FromWire;
    use bytes::Bytes;
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::{FetchRequest, MetadataRequest};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    #[test]
    fn absurd_array_lengths_are_refused_before_anything_is_allocated() {
        // An allocation of 2^31 elements aborts the process or takes seconds; this returns at once.
        for length in [2, 1_000, 1 << 20, i32::MAX] {
            let body = Bytes::copy_from_slice(&length.to_be_bytes());
            assert!(MetadataRequest::from_wire(&body, 1).is_err(), "an array of {length}");
        }
        for body in
            [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff, 0xff, 0xff, 0xff, 0xff], &[0x80, 0x80, 0x80, 0x80, 0x7f]]
        {
            assert!(MetadataRequest::from_wire(&Bytes::copy_from_slice(body), 12).is_err(), "{body:x?}");
        }
    }

    #[test]
    fn a_length_behind_bytes_that_look_like_a_varint_is_refused_too() {
        // DescribeConfigs-like layouts read booleans, as single bytes, before arrays. Any run of single bytes is looked at
        // from each of its starts, so 0x81 (true) before a length does not hide the length.
        let mut guarded = super::Guarded::new(Bytes::from_static(&[0x81, 0x81, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]), true);
        let read: Result<Vec<u8>, _> = (0..7).map(|_| bytes::Buf::try_get_u8(&mut guarded)).collect();
        assert!(read.is_err());
    }

    #[test]
    fn numbers_larger_than_the_request_pass_unchanged() {
        for version in 4..=18 {
            let partition =
                FetchPartition::default().with_partition(7).with_fetch_offset(5).with_partition_max_bytes(i32::MAX);
            let mut topic = FetchTopic::default().with_partitions(vec![partition]);
            if version <= 12 {
                topic = topic.with_topic(StrBytes::from_static_str("a").into());
            }
            let request =
                FetchRequest::default().with_max_wait_ms(i32::MAX).with_max_bytes(50 << 20).with_topics(vec![topic]);
            let mut body = bytes::BytesMut::new();
            request.encode(&mut body, version).unwrap();
            assert_eq!(FetchRequest::from_wire(&body.freeze(), version).unwrap(), request, "version {version}");
        }
    }
}
