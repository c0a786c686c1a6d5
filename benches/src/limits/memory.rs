//! Copies and checksums: what every byte costs that is touched at all.

use super::{Figure, Place, Probe, figure, pinned};
use crate::sys::{self, Aligned};
use std::hint::black_box;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

const RATE: &str = "MB/s";
const COST: &str = "CPU s/GB";
/// Bytes that stay in the cache of a core.
const CACHED: usize = 64 << 10;
/// Bytes of one checksum, as of one batch.
const BATCH: usize = 64 << 10;

/// The probes.
pub fn probes(place: &Place) -> Vec<Probe> {
    let bytes = place.bytes / 2;
    let mut source = Aligned::new(bytes);
    source.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 131 % 251) as u8);
    let memory = Arc::new(Mutex::new((source, Aligned::new(bytes))));
    let cpu = place.cpus.0;
    let probe = |what: &'static str, work: fn(&[u8], &mut Aligned)| -> Probe {
        let memory = memory.clone();
        Box::new(move || {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            let (from, to) = &mut *memory;
            let from: &[u8] = from;
            timed(what, cpu, from.len(), || work(from, to))
        })
    };
    vec![
        probe("memcpy, out of the cache", |from, to| to.copy_from_slice(from)),
        probe("copy with streaming stores, out of the cache", sys::copy_streaming),
        probe("memcpy of 64 KiB, in the cache", |from, to| {
            for _ in 0..from.len() / CACHED {
                black_box(&mut to[..CACHED]).copy_from_slice(black_box(&from[..CACHED]));
            }
        }),
        probe("CRC-32C of 64 KiB each, out of the cache", |from, _| {
            from.chunks(BATCH).for_each(|batch| {
                black_box(crc_fast::crc32_iscsi(batch));
            });
        }),
        probe("CRC-32C of 64 KiB, in the cache", |from, _| {
            for _ in 0..from.len() / CACHED {
                black_box(crc_fast::crc32_iscsi(black_box(&from[..CACHED])));
            }
        }),
    ]
}

fn timed(what: &str, cpu: usize, bytes: usize, work: impl FnOnce() + Send) -> io::Result<Vec<Figure>> {
    pinned::on(cpu, || {
        let (begun, cpu) = (Instant::now(), pinned::thread_cpu());
        work();
        let (elapsed, cpu) = (begun.elapsed(), pinned::thread_cpu() - cpu);
        Ok(rates(what, bytes, elapsed.as_secs_f64(), cpu.as_secs_f64()))
    })
}

/// Rate and cost of `bytes`.
pub(super) fn rates(what: &str, bytes: usize, seconds: f64, cpu_s: f64) -> Vec<Figure> {
    let bytes = bytes as f64;
    vec![figure(what, RATE, bytes / seconds.max(1e-9) / 1e6), figure(what, COST, cpu_s / bytes * 1e9)]
}
