//! Batches that are small and want to become large.

use crate::besides::besides;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use headwater_tests::batch::{self, Source};
use headwater_tests::calls;
use headwater_tests::client::Client;
use headwater_tests::server::Server;
use std::io::Write;
use std::thread::Builder;

/// What one batch inflates to; the server stops at 64 MiB.
const INFLATED: usize = 400 << 20;
const CLIENTS: usize = 8;
/// Inflating takes up to 64 MiB for each thread that serves connections, and at most that is alive at once.
const MIB_PER_THREAD: f64 = 80.0;

const MESSAGE_TOO_LARGE: i16 = 10;
const CORRUPT_MESSAGE: i16 = 2;
const INVALID_RECORD: i16 = 87;

fn gzip(size: usize) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    write_record(&mut encoder, size)?;
    Ok(encoder.finish()?)
}

fn zstandard(size: usize) -> Result<Vec<u8>> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3)?;
    write_record(&mut encoder, size)?;
    Ok(encoder.finish()?)
}

fn lz4(size: usize) -> Result<Vec<u8>> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    write_record(&mut encoder, size)?;
    Ok(encoder.finish()?)
}

/// One valid record whose value is `size` zeros.
fn write_record(out: &mut impl Write, size: usize) -> Result<()> {
    let mut record = Vec::new();
    batch::record(&mut record, 0, &vec![0; size]);
    Ok(out.write_all(&record)?)
}

/// A xerial stream whose block claims to be 4 GiB, and a raw one that does.
fn lying_snappy() -> [Vec<u8>; 2] {
    let block = [255, 255, 255, 255, 15, 0];
    let framed = [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"[..], &[0, 0, 0, 6], &block].concat();
    [framed, block.to_vec()]
}

fn bombs() -> Result<Vec<(&'static str, Bytes)>> {
    let [framed, raw] = lying_snappy();
    let sections = [
        ("gzip", 1, gzip(INFLATED)?),
        ("zstd", 4, zstandard(INFLATED)?),
        ("lz4", 3, lz4(200 << 20)?),
        ("snappy that claims 4 GiB", 2, framed),
        ("raw snappy that claims 4 GiB", 2, raw),
    ];
    let batch = |(what, codec, section): (&'static str, i16, Vec<u8>)| {
        (what, batch::assemble(codec, 1, Source::NONE, &section))
    };
    Ok(sections.into_iter().map(batch).collect())
}

/// Several clients throw each of them at once; each must be refused. Returns how many there were.
fn throw(server: &Server, topic: &str, bombs: &[(&str, Bytes)], accepted: bool) -> Result<usize> {
    std::thread::scope(|scope| -> Result<usize> {
        let mut threads = Vec::new();
        for _ in 0..CLIENTS {
            let run = || -> Result<usize> {
                let mut client = Client::connect(server.kafka)?;
                for (what, bomb) in bombs {
                    let (code, _) = calls::produce(&mut client, topic, 0, bomb.clone()).context(what.to_string())?;
                    let expected = if accepted {
                        code == 0
                    } else {
                        [MESSAGE_TOO_LARGE, CORRUPT_MESSAGE, INVALID_RECORD].contains(&code)
                    };
                    ensure!(expected, "{what} ({} bytes) is answered with error {code}", bomb.len());
                }
                Ok(bombs.len())
            };
            threads.push(Builder::new().name("bomber".into()).spawn_scoped(scope, run)?);
        }
        let mut sum = 0;
        for thread in threads {
            sum += thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(sum)
    })
}

#[test]
fn decompression_bombs_are_refused() {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let bombs = bombs().expect("bombs");
    besides("bombs", 64.0 + threads as f64 * MIB_PER_THREAD, |server| {
        let mut client = Client::connect(server.kafka)?;
        for (topic, setting) in [("plain", "producer"), ("inflated", "uncompressed")] {
            let settings = [("compression.type", setting), ("max.message.bytes", "2000000")];
            let (code, _) = calls::create_topic(&mut client, topic, 1, &settings)?;
            ensure!(code == 0, "creating a topic is answered with error {code}");
        }
        let sum = throw(server, "plain", &bombs, false)? + throw(server, "inflated", &bombs, false)?;
        // Just below the limit it is no bomb, but it may not cost more either.
        let heavy = [("60 MiB", batch::assemble(4, 1, Source::NONE, &zstandard(60 << 20)?))];
        let heavies = throw(server, "plain", &heavy, true)?;
        Ok(format!("{sum} bombs refused, {heavies} heavy batches taken"))
    });
}
