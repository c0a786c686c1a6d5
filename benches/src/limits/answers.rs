//! Records from a file to a client: by `sendfile`, from the file's map, or read into memory first. Evidence of decision 0007.
//!
//! A client asks with a few bytes and reads the whole answer: a head, then for each of the partitions its fields and a range of
//! the file, as a Fetch answer is made. `sendfile` needs two calls for each range, the fields with `MSG_MORE` and the range
//! itself; from memory, all of it goes in one vectored call of up to 64 slices.

use super::network::{self, Options, connect};
use super::{Figure, Place, Probe, figure, pinned};
use crate::latency::Latencies;
use crate::sys;
use rustix::net::{SendAncillaryBuffer, SendFlags, sockopt};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

const REQUEST: usize = 60;
/// Bytes of an answer's head and of one partition's fields.
const FIELDS: usize = 60;
const SLICES_MAX: usize = 64;
/// Bytes that one case sends, at most, and answers.
const CASE_BYTES: usize = 64 << 20;
const ANSWERS: std::ops::RangeInclusive<usize> = 32..=3000;

/// Ranges in an answer, and bytes of each.
const CASES: [(usize, usize); 13] = [
    (1, 1 << 10),
    (1, 4 << 10),
    (1, 8 << 10),
    (1, 16 << 10),
    (1, 32 << 10),
    (1, 64 << 10),
    (1, 128 << 10),
    (1, 256 << 10),
    (1, 1 << 20),
    (16, 1 << 10),
    (16, 4 << 10),
    (16, 16 << 10),
    (16, 64 << 10),
];

/// How a range reaches the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    SendFile,
    /// The same, held back (`TCP_CORK`) until the answer is complete, so that no range is sent off on its own.
    Corked,
    /// From a map whose pages this process has seen before.
    Mapped,
    /// From a new map: each page is seen for the first time.
    MappedFirst,
    /// Read into memory, then sent.
    Read,
}

const WAYS: [(Way, &str); 5] = [
    (Way::SendFile, "sendfile"),
    (Way::Corked, "sendfile, corked"),
    (Way::Mapped, "mapped"),
    (Way::MappedFirst, "mapped, first touch"),
    (Way::Read, "read and sent"),
];

/// The probes: one for each case, which runs every way, so that ratios are of neighbours in time.
pub fn probes(place: &Place) -> io::Result<Vec<Probe>> {
    let size = (place.bytes / 2).max(1 << 20);
    let file = Arc::new(network::cached_file(place, "answers", size)?);
    let map = Arc::new(sys::map(&file)?);
    let mut probes: Vec<Probe> = Vec::new();
    for hot in [false, true] {
        for (ranges, bytes) in CASES {
            let (file, map, cpus) = (file.clone(), map.clone(), place.cpus);
            // A reader that follows a producer finds what it reads in the CPU's caches; one that catches up does not.
            let window = if hot { 1 << 20 } else { size };
            let count = (CASE_BYTES.min(size) / (ranges * bytes)).clamp(*ANSWERS.start(), *ANSWERS.end());
            let mut turn = 0;
            probes.push(Box::new(move || {
                turn += 1;
                let case = Case { file: &file, map: &map, ranges, bytes, window, count };
                let mut order = WAYS;
                if turn % 2 == 0 {
                    order.reverse();
                }
                let mut found = Vec::new();
                for (way, _) in order.into_iter().filter(|(way, _)| !hot || *way != Way::MappedFirst) {
                    found.push((way, case.run(way, cpus)?));
                }
                Ok(case.figures(hot, &found))
            }));
        }
    }
    Ok(probes)
}

struct Case<'a> {
    file: &'a File,
    map: &'a [u8],
    ranges: usize,
    bytes: usize,
    window: usize,
    count: usize,
}

struct Found {
    sender_us: f64,
    receiver_us: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Case<'_> {
    fn run(&self, way: Way, cpus: (usize, usize)) -> io::Result<Found> {
        let (server, client) = connect(Options::default())?;
        let answer = FIELDS + self.ranges * (FIELDS + self.bytes);
        let warm_up = self.count / 8;
        let serving = || self.serve(server, way, warm_up);
        let asking = || ask(client, answer, self.count, warm_up);
        let (sender, (receiver, latencies)) = pinned::both((cpus.0, serving), (cpus.1, asking))?;
        let each = self.count as f64 / 1e6;
        let percentiles = latencies.percentiles();
        Ok(Found {
            sender_us: sender / each,
            receiver_us: receiver / each,
            p50_us: percentiles.p50_us,
            p99_us: percentiles.p99_us,
        })
    }

