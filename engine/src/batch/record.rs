//! One record inside an uncompressed record section, read in place.
//!
//! ```text
//!  length          varint   of what follows
//!  attributes      1 byte   unused
//!  timestamp delta varlong  from the batch's base timestamp
//!  offset delta    varint   from the batch's base offset
//!  key             varint length (-1: null), bytes
//!  value           varint length (-1: null), bytes
//!  header count    varint
//!  headers         each: varint length, name; varint length (-1: null), value
//! ```
//! Varints are zigzag coded, seven bits to a byte, the lowest first. A longer form than needed is taken, as every other
//! reader does; one with more bits than its type has is not.

/// Why a record cannot be read. Plain text: an error that is built only once it leaves the hot loop.
pub(super) type Why = &'static str;

/// A place in bytes that nobody trusts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Why> {
        let (&byte, rest) = self.rest.split_first().ok_or("the record ends early")?;
        self.rest = rest;
        Ok(byte)
    }

    /// Moves past `size` bytes.
    pub(super) fn skip(&mut self, size: usize) -> Result<(), Why> {
        self.take(size).map(|_| ())
    }

    #[inline]
    fn take(&mut self, size: usize) -> Result<&'a [u8], Why> {
        let (bytes, rest) = self.rest.split_at_checked(size).ok_or("a length passes the record's end")?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn unsigned(&mut self, bits: u32) -> Result<u64, Why> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            // The last group may only fill the bits that are left.
            if shift + 7 > bits && low >> (bits - shift) != 0 {
                return Err("a varint has more bits than its type");
            }
            value |= low << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift >= bits {
                return Err("a varint is too long");
            }
        }
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<i32, Why> {
        let zigzag = self.unsigned(32)? as u32;
        Ok((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
    }

    #[inline]
    pub(super) fn varlong(&mut self) -> Result<i64, Why> {
        let zigzag = self.unsigned(64)?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// A length and that many bytes.
    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], Why> {
        let size = usize::try_from(self.varint()?).map_err(|_| "a length is negative")?;
        self.take(size)
    }

    /// A length, -1 for null, and that many bytes.
    #[inline]
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, Why> {
        match self.varint()? {
            -1 => Ok(None),
            size => self.take(usize::try_from(size).map_err(|_| "a length is negative")?).map(Some),
        }
    }
}

/// A record as its bytes say, its deltas not yet applied. Its headers are known to be whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRecord<'a> {
    /// Bytes of all that follows.
    pub(super) body_size: usize,
    pub(super) attributes: i8,
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: RecordHeaders<'a>,
}

impl<'a> RawRecord<'a> {
    /// Reads the record at the cursor, all of it, and moves past it.
    #[inline]
    pub(super) fn read(cursor: &mut Cursor<'a>) -> Result<RawRecord<'a>, Why> {
        let bytes = cursor.bytes()?;
        let (body_size, mut body) = (bytes.len(), Cursor::new(bytes));
        let attributes = body.byte()? as i8;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.nullable()?;
        let value = body.nullable()?;
        let count = u32::try_from(body.varint()?).map_err(|_| "the header count is negative")?;
        let headers = RecordHeaders { count, cursor: body };
        // A header takes two bytes at least, so a count that lies is found after as many steps as there are bytes.
        for _ in 0..count {
            body.bytes()?;
            body.nullable()?;
        }
        if !body.rest.is_empty() {
            return Err("the record's length does not match what is in it");
        }
        Ok(RawRecord { body_size, attributes, timestamp_delta, offset_delta, key, value, headers })
    }
}

/// The headers of a record, each a name and a value.
#[derive(Debug, Clone, Copy)]
pub struct RecordHeaders<'a> {
    count: u32,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        // Both were read once already, by `RawRecord::read`; an error cannot come up again.
        let name = self.cursor.bytes().ok()?;
        let value = self.cursor.nullable().ok()?;
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.count as usize;
        (count, Some(count))
    }
}

impl ExactSizeIterator for RecordHeaders<'_> {}
