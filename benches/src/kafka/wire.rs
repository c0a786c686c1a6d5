//! Kafka's primitive types, non-flexible encoding.

use super::error::Error;

/// Appends primitive types to a frame.
#[derive(Default)]
pub struct Writer {
    /// What was written.
    pub bytes: Vec<u8>,
}

impl Writer {
    /// A frame whose length is still to be set, with a request header; the correlation id is patched when it is sent.
    #[must_use]
    pub fn request((key, version): (i16, i16)) -> Self {
        let mut writer = Self { bytes: vec![0; 4] };
        writer.i16(key).i16(version).i32(0).string("headwater-bench");
        writer
    }

    /// Sets the length at the front and returns the frame.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let len = i32::try_from(self.bytes.len() - 4).expect("our requests are far below 2 GiB");
        self.bytes[..4].copy_from_slice(&len.to_be_bytes());
        self.bytes
    }

    /// An INT8.
    pub fn i8(&mut self, value: i8) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// An INT16.
    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// An INT32.
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// An INT64.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// A STRING.
    pub fn string(&mut self, value: &str) -> &mut Self {
        self.i16(i16::try_from(value.len()).expect("our names are short")).raw(value.as_bytes())
    }

    /// A count of array elements, or of bytes.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.i32(i32::try_from(count).expect("our arrays are short"))
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }
}

/// Where primitive types are read from, in order.
pub trait Source {
    /// Hands on the next `len` bytes, in one piece or several.
    fn pass(&mut self, len: usize, each: impl FnMut(&[u8])) -> Result<(), Error>;

    /// The next bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (mut out, mut filled) = ([0; N], 0);
        self.pass(N, |bytes| {
            out[filled..filled + bytes.len()].copy_from_slice(bytes);
            filled += bytes.len();
        })?;
        Ok(out)
    }

    /// An INT8.
    fn i8(&mut self) -> Result<i8, Error> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// An INT16.
    fn i16(&mut self) -> Result<i16, Error> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// An INT32.
    fn i32(&mut self) -> Result<i32, Error> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// An INT64.
    fn i64(&mut self) -> Result<i64, Error> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// The number of elements of an ARRAY or bytes of BYTES; null counts as none.
    fn count(&mut self) -> Result<usize, Error> {
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }

    /// Passes over bytes.
    fn skip(&mut self, len: usize) -> Result<(), Error> {
        self.pass(len, |_| {})
    }

    /// Passes over a STRING or NULLABLE_STRING.
    fn skip_string(&mut self) -> Result<(), Error> {
        let len = usize::try_from(self.i16()?).unwrap_or(0);
        self.skip(len)
    }
}

/// Reads primitive types from an answer.
pub struct Reader<'a>(&'a [u8]);

impl Source for Reader<'_> {
    fn pass(&mut self, len: usize, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        each(self.raw(len)?);
        Ok(())
    }
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `len` bytes.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (head, rest) =
            self.0.split_at_checked(len).ok_or_else(|| Error::Answer("an answer ends too early".into()))?;
        self.0 = rest;
        Ok(head)
    }

    /// A STRING or NULLABLE_STRING; null is `None`.
    pub fn string(&mut self) -> Result<Option<&'a str>, Error> {
        match usize::try_from(self.i16()?) {
            Err(_) => Ok(None),
            Ok(len) => std::str::from_utf8(self.raw(len)?).map(Some).map_err(|error| Error::Answer(error.to_string())),
        }
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_short_answers_are_errors() {
        let mut writer = Writer::default();
        writer.i8(-3).i16(-2).i32(7).i64(1 << 40).string("topic").count(2).i16(-1);
        let bytes = writer.bytes;
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.i8().unwrap(), reader.i16().unwrap(), reader.i32().unwrap()), (-3, -2, 7));
        assert_eq!((reader.i64().unwrap(), reader.string().unwrap()), (1 << 40, Some("topic")));
        assert_eq!((reader.count().unwrap(), reader.string().unwrap()), (2, None));
        assert!(reader.rest().is_empty() && reader.i8().is_err());
        assert!(Reader::new(&[0, 5, b'a']).string().is_err());
    }
}