    /// Answers, and says what it cost in CPU seconds.
    fn serve(&self, mut stream: TcpStream, way: Way, warm_up: usize) -> io::Result<f64> {
        let new_map = if way == Way::MappedFirst { Some(sys::map(self.file)?) } else { None };
        let map = new_map.as_deref().unwrap_or(self.map);
        let (mut memory, fields) = (vec![0u8; self.ranges * self.bytes], [1u8; FIELDS]);
        let (mut position, mut request) = (0, [0u8; REQUEST]);
        let mut cpu = pinned::thread_cpu();
        for at in 0..warm_up + self.count {
            stream.read_exact(&mut request)?;
            if at == warm_up {
                cpu = pinned::thread_cpu();
            }
            let places: Vec<usize> = (0..self.ranges)
                .map(|_| {
                    if position + self.bytes > self.window {
                        position = 0;
                    }
                    position += self.bytes;
                    position - self.bytes
                })
                .collect();
            if matches!(way, Way::SendFile | Way::Corked) {
                if way == Way::Corked {
                    sockopt::set_tcp_cork(&stream, true)?;
                }
                send_all(&stream, &mut [IoSlice::new(&fields)], SendFlags::MORE)?;
                for &place in &places {
                    send_all(&stream, &mut [IoSlice::new(&fields)], SendFlags::MORE)?;
                    self.send_file(&stream, place)?;
                }
                if way == Way::Corked {
                    sockopt::set_tcp_cork(&stream, false)?;
                }
                continue;
            }
            if way == Way::Read {
                for (&place, part) in places.iter().zip(memory.chunks_exact_mut(self.bytes)) {
                    self.file.read_exact_at(part, place as u64)?;
                }
            }
            let mut slices = vec![IoSlice::new(&fields)];
            for (range, &place) in places.iter().enumerate() {
                slices.push(IoSlice::new(&fields));
                slices.push(IoSlice::new(match way {
                    Way::Read => &memory[range * self.bytes..][..self.bytes],
                    _ => &map[place..][..self.bytes],
                }));
            }
            for part in slices.chunks_mut(SLICES_MAX) {
                send_all(&stream, part, SendFlags::empty())?;
            }
        }
        Ok((pinned::thread_cpu() - cpu).as_secs_f64())
    }

    fn send_file(&self, stream: &TcpStream, place: usize) -> io::Result<()> {
        let (mut position, end) = (place as u64, (place + self.bytes) as u64);
        while position < end {
            let left = usize::try_from(end - position).unwrap_or(0).min(network::PIECE);
            if rustix::fs::sendfile(stream, self.file, Some(&mut position), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    fn figures(&self, hot: bool, found: &[(Way, Found)]) -> Vec<Figure> {
        let base = found.iter().find(|(way, _)| *way == Way::SendFile).map(|(_, found)| found);
        let gb = (self.bytes * self.ranges) as f64 / 1e9;
        let set = if hot { "in the CPU's cache" } else { "in the page cache" };
        let mut figures = Vec::new();
        for (way, name) in WAYS {
            let Some((_, found)) = found.iter().find(|(found, _)| *found == way) else { continue };
            let what = format!("{} x {} KiB, {set}, {name}", self.ranges, self.bytes >> 10);
            figures.push(figure(&what, "sender CPU us/answer", found.sender_us));
            figures.push(figure(&what, "sender CPU s/GB", found.sender_us / 1e6 / gb));
            figures.push(figure(&what, "receiver CPU us/answer", found.receiver_us));
            figures.push(figure(&what, "p50 us", found.p50_us));
            figures.push(figure(&what, "p99 us", found.p99_us));
            if let Some(base) = base.filter(|_| way != Way::SendFile) {
                figures.push(figure(&what, "sender CPU / sendfile's", found.sender_us / base.sender_us));
                let both = (found.sender_us + found.receiver_us) / (base.sender_us + base.receiver_us);
                figures.push(figure(&what, "both CPU / sendfile's", both));
                figures.push(figure(&what, "p50 / sendfile's", found.p50_us / base.p50_us));
            }
        }
        figures
    }
}

/// Sends everything. Slices that are sent are forgotten.
fn send_all(stream: &TcpStream, mut slices: &mut [IoSlice<'_>], flags: SendFlags) -> io::Result<()> {
    while !slices.is_empty() {
        let sent =
            rustix::net::sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), flags | SendFlags::NOSIGNAL)?;
        IoSlice::advance_slices(&mut slices, sent);
    }
    Ok(())
}

fn ask(mut stream: TcpStream, answer: usize, count: usize, warm_up: usize) -> io::Result<(f64, Latencies)> {
    let (mut memory, mut latencies) = (vec![0u8; answer.min(network::PIECE)], Latencies::new());
    let mut cpu = pinned::thread_cpu();
    for at in 0..warm_up + count {
        if at == warm_up {
            cpu = pinned::thread_cpu();
        }
        let begun = Instant::now();
        stream.write_all(&[1; REQUEST])?;
        let mut left = answer;
        while left > 0 {
            let room = memory.len().min(left);
            match stream.read(&mut memory[..room])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => left -= got,
            }
        }
        if at >= warm_up {
            latencies.record(begun.elapsed());
        }
    }
    Ok(((pinned::thread_cpu() - cpu).as_secs_f64(), latencies))
}
