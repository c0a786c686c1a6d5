//! Record batches for requests: `{"$batch": [{"timestamp": 1, "key": "k", "value": "v"}, ...]}` in a case becomes the bytes
//! of one batch, format 2. Beside it, `"$codec": "gzip"` (`snappy`, `lz4`, `zstd`) compresses the records, and `"$producer":
//! {"id": 1, "epoch": 0, "sequence": 0}` says who numbers them.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::Write;

/// The batch's bytes. Offsets count from 0; the timestamp of a record without one is that of the record before it.
pub fn build(batch: &Value) -> Result<Vec<u8>> {
    let records = &batch["$batch"];
    let records = records.as_array().context("a batch is a list of records")?;
    let first = records.first().and_then(|r| r["timestamp"].as_i64()).context("the first record needs a timestamp")?;
    let mut body = Vec::new();
    let (mut timestamp, mut largest) = (first, first);
    for (index, record) in records.iter().enumerate() {
        timestamp = record["timestamp"].as_i64().unwrap_or(timestamp);
        largest = largest.max(timestamp);
        let mut one = vec![0];
        varint(&mut one, timestamp - first);
        varint(&mut one, i64::try_from(index)?);
        for part in [&record["key"], &record["value"]] {
            match part.as_str() {
                None => varint(&mut one, -1),
                Some(text) => {
                    varint(&mut one, i64::try_from(text.len())?);
                    one.extend(text.as_bytes());
                }
            }
        }
        varint(&mut one, 0);
        varint(&mut body, i64::try_from(one.len())?);
        body.extend(one);
    }
    let count = i32::try_from(records.len())?;
    let (codec, body) = compress(batch["$codec"].as_str(), body)?;
    let producer = |name: &str, none: i64| batch["$producer"][name].as_i64().unwrap_or(none);
    let mut checked = Vec::new();
    checked.extend(codec.to_be_bytes());
    checked.extend((count - 1).to_be_bytes());
    checked.extend(first.to_be_bytes());
    checked.extend(largest.to_be_bytes());
    checked.extend(producer("id", -1).to_be_bytes());
    checked.extend(i16::try_from(producer("epoch", -1))?.to_be_bytes());
    checked.extend(i32::try_from(producer("sequence", -1))?.to_be_bytes());
    checked.extend(count.to_be_bytes());
    checked.extend(body);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &checked) as u32;
    let mut batch = Vec::new();
    batch.extend(0i64.to_be_bytes());
    batch.extend(i32::try_from(checked.len() + 9)?.to_be_bytes());
    batch.extend((-1i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc.to_be_bytes());
    batch.extend(checked);
    Ok(batch)
}

/// The records as a codec writes them, and its number.
fn compress(codec: Option<&str>, records: Vec<u8>) -> Result<(i16, Vec<u8>)> {
    Ok(match codec {
        None => (0, records),
        Some("gzip") => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&records)?;
            (1, encoder.finish()?)
        }
        Some("snappy") => {
            // As snappy-java frames it: magic, version, the oldest version that reads it, then blocks with their sizes.
            let mut framed = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01".to_vec();
            let block = snap::raw::Encoder::new().compress_vec(&records)?;
            framed.extend(u32::try_from(block.len())?.to_be_bytes());
            framed.extend(block);
            (2, framed)
        }
        Some("lz4") => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(&records)?;
            (3, encoder.finish()?)
        }
        Some("zstd") => (4, zstd::bulk::compress(&records, 3)?),
        Some(other) => bail!("unknown codec {other}"),
    })
}

/// Batches in hex with their leader epochs as zeros: those are the log's, and outside the checksum.
pub fn without_epochs(hex: &str) -> String {
    let mut out = hex.to_owned();
    let mut from = 0;
    while let Some(length) = hex.get(from + 16..from + 24).and_then(|digits| usize::from_str_radix(digits, 16).ok()) {
        if let (Some(_), true) = (hex.get(from + 24..from + 32), hex.is_ascii()) {
            out.replace_range(from + 24..from + 32, "00000000");
        }
        from += 2 * (12 + length);
    }
    out
}

/// A record that was read.
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

/// The records of uncompressed batches; a batch that is cut off at the end is left out.
pub fn read(mut bytes: &[u8]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while let Some(length) = bytes.get(8..12) {
        let length = 12 + u32::from_be_bytes(length.try_into()?) as usize;
        let Some(batch) = bytes.get(..length) else { break };
        let attributes = i16::from_be_bytes(batch.get(21..23).context("a short batch")?.try_into()?);
        if attributes & 7 != 0 {
            bail!("a compressed batch");
        }
        let count = u32::from_be_bytes(batch.get(57..61).context("a short batch")?.try_into()?);
        let mut rest = batch.get(61..).context("a short batch")?;
        for _ in 0..count {
            let size = usize::try_from(read_varint(&mut rest)?)?;
            let (mut record, after) = rest.split_at_checked(size).context("a short record")?;
            rest = after;
            record = record.get(1..).context("a record without attributes")?;
            read_varint(&mut record)?;
            read_varint(&mut record)?;
            records.push(Record { key: read_part(&mut record)?, value: read_part(&mut record)? });
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(records)
}

fn read_part(from: &mut &[u8]) -> Result<Option<Vec<u8>>> {
    let Ok(size) = usize::try_from(read_varint(from)?) else { return Ok(None) };
    let (part, rest) = from.split_at_checked(size).context("a short key or value")?;
    *from = rest;
    Ok(Some(part.to_vec()))
}

fn read_varint(from: &mut &[u8]) -> Result<i64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = from.split_first().context("a varint without an end")?;
        *from = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    bail!("a varint without an end")
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
