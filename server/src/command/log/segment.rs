//! Steps over the batches of a segment file, one in memory at a time.

use bytes::Bytes;
use headwater_engine::batch::BatchHeader;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A segment file being read.
pub struct SegmentFile {
    file: File,
    size: u64,
    position: u64,
    /// Where its published bytes end, when somebody knows.
    published: Option<u64>,
}

/// One batch and where it lies.
pub struct Found {
    pub position: u64,
    pub header: BatchHeader,
    pub batch: Bytes,
}

/// Why reading stopped before the end of the file.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("at position {position} there is no batch: {why}")]
    NoBatch { position: u64, why: String },
    #[error("the batch at position {position} is cut off: {found} of {size} bytes")]
    Cut { position: u64, size: u64, found: u64 },
    #[error("it ends at {size}, and {published} bytes of it are published")]
    Short { size: u64, published: u64 },
}

impl SegmentFile {
    /// Opens a file. What lies behind `published`, if that is known, means nothing.
    #[allow(clippy::disallowed_methods, reason = "an offline tool reads the file that its user names")]
    pub fn open(path: &Path, published: Option<u64>) -> io::Result<SegmentFile> {
        let mut file = File::open(path)?;
        let size = file.seek(SeekFrom::End(0))?;
        Ok(SegmentFile { file, size, position: 0, published })
    }

    /// Where the next batch begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next batch; none at the end, and none where only zeros follow, which is space that was reserved, unless it is
    /// known that there is more.
    pub fn next(&mut self) -> Result<Option<Found>, Stop> {
        let position = self.position;
        if self.published.is_some_and(|published| position >= published) {
            return Ok(None);
        }
        let rest = self.published.unwrap_or(self.size).min(self.size).saturating_sub(position);
        match self.published {
            Some(published) if rest == 0 => return Err(Stop::Short { size: self.size, published }),
            None if rest == 0 => return Ok(None),
            _ => {}
        }
        let mut head = [0; BatchHeader::SIZE];
        let head = &mut head[..usize::try_from(rest).unwrap_or(usize::MAX).min(BatchHeader::SIZE)];
        self.file.read_exact_at(head, position)?;
        if self.published.is_none() && head.iter().all(|byte| *byte == 0) && self.is_zero_from(position)? {
            return Ok(None);
        }
        let header = BatchHeader::parse(head).map_err(|why| Stop::NoBatch { position, why: why.to_string() })?;
        let size = header.size as u64;
        if size > rest {
            return Err(Stop::Cut { position, size, found: rest });
        }
        let mut batch = vec![0; header.size];
        self.file.read_exact_at(&mut batch, position)?;
        self.position += size;
        Ok(Some(Found { position, header, batch: Bytes::from(batch) }))
    }

    fn is_zero_from(&self, mut position: u64) -> io::Result<bool> {
        let mut block = vec![0; 256 << 10];
        while position < self.size {
            let read = self.file.read_at(&mut block, position)?;
            if read == 0 {
                break;
            }
            if block[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            position += read as u64;
        }
        Ok(true)
    }
}
