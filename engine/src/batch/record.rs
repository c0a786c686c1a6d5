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

/// A place in bytes whose varints are short. Whatever is longer, or too near to the end, is not for it.
struct ShortCursor<'a> {
    rest: &'a [u8],
}

impl<'a> ShortCursor<'a> {
    /// A varint of three bytes at most.
    #[inline(always)]
    fn varint(&mut self) -> Option<i32> {
        let word = u32::from_le_bytes(*self.rest.first_chunk()?);
        let (zigzag, size) = if word & 0x80 == 0 {
            (word & 0x7f, 1)
        } else if word & 0x8000 == 0 {
            (word & 0x7f | word >> 1 & 0x3f80, 2)
        } else if word & 0x80_0000 == 0 {
            (word & 0x7f | word >> 1 & 0x3f80 | word >> 2 & 0x1f_c000, 3)
        } else {
            return None;
        };
        self.rest = self.rest.get(size..)?;
        Some((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
    }

    #[inline(always)]
    fn skip(&mut self, size: usize) -> Option<()> {
        self.rest = self.rest.get(size..)?;
        Some(())
    }

    /// A length, -1 for null, and that many bytes. Gives the length.
    #[inline(always)]
    fn skip_nullable(&mut self) -> Option<i64> {
        let size = self.varint()?;
        if size != -1 {
            self.skip(usize::try_from(size).ok()?)?;
        }
        Some(i64::from(size))
    }
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

/// What a batch's check wants to know of a record. Fields of one width: others are written apart and read together, and the CPU
/// then waits for the writes, which took two fifths of the check's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Glance {
    pub(super) body_size: usize,
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i64,
    /// -1: null.
    pub(super) key_size: i64,
}

impl Glance {
    /// Reads the record at the cursor, all of it, and moves past it.
    #[inline(always)]
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Glance, Why> {
        let mut short = ShortCursor { rest: cursor.rest };
        if let Some(glance) = Glance::of_common(&mut short) {
            cursor.rest = short.rest;
            return Ok(glance);
        }
        Glance::of_any(cursor)
    }

    /// Reads a record as nearly all are: no headers, small deltas, and more bytes behind it. None when it is another one, or none.
    #[inline(always)]
    fn of_common(cursor: &mut ShortCursor<'_>) -> Option<Glance> {
        let body_size = usize::try_from(cursor.varint()?).ok()?;
        let before = cursor.rest.len();
        // The attributes say nothing.
        cursor.skip(1)?;
        let timestamp_delta = i64::from(cursor.varint()?);
        let offset_delta = i64::from(cursor.varint()?);
        let key_size = cursor.skip_nullable()?;
        cursor.skip_nullable()?;
        let is_common = cursor.varint()? == 0 && before - cursor.rest.len() == body_size;
        is_common.then_some(Glance { body_size, timestamp_delta, offset_delta, key_size })
    }

    #[inline(never)]
    fn of_any(cursor: &mut Cursor<'_>) -> Result<Glance, Why> {
        let RawRecord { body_size, timestamp_delta, offset_delta, key, .. } = RawRecord::read(cursor)?;
        let key_size = key.map_or(-1, |key| key.len() as i64);
        Ok(Glance { body_size, timestamp_delta, offset_delta: i64::from(offset_delta), key_size })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A varint, in a longer form than needed when `padding` says so.
    fn put(out: &mut Vec<u8>, value: i64, padding: bool) {
        let mut zigzag = (value << 1 ^ value >> 63) as u64;
        while zigzag >= 0x80 {
            out.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        out.push(zigzag as u8 | u8::from(padding) << 7);
        if padding {
            out.push(0);
        }
    }

    fn small() -> impl Strategy<Value = i64> {
        prop_oneof![4 => -3..70_i64, 2 => -9000..9000_i64, 1 => -3_000_000..3_000_000_i64, 1 => any::<i32>().prop_map(i64::from)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// The short way takes nothing that the long way refuses, and sees in it what that sees.
        #[test]
        fn both_ways_to_read_a_record_agree(
            numbers in prop::array::uniform5(small()),
            lengths in (0..300_usize, 0..300_usize),
            nulls in any::<(bool, bool)>(),
            off in prop_oneof![8 => Just(0_i64), 1 => -3..4_i64],
            padding in prop::bool::weighted(0.1),
            rest in prop::collection::vec(any::<u8>(), 0..9),
            flips in prop::collection::vec((0..700_usize, any::<u8>()), 0..3),
        ) {
            let mut body = vec![numbers[0] as u8];
            put(&mut body, numbers[1], padding);
            put(&mut body, numbers[2], false);
            for (is_null, length) in [(nulls.0, lengths.0), (nulls.1, lengths.1)] {
                put(&mut body, if is_null { -1 } else { length as i64 }, padding);
                body.extend(std::iter::repeat_n(0, if is_null { 0 } else { length }));
            }
            put(&mut body, if numbers[3] == 1 { 1 } else { 0 }, false);
            let mut bytes = Vec::new();
            put(&mut bytes, body.len() as i64 + off, padding);
            bytes.extend(body);
            bytes.extend(rest);
            let size = bytes.len();
            for (at, with) in flips {
                bytes[at % size] ^= with;
            }
            let mut short = ShortCursor { rest: &bytes };
            let Some(glance) = Glance::of_common(&mut short) else { return Ok(()) };
            let mut cursor = Cursor::new(&bytes);
            let any = Glance::of_any(&mut cursor).expect("a record that the short way took");
            prop_assert_eq!((glance, short.rest), (any, cursor.rest));
        }
    }
}
