//! Prints batches and records of segment files, in the order in which they lie there.

use super::segment::{Found, SegmentFile, Stop};
use crate::command::record_text::{JsonRecord, write_json_line};
use crate::exit::{FAILED, Failure};
use crate::output::Output;
use headwater_engine::batch::{
    BatchError, BatchHeader, Codec, INFLATED_SIZE_MAX, Record, TimestampType, records_of, verify_crc,
};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// What to print.
pub struct Options {
    pub records: bool,
    pub verify: bool,
    pub output: Output,
}

/// A file to print.
pub struct Source {
    pub path: PathBuf,
    /// What its data folder knows of it, if it was found there.
    pub known: Option<Known>,
}

/// What a data folder knows of a file.
#[derive(Clone, Copy)]
pub struct Known {
    pub partition: u32,
    /// The offset of its first record.
    pub base: i64,
    /// Bytes that are published.
    pub size: u64,
    /// Bytes of these that must be in the file; those behind may still lie in the WAL alone.
    pub checkpointed: u64,
}

/// What was seen.
#[derive(Debug, Default)]
struct Totals {
    batches: u64,
    records: u64,
    bytes: u64,
    problems: u64,
    /// Bytes that the WAL has and the files do not.
    in_wal: u64,
    next_offset: Option<i64>,
}

/// Prints all files.
pub fn run(sources: &[Source], options: &Options) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut totals = Totals::default();
    for source in sources {
        totals.next_offset = source.known.map(|known| known.base);
        dump(source, options, &mut totals, &mut out)?;
    }
    if options.output == Output::Table {
        let in_wal = if totals.in_wal > 0 { format!(", {} more in the WAL", totals.in_wal) } else { String::new() };
        let checked = if options.verify { format!(", {} problems", totals.problems) } else { String::new() };
        let Totals { batches, records, bytes, .. } = totals;
        writeln!(out, "{batches} batches, {records} records, {bytes} bytes{in_wal}{checked}")?;
    }
    out.flush()?;
    if totals.problems > 0 { Err(Failure::silent(FAILED)) } else { Ok(()) }
}

fn dump(source: &Source, options: &Options, totals: &mut Totals, out: &mut impl Write) -> Result<(), Failure> {
    let (name, known) = (source.path.display(), source.known);
    let partition = known.map(|known| known.partition);
    if options.output == Output::Table {
        let partition = partition.map(|number| format!("partition {number}: ")).unwrap_or_default();
        writeln!(out, "{partition}{name}")?;
        writeln!(out, "{TITLE}")?;
    }
    let mut segment = match SegmentFile::open(&source.path, known.map(|known| known.size)) {
        Ok(segment) => segment,
        // It was made after the last checkpoint, and the machine stopped before it was there for good.
        Err(error) if error.kind() == io::ErrorKind::NotFound && known.is_some_and(|known| known.checkpointed == 0) => {
            return Ok(rest_in_wal(known, 0, options, totals, out)?);
        }
        Err(error) => return Err(Failure::new(FAILED, format!("cannot open {name}: {error}"))),
    };
    loop {
        let position = segment.position();
        let may_be_missing = known.is_some_and(|known| position >= known.checkpointed);
        let found = match segment.next() {
            Ok(Some(found)) if may_be_missing && !is_there(&found, totals.next_offset) => {
                return Ok(rest_in_wal(known, position, options, totals, out)?);
            }
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(stop) if may_be_missing && !matches!(stop, Stop::Io(_)) => {
                return Ok(rest_in_wal(known, position, options, totals, out)?);
            }
            // Nothing after it can be read, so it is a problem whether or not anybody asked for a check.
            Err(stop) => {
                totals.problems += 1;
                problem(options, out, None, &format!("{name}: {stop}"))?;
                return Ok(());
            }
        };
        totals.batches += 1;
        totals.records += u64::try_from(found.header.record_count).unwrap_or(0);
        totals.bytes += found.header.size as u64;
        print_batch(&found, partition, options.output, out)?;
        if options.records {
            print_records(&found, partition, options, totals, out)?;
        }
        if options.verify {
            for why in verify(&found, totals.next_offset) {
                totals.problems += 1;
                problem(options, out, Some(&found), &why)?;
            }
        }
        totals.next_offset = Some(found.header.next_offset().0);
    }
}

/// Whether a batch that no checkpoint covers is in the file: after a crash, what stands in its place means nothing.
fn is_there(found: &Found, next: Option<i64>) -> bool {
    verify_crc(&found.batch).is_ok() && next.is_none_or(|next| found.header.base_offset.0 >= next)
}

/// Says that the file does not have its records from `position` on. That is no damage: the next start writes them.
fn rest_in_wal(
    known: Option<Known>,
    position: u64,
    options: &Options,
    totals: &mut Totals,
    out: &mut impl Write,
) -> io::Result<()> {
    let bytes = known.map_or(0, |known| known.size.saturating_sub(position));
    if bytes == 0 {
        return Ok(());
    }
    totals.in_wal += bytes;
    let message = format!(
        "the {bytes} bytes from position {position} on lie in the write-ahead log and not yet in this file; the next start \
         of the server puts them there"
    );
    match options.output {
        Output::Json => write_json_line(out, &JsonLine::Note { position, bytes, message: &message }),
        Output::Table => writeln!(out, "  NOTE {message}"),
    }
}

