//! Checked reading of Kafka's primitive types, for what is decoded by hand.

use super::Malformed;
use bytes::{Buf, Bytes, TryGetError};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// Bytes that are read from the front.
pub(crate) struct Cursor(Bytes);

impl From<TryGetError> for Malformed {
    fn from(error: TryGetError) -> Malformed {
        Malformed(error.to_string())
    }
}

impl Cursor {
    pub(crate) fn new(bytes: Bytes) -> Cursor {
        Cursor(bytes)
    }

    /// What is not read yet.
    pub(crate) fn rest(self) -> Bytes {
        self.0
    }

    pub(crate) fn i8(&mut self) -> Result<i8, Malformed> {
        Ok(self.0.try_get_i8()?)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(self.0.try_get_i16()?)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(self.0.try_get_u16()?)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(self.0.try_get_i32()?)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(self.0.try_get_i64()?)
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, Malformed> {
        Ok(Uuid::from_u128(self.0.try_get_u128()?))
    }

    fn bytes(&mut self, size: usize) -> Result<Bytes, Malformed> {
        if size > self.0.len() {
            return Err(Malformed(format!("{size} bytes announced, {} left", self.0.len())));
        }
        Ok(self.0.split_to(size))
    }

    /// A varint of at most five bytes, as the reference reads it.
    fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.0.try_get_u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a varint of more than five bytes".to_owned()))
    }

    /// A length; `None` is null.
    fn length(&mut self, compact: bool) -> Result<Option<usize>, Malformed> {
        if compact {
            return Ok((self.unsigned_varint()? as usize).checked_sub(1));
        }
        match self.0.try_get_i32()? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| Malformed(format!("length {length}"))),
        }
    }

    /// An array's length. Each element takes at least `size_min` bytes, so more than fit are refused.
    pub(crate) fn array(&mut self, compact: bool, size_min: usize) -> Result<usize, Malformed> {
        self.nullable_array(compact, size_min)?.ok_or_else(|| Malformed("an array is null".to_owned()))
    }

    /// The same for an array that may be null.
    pub(crate) fn nullable_array(&mut self, compact: bool, size_min: usize) -> Result<Option<usize>, Malformed> {
        let count = self.length(compact)?;
        if let Some(count) = count.filter(|count| *count > self.0.len() / size_min.max(1)) {
            return Err(Malformed(format!("an array of {count} in {} bytes", self.0.len())));
        }
        Ok(count)
    }

    pub(crate) fn nullable_string(&mut self, compact: bool) -> Result<Option<StrBytes>, Malformed> {
        let length = if compact {
            self.length(true)?
        } else {
            match self.i16()? {
                -1 => None,
                length => Some(usize::try_from(length).map_err(|_| Malformed(format!("string length {length}")))?),
            }
        };
        let Some(length) = length else { return Ok(None) };
        StrBytes::from_utf8(self.bytes(length)?).map(Some).map_err(|error| Malformed(error.to_string()))
    }

    /// The client id, which a client may fill as it likes: like the reference, takes any negative length for null, and puts
    /// U+FFFD in the place of what is no UTF-8.
    pub(crate) fn client_id(&mut self) -> Result<Option<StrBytes>, Malformed> {
        let Ok(length) = usize::try_from(self.i16()?) else { return Ok(None) };
        let bytes = self.bytes(length)?;
        let replaced = || StrBytes::from_string(String::from_utf8_lossy(&bytes).into_owned());
        Ok(Some(StrBytes::from_utf8(bytes.clone()).unwrap_or_else(|_| replaced())))
    }

    pub(crate) fn string(&mut self, compact: bool) -> Result<StrBytes, Malformed> {
        self.nullable_string(compact)?.ok_or_else(|| Malformed("a string is null".to_owned()))
    }

    /// Bytes, a slice of the frame.
    pub(crate) fn nullable_bytes(&mut self, compact: bool) -> Result<Option<Bytes>, Malformed> {
        match self.length(compact)? {
            Some(length) => self.bytes(length).map(Some),
            None => Ok(None),
        }
    }

    /// Passes over tagged fields, none of which matter here.
    pub(crate) fn skip_tags(&mut self) -> Result<(), Malformed> {
        self.tags(|_, _| Ok(()))
    }

    /// Hands each tagged field to `take`, with its tag.
    pub(crate) fn tags(&mut self, mut take: impl FnMut(u32, Bytes) -> Result<(), Malformed>) -> Result<(), Malformed> {
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()?;
            take(tag, self.bytes(size as usize)?)?;
        }
        Ok(())
    }
}
