//! Records on standard output.

use super::Format;
use crate::command::record_text::{JsonRecord, write_json_line};
use headwater_engine::batch::Record;
use std::io::{self, BufWriter, Write};

/// Prints records in one format.
pub struct Printer<'a, W: Write> {
    out: BufWriter<W>,
    format: Format,
    key_separator: &'a [u8],
}

impl<'a, W: Write> Printer<'a, W> {
    /// Prints to `out`; what is printed appears with the next flush.
    pub fn new(out: W, format: Format, key_separator: &'a [u8]) -> Printer<'a, W> {
        Printer { out: BufWriter::with_capacity(64 << 10, out), format, key_separator }
    }

    /// Prints one record. A missing key or value prints as nothing, except in JSON, which tells it from an empty one.
    pub fn print(&mut self, partition: i32, record: Record<'_>) -> io::Result<()> {
        match self.format {
            Format::Value => self.out.write_all(record.value.unwrap_or_default())?,
            Format::KeyValue => {
                self.out.write_all(record.key.unwrap_or_default())?;
                self.out.write_all(self.key_separator)?;
                self.out.write_all(record.value.unwrap_or_default())?;
            }
            Format::Json => {
                return write_json_line(&mut self.out, &JsonRecord { partition: Some(partition), record });
            }
        }
        self.out.write_all(b"\n")
    }

    /// Makes everything printed so far appear.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
