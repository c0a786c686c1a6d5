//! The same bytes through socket buffers of several sizes. Evidence of decision 0008.
//!
//! Sending, as the server answers: `sendfile` of at most 256 KiB on a socket that does not block, and a wait when it is full.
//! Receiving, as the server takes batches: a client writes 64 KiB at a time, and what is read at once varies too.

use super::network::{self, Carried, Options, carry};
use super::{Figure, Place, Probe, figure};
use std::io::{self, Write};
use std::sync::Arc;

/// What is asked of the system; none leaves it to the system.
const SIZES: [Option<usize>; 8] = [
    Some(64 << 10),
    Some(128 << 10),
    Some(256 << 10),
    Some(512 << 10),
    Some(1 << 20),
    Some(2 << 20),
    Some(4 << 20),
    None,
];
/// What the server asks for sending, and the system's choice for receiving: the others are compared with these.
const SEND_BASE: Option<usize> = Some(256 << 10);
const RECEIVE_BASE: Option<usize> = None;
const READS: [usize; 3] = [16 << 10, 64 << 10, 256 << 10];
const CLIENT_WRITE: usize = 64 << 10;

/// The probes: one for each direction, which runs every size, so that ratios are of neighbours in time.
pub fn probes(place: &Place) -> io::Result<Vec<Probe>> {
    let file = Arc::new(network::cached_file(place, "buffers", place.bytes / 2)?);
    let (cpus, bytes) = (place.cpus, place.bytes);
    let mut probes: Vec<Probe> = Vec::new();
    let mut turn = 0;
    probes.push(Box::new(move || {
        turn += 1;
        let found = every_size(turn, |send_buffer| {
            let options = Options { send_buffer, nonblocking: true, ..Options::default() };
            carry(cpus, bytes, options, |stream| network::send_file(stream, &file, bytes))
        })?;
        Ok(figures("send buffer", &found, SEND_BASE))
    }));
    for read_bytes in READS {
        let mut turn = 0;
        probes.push(Box::new(move || {
            turn += 1;
            let found = every_size(turn, |receive_buffer| {
                let options = Options { receive_buffer, read_bytes, ..Options::default() };
                carry(cpus, bytes, options, |stream| {
                    let piece = vec![7u8; CLIENT_WRITE];
                    (0..bytes / CLIENT_WRITE).try_for_each(|_| stream.write_all(&piece))
                })
            })?;
            Ok(figures(&format!("{} KiB read at once, receive buffer", read_bytes >> 10), &found, RECEIVE_BASE))
        }));
    }
    Ok(probes)
}

type Found = Vec<(Option<usize>, Carried)>;

fn every_size(turn: usize, mut run: impl FnMut(Option<usize>) -> io::Result<Carried>) -> io::Result<Found> {
    let mut order = SIZES;
    if turn.is_multiple_of(2) {
        order.reverse();
    }
    let mut found = Vec::new();
    for size in order {
        found.push((size, run(size)?));
    }
    found.sort_by_key(|(size, _)| size.unwrap_or(usize::MAX));
    Ok(found)
}

fn figures(what: &str, found: &Found, base: Option<usize>) -> Vec<Figure> {
    let cpu = |carried: &Carried| (carried.sender_cpu + carried.receiver_cpu).as_secs_f64();
    let mut figures = Vec::new();
    for (size, carried) in found {
        let name = size.map_or_else(|| "the system's".into(), |size| format!("{} KiB", size >> 10));
        let what = format!("{what} {name}");
        figures.extend(carried.figures(&what));
        if let Some((_, base)) = found.iter().find(|(size, _)| *size == base) {
            figures.push(figure(&what, "both CPU / the base's", cpu(carried) / cpu(base).max(1e-9)));
            let rate = base.elapsed.as_secs_f64() / carried.elapsed.as_secs_f64().max(1e-9);
            figures.push(figure(&what, "MB/s / the base's", rate));
        }
    }
    figures
}
