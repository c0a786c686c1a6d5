//! How numbers, strings and byte strings lie on disk, in the WAL and in checkpoints: little-endian, lengths first.
//!
//! Reading never panics: bytes from a disk are bytes from outside.

use bytes::BufMut;

/// The bytes ended early, or say something that cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// Writes onto the end of a byte vector.
pub trait Put {
    fn put_string(&mut self, text: &str);
    fn put_map(&mut self, map: &std::collections::BTreeMap<String, String>);
}

impl Put for Vec<u8> {
    fn put_string(&mut self, text: &str) {
        self.put_u32_le(u32::try_from(text.len()).expect("names and settings are short"));
        self.extend_from_slice(text.as_bytes());
    }

    fn put_map(&mut self, map: &std::collections::BTreeMap<String, String>) {
        self.put_u32_le(u32::try_from(map.len()).expect("a topic has few settings"));
        for (name, value) in map {
            self.put_string(name);
            self.put_string(value);
        }
    }
}

/// Bytes that a map takes.
pub fn map_size(map: &std::collections::BTreeMap<String, String>) -> usize {
    4 + map.iter().map(|(name, value)| 8 + name.len() + value.len()).sum::<usize>()
}

/// Reads from the front of a slice.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed("length"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed("length"))?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub fn id(&mut self) -> Result<[u8; 16], Malformed> {
        self.array()
    }

    /// A count of things that take at least `size_min` bytes each: never more than the bytes left could hold, so that it
    /// is safe to reserve memory for.
    pub fn count(&mut self, size_min: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count.saturating_mul(size_min) > self.0.len() {
            return Err(Malformed("count"));
        }
        Ok(count)
    }

    pub fn string(&mut self) -> Result<String, Malformed> {
        let size = self.u32()? as usize;
        let bytes = self.take(size)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("text"))
    }

    pub fn map(&mut self) -> Result<std::collections::BTreeMap<String, String>, Malformed> {
        let count = self.count(8)?;
        (0..count).map(|_| Ok((self.string()?, self.string()?))).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
