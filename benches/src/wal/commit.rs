//! The committer: everything queued becomes one round, one block, one durable write; answers go out in order.

use super::device::Method;
use super::load::{self, Doorbell, Load, Plan, Record};
use super::segments::Segments;
use crate::sys::{self, BLOCK};
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;

/// Bytes before the records of a block, for its header.
const HEADER: usize = 64;

/// What a run writes and how.
pub struct Setup<'a> {
    /// The WAL file, existing.
    pub wal: &'a Path,
    /// Its size; writing starts over when it is full.
    pub wal_bytes: u64,
    /// Whether writing may start over; otherwise the run ends there.
    pub recycle: bool,
    /// How blocks are written.
    pub method: Method,
    /// Bytes of one record.
    pub record_bytes: usize,
    /// A round takes no more than this.
    pub round_bytes_max: usize,
    /// Writes rounds to segments too.
    pub segments: Option<Segments>,
}

/// What a run measured.
pub struct Measured {
    /// What the writers saw.
    pub load: Load,
    /// CPU seconds of the process during the measured time.
    pub cpu_s: f64,
    /// Rounds in the whole run, and bytes that they carried to the WAL.
    pub rounds: u64,
    /// Mean records in a round.
    pub records_per_round: f64,
}

struct Totals {
    rounds: u64,
    records: u64,
}

/// Runs writers against a committer.
pub fn run(setup: Setup<'_>, plan: Plan) -> io::Result<Measured> {
    let (record_sender, records) = bounded::<Record>(plan.writers.max(1));
    let (ack_sender, acks) = unbounded();
    let (bell_sender, bell) = bounded(1);
    thread::scope(|scope| {
        // The ring belongs to the thread that makes it (single issuer), so the committer opens its device itself.
        let committer = thread::Builder::new()
            .name("committer".into())
            .spawn_scoped(scope, move || committer(setup, &records, &ack_sender, &bell_sender))?;
        let Ok(bell) = bell.recv() else {
            return Err(committer.join().map_or_else(
                |_| io::Error::other("committer panicked"),
                |end| end.err().unwrap_or_else(|| io::Error::other("committer ended early")),
            ));
        };
        let bell: std::sync::Arc<Doorbell> = bell;
        let (mut cpu_from, mut cpu_to) = (0.0, 0.0);
        let load = load::run(
            plan,
            &record_sender,
            &acks,
            &bell,
            || cpu_from = sys::cpu_seconds(),
            || cpu_to = sys::cpu_seconds(),
        );
        drop(record_sender);
        bell.sleeping.store(false, Ordering::SeqCst);
        let totals = committer.join().map_err(|_| io::Error::other("committer panicked"))??;
        Ok(Measured {
            load,
            cpu_s: cpu_to - cpu_from,
            rounds: totals.rounds,
            records_per_round: totals.records as f64 / totals.rounds.max(1) as f64,
        })
    })
}

struct Round {
    slot: usize,
    records: Vec<Record>,
    durable: bool,
}

fn committer(
    mut setup: Setup<'_>,
    records: &Receiver<Record>,
    acks: &Sender<Vec<Record>>,
    ready: &Sender<std::sync::Arc<Doorbell>>,
) -> io::Result<Totals> {
    let block_bytes = |count: usize| (HEADER + count * setup.record_bytes).next_multiple_of(BLOCK);
    let records_max = ((setup.round_bytes_max - HEADER) / setup.record_bytes).max(1);
    let mut device = setup.method.open(setup.wal, block_bytes(records_max))?;
    let bell = std::sync::Arc::new(Doorbell { counter: device.wake(), ..Doorbell::default() });
    let eager = bell.counter.is_some();
    ready.send(bell.clone()).map_err(io::Error::other)?;

    let payload: Vec<u8> = (0..setup.record_bytes).map(|at| (at * 131 % 251) as u8).collect();
    let mut free: Vec<usize> = (0..device.depth()).collect();
    let mut in_flight: VecDeque<Round> = VecDeque::new();
    let (mut position, mut done) = (0u64, Vec::new());
    let mut totals = Totals { rounds: 0, records: 0 };
    let mut ended = false;
    loop {
        // Take everything queued, as long as a slot is free.
        while !free.is_empty() && !ended {
            let mut round = Vec::new();
            if in_flight.is_empty() {
                match records.recv() {
                    Ok(first) => round.push(first),
                    Err(_) => ended = true,
                }
            }
            round.extend(records.try_iter().take(records_max - round.len()));
            let Some(slot) = (if round.is_empty() { None } else { free.pop() }) else { break };
            let len = block_bytes(round.len());
            if position + len as u64 > setup.wal_bytes {
                if !setup.recycle {
                    ended = true;
                    break;
                }
                position = 0;
            }
            let block = device.buffer(slot);
            block[..HEADER].fill(0);
            block[..8].copy_from_slice(&totals.rounds.to_le_bytes());
            for (_, part) in round.iter().zip(block[HEADER..].chunks_exact_mut(setup.record_bytes)) {
                part.copy_from_slice(&payload);
            }
            let used = HEADER + round.len() * setup.record_bytes;
            block[used..len].fill(0);
            device.submit(slot, position, len)?;
            position += len as u64;
            totals.rounds += 1;
            totals.records += round.len() as u64;
            if let Some(segments) = &mut setup.segments {
                segments.write(&mut round, &payload)?;
            }
            in_flight.push_back(Round { slot, records: round, durable: false });
        }
        if in_flight.is_empty() {
            if ended {
                break;
            }
            continue;
        }
        // Wait for the medium; an eager device also returns when the doorbell rings.
        if eager && !free.is_empty() {
            bell.sleeping.store(true, Ordering::SeqCst);
            let wait = ended || records.is_empty();
            device.reap(wait, &mut done)?;
            bell.sleeping.store(false, Ordering::SeqCst);
        } else {
            device.reap(true, &mut done)?;
        }
        for slot in done.drain(..) {
            free.push(slot);
            if let Some(round) = in_flight.iter_mut().find(|round| round.slot == slot && !round.durable) {
                round.durable = true;
            }
        }
        while in_flight.front().is_some_and(|round| round.durable) {
            if let Some(round) = in_flight.pop_front() {
                // Nobody listens any more once the writers have ended.
                let _ = acks.send(round.records);
            }
        }
    }
    if let Some(segments) = setup.segments {
        segments.finish()?;
    }
    Ok(totals)
}
