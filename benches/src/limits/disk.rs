//! Writes into the page cache and to the medium, and reads from the medium.
//!
//! A file that is written to for the first time needs pages; one that is written over has them. Synced writes go to a file that
//! holds zeros already, as a write-ahead log does: nothing but its bytes has to reach the medium.

use super::memory::rates;
use super::{Figure, Place, Probe, figure, pinned};
use crate::latency::Latencies;
use crate::sys::{self, Aligned};
use crate::wal::device::{Method, create_file};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const SYNCED_PIECE: usize = 1 << 20;
const READ_PIECE: usize = 1 << 20;
/// 256 KiB, where pages begin and end; and 134 kB, where they do not: a batch of 64 KiB and its neighbours.
const CACHED: [(usize, &str); 2] = [(256 << 10, "256 KiB, aligned"), (134_000, "134 kB, unaligned")];

/// As far apart are two of 500 a second.
const PACE: Duration = Duration::from_millis(2);

/// The probes.
pub fn probes(place: &Place) -> io::Result<Vec<Probe>> {
    let mut probes: Vec<Probe> = Vec::new();
    for (piece, name) in CACHED {
        let place = place.clone();
        probes.push(Box::new(move || into_page_cache(&place, piece, name)));
    }
    let synced_bytes = place.bytes / 2;
    let methods = [
        (Method::Fdatasync, "synced write, 1 MiB each: pwrite and fdatasync"),
        (Method::Direct, "synced write, 1 MiB each: O_DIRECT and O_DSYNC"),
        (Method::Uring(4), "synced write, 1 MiB each: io_uring, four under way, as the engine writes"),
    ];
    for (method, what) in methods {
        let path = place.dir.join(if method.is_direct() { "synced-direct" } else { "synced-cached" });
        if !path.exists() {
            create_file(&path, synced_bytes as u64, true, method.is_direct())?;
        }
        // Not every machine lets a process have io_uring, nor every file system direct writes.
        if !method.is_direct() || works(method, &path)? {
            let cpu = place.cpus.0;
            probes.push(Box::new(move || synced(cpu, method, &path, synced_bytes, what)));
        }
    }
    let (cpu, path, syncs) = (place.cpus.0, place.dir.join("synced-cached"), (place.bytes >> 18).clamp(16, 2000));
    let paced = path.clone();
    probes.push(Box::new(move || sync_latency(cpu, &path, syncs, None)));
    probes.push(Box::new(move || sync_latency(cpu, &paced, syncs.min(500), Some(PACE))));
    let cold = place.dir.join("cold");
    create_file(&cold, synced_bytes as u64, true, true)?;
    let cpu = place.cpus.0;
    probes.push(Box::new(move || cold_read(cpu, &cold, synced_bytes)));
    Ok(probes)
}

fn works(method: Method, path: &Path) -> io::Result<bool> {
    let tried = method.open(path, SYNCED_PIECE).and_then(|mut device| {
        device.submit(0, 0, SYNCED_PIECE)?;
        device.reap(true, &mut Vec::new())
    });
    match tried {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM | libc::ENOSYS | libc::ENOMEM)) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The same bytes into a new file, and over it again. Its pages are dropped before they reach the medium.
fn into_page_cache(place: &Place, piece: usize, name: &str) -> io::Result<Vec<Figure>> {
    let path = place.dir.join("cached");
    let found = pinned::on(place.cpus.0, || {
        let file = File::options().write(true).create(true).truncate(true).open(&path)?;
        let memory = vec![7u8; piece];
        let mut figures = Vec::new();
        for pass in ["fresh pages", "overwritten"] {
            let (begun, cpu) = (Instant::now(), pinned::thread_cpu());
            let count = place.bytes.div_ceil(piece);
            for at in 0..count {
                file.write_all_at(&memory, (at * piece) as u64)?;
            }
            let (elapsed, cpu) = (begun.elapsed(), pinned::thread_cpu() - cpu);
            let what = format!("page-cache write, {name}, {pass}");
            figures.extend(rates(&what, count * piece, elapsed.as_secs_f64(), cpu.as_secs_f64()));
        }
        Ok(figures)
    });
    std::fs::remove_file(&path)?;
    found
}

fn synced(cpu: usize, method: Method, path: &Path, bytes: usize, what: &str) -> io::Result<Vec<Figure>> {
    pinned::on(cpu, || {
        let mut device = method.open(path, SYNCED_PIECE)?;
        let mut free: Vec<usize> = (0..device.depth()).collect();
        free.iter().for_each(|&slot| device.buffer(slot).fill(7));
        let (begun, cpu) = (Instant::now(), sys::cpu_seconds());
        for at in 0..bytes / SYNCED_PIECE {
            while free.is_empty() {
                device.reap(true, &mut free)?;
            }
            let Some(slot) = free.pop() else { continue };
            device.submit(slot, (at * SYNCED_PIECE) as u64, SYNCED_PIECE)?;
        }
        while free.len() < device.depth() {
            device.reap(true, &mut free)?;
        }
        // The process's own time: kernel workers of io_uring are threads of it.
        Ok(rates(what, bytes, begun.elapsed().as_secs_f64(), sys::cpu_seconds() - cpu))
    })
}

/// Times `fdatasync`, one after the other or, with a pace, so that the CPU rests between two of them.
fn sync_latency(cpu: usize, path: &Path, count: usize, pace: Option<Duration>) -> io::Result<Vec<Figure>> {
    pinned::on(cpu, || {
        let file = File::options().write(true).open(path)?;
        let (memory, mut latencies) = (vec![7u8; 4096], Latencies::new());
        for at in 0..count {
            file.write_all_at(&memory, (at * 4096) as u64)?;
            let begun = Instant::now();
            file.sync_data()?;
            latencies.record(begun.elapsed());
            if let Some(pace) = pace {
                thread::sleep(pace.saturating_sub(begun.elapsed()));
            }
        }
        let what = match pace {
            None => "fdatasync of 4 KiB",
            Some(_) => "fdatasync of 4 KiB, 500 a second",
        };
        let found = latencies.percentiles();
        Ok(vec![
            figure(what, "p50 us", found.p50_us),
            figure(what, "p99 us", found.p99_us),
            figure(what, "p99.9 us", found.p999_us),
        ])
    })
}

/// Reads a file whose pages were thrown out. Only the system knows whether they are gone: what it did not fetch from the medium
/// is no cold read, and not reported. A disk of a virtual machine may still have them in its host's memory.
fn cold_read(cpu: usize, path: &Path, bytes: usize) -> io::Result<Vec<Figure>> {
    pinned::on(cpu, || {
        let file = File::open(path)?;
        sys::drop_cached(&file)?;
        let mut memory = Aligned::new(READ_PIECE);
        let (begun, cpu, fetched) = (Instant::now(), pinned::thread_cpu(), fetched_bytes());
        for at in (0..bytes).step_by(READ_PIECE) {
            let piece = READ_PIECE.min(bytes - at);
            file.read_exact_at(&mut memory[..piece], at as u64)?;
        }
        let (elapsed, cpu) = (begun.elapsed(), pinned::thread_cpu() - cpu);
        if fetched_bytes() - fetched < bytes as u64 * 9 / 10 {
            return Ok(Vec::new());
        }
        Ok(rates("cold read, 1 MiB each, in order", bytes, elapsed.as_secs_f64(), cpu.as_secs_f64()))
    })
}

/// Bytes that the medium gave this process so far.
fn fetched_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok()).unwrap_or(0)
}