/// Everything that is wrong with a batch.
fn verify(found: &Found, at_least: Option<i64>) -> Vec<String> {
    let mut problems = Vec::new();
    let base = found.header.base_offset.0;
    if let Some(next) = at_least.filter(|next| base < *next) {
        problems.push(format!("its base offset {base} is below {next}, where the one before ends"));
    }
    if let Err(error) = verify_crc(&found.batch) {
        // What a damaged batch says about its records means nothing.
        problems.push(error.to_string());
        return problems;
    }
    if let Err(error) = walk(found, |_| Ok(())) {
        problems.push(error.to_string());
    }
    problems
}

fn walk(found: &Found, mut each: impl FnMut(Record<'_>) -> io::Result<()>) -> Result<(), WalkError> {
    let mut count = 0;
    let mut last = found.header.base_offset.0 - 1;
    for record in &records_of(&found.batch, INFLATED_SIZE_MAX)? {
        let record = record?;
        let offset = record.offset.0;
        if offset <= last || offset > found.header.last_offset().0 {
            return Err(WalkError::Place(format!("record {count} has the offset {offset}, out of its batch's order")));
        }
        last = offset;
        count += 1;
        each(record)?;
    }
    if count != found.header.record_count {
        return Err(WalkError::Place(format!("it has {count} records and says {}", found.header.record_count)));
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum WalkError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("{0}")]
    Place(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

const TITLE: &str =
    "  POSITION      OFFSET        LAST  RECORDS      SIZE  CODEC   EPOCH  PRODUCER  SEQUENCE  MAX TIMESTAMP  KIND";

/// One line of JSON output.
#[derive(serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum JsonLine<'a> {
    Batch(JsonBatch),
    Record(JsonRecord<'a>),
    Problem { position: Option<u64>, message: &'a str },
    Note { position: u64, bytes: u64, message: &'a str },
}

#[derive(serde::Serialize)]
struct JsonBatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u32>,
    position: u64,
    base_offset: i64,
    last_offset: i64,
    records: i32,
    size: usize,
    codec: &'static str,
    leader_epoch: i32,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    timestamp_type: &'static str,
    transactional: bool,
    control: bool,
    crc: String,
}

fn print_batch(found: &Found, partition: Option<u32>, output: Output, out: &mut impl Write) -> io::Result<()> {
    let BatchHeader { base_offset, leader_epoch, crc, attributes, base_timestamp, max_timestamp, .. } = found.header;
    let BatchHeader { producer_id, producer_epoch, base_sequence, record_count, size, .. } = found.header;
    let codec = match attributes.codec() {
        Ok(Codec::None) => "none",
        Ok(Codec::Gzip) => "gzip",
        Ok(Codec::Snappy) => "snappy",
        Ok(Codec::Lz4) => "lz4",
        Ok(Codec::Zstd) => "zstd",
        Err(_) => "unknown",
    };
    let last = found.header.last_offset().0;
    if output == Output::Json {
        let row = JsonBatch {
            partition,
            position: found.position,
            base_offset: base_offset.0,
            last_offset: last,
            records: record_count,
            size,
            codec,
            leader_epoch: leader_epoch.0,
            producer_id: producer_id.0,
            producer_epoch,
            base_sequence,
            base_timestamp: base_timestamp.0,
            max_timestamp: max_timestamp.0,
            timestamp_type: match attributes.timestamp_type() {
                TimestampType::CreateTime => "CreateTime",
                TimestampType::LogAppendTime => "LogAppendTime",
            },
            transactional: attributes.is_transactional(),
            control: attributes.is_control(),
            crc: format!("{crc:08x}"),
        };
        return write_json_line(out, &JsonLine::Batch(row));
    }
    let kind = match (attributes.is_control(), attributes.is_transactional()) {
        (true, _) => "control",
        (false, true) => "transaction",
        (false, false) => "",
    };
    let line = format!(
        "{:>10} {:>11} {last:>11} {record_count:>8} {size:>9}  {codec:<7} {:>5} {:>9} {base_sequence:>9} {:>14}  {kind}",
        found.position, base_offset.0, leader_epoch.0, producer_id.0, max_timestamp.0
    );
    writeln!(out, "{}", line.trim_end())
}

fn print_records(
    found: &Found,
    partition: Option<u32>,
    options: &Options,
    totals: &mut Totals,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let partition = partition.and_then(|number| i32::try_from(number).ok());
    let result = walk(found, |record| match options.output {
        Output::Json => write_json_line(out, &JsonLine::Record(JsonRecord { topic: None, partition, record })),
        Output::Table => {
            let text = |bytes: Option<&[u8]>| match bytes {
                Some(bytes) => format!("\"{}\"", bytes.escape_ascii()),
                None => "null".to_owned(),
            };
            let (key, value) = (text(record.key), text(record.value));
            write!(out, "{:>22}  {}  {key} = {value}", record.offset.0, record.timestamp)?;
            for (name, value) in record.headers {
                write!(out, "  {}: {}", name.escape_ascii(), text(value))?;
            }
            writeln!(out)
        }
    });
    match result {
        Ok(()) => Ok(()),
        Err(WalkError::Io(error)) => Err(error.into()),
        // With --verify the check that follows says it.
        Err(_) if options.verify => Ok(()),
        Err(why) => {
            totals.problems += 1;
            Ok(problem(options, out, Some(found), &why.to_string())?)
        }
    }
}

fn problem(options: &Options, out: &mut impl Write, found: Option<&Found>, why: &str) -> io::Result<()> {
    match (options.output, found) {
        (Output::Json, found) => {
            let position = found.map(|found| found.position);
            write_json_line(out, &JsonLine::Problem { position, message: why })
        }
        (Output::Table, Some(found)) => writeln!(out, "  PROBLEM in the batch at position {}: {why}", found.position),
        (Output::Table, None) => writeln!(out, "  PROBLEM {why}"),
    }
}
