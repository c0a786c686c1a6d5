//! The committer: everything queued becomes one round, one block, one durable write; answers go out in order.

use super::device::Method;
use super::load::{self, Doorbell, Load, Plan, Record};
use super::segments::Segments;
use crate::machine;
use crate::sys::{self, BLOCK};
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

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
    /// CPUs that other processes kept busy in user space meanwhile.
    pub others_cpus: f64,
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
        let (mut from, mut to) = (Counters::default(), Counters::default());
        let load = load::run(plan, &record_sender, &acks, &bell, || from = Counters::now(), || to = Counters::now());
        drop(record_sender);
        bell.sleeping.store(false, Ordering::SeqCst);
        let totals = committer.join().map_err(|_| io::Error::other("committer panicked"))??;
        Ok(Measured {
            cpu_s: to.own.user_s + to.own.system_s - from.own.user_s - from.own.system_s,
            others_cpus: to.others_since(&from, load.elapsed),
            rounds: totals.rounds,
            load,
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

/// CPU time of this process and of everybody.
#[derive(Clone, Copy, Default)]
struct Counters {
    own: sys::CpuTime,
    all_user_s: f64,
}

impl Counters {
    fn now() -> Self {
        Self { own: sys::cpu_time(), all_user_s: machine::user_cpu_s() }
    }

    /// CPUs that others kept busy since `from`. Only user space counts: the kernel's writeback on our behalf runs in threads
    /// of its own and must not look like a disturbance.
    fn others_since(&self, from: &Self, elapsed: Duration) -> f64 {
        let others_s = self.all_user_s - from.all_user_s - (self.own.user_s - from.own.user_s);
        (others_s / elapsed.as_secs_f64().max(1e-3)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::device::create_file;

    const PLAN: Plan =
        Plan { writers: 64, partitions: 1, warm_up: Duration::from_millis(1), measured: Duration::from_millis(30) };
    const METHODS: [Method; 6] =
        [Method::Null, Method::Fdatasync, Method::Dsync, Method::Direct, Method::Uring(4), Method::UringEager(4)];

    /// Runs one method in a folder of its own; `None` where the machine refuses it (io_uring in containers, direct I/O on
    /// some file systems).
    fn run_in_folder(method: Method, wal_bytes: u64, recycle: bool) -> Option<Measured> {
        let dir =
            std::env::temp_dir().join(format!("wal-bench-test-{}-{}-{recycle}", std::process::id(), method.name()));
        std::fs::create_dir(&dir).unwrap();
        let wal = dir.join("wal");
        create_file(&wal, wal_bytes, true, method.is_direct()).unwrap();
        let (record_bytes, round_bytes_max) = (1024, 64 << 10);
        let setup = Setup { wal: &wal, wal_bytes, recycle, method, record_bytes, round_bytes_max, segments: None };
        let result = run(setup, PLAN);
        std::fs::remove_dir_all(&dir).unwrap();
        match result {
            Ok(measured) => Some(measured),
            Err(error) => {
                let refused =
                    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM | libc::ENOSYS | libc::ENOMEM));
                assert!(refused, "{method:?}: {error}");
                None
            }
        }
    }

    #[test]
    fn every_method_acknowledges_records() {
        for method in METHODS {
            if let Some(measured) = run_in_folder(method, 8 << 20, true) {
                assert!(measured.load.acks > 0 && measured.rounds > 0, "{method:?}");
                // Latency is not taken of records that were sent before the measured time began.
                let untimed = measured.load.acks - measured.load.latencies.count();
                assert!(untimed <= 64, "{method:?}: {untimed}");
            }
        }
    }

    /// A committer that polled its ring without asking for events never saw its last writes complete once the file was full
    /// and records were still queued: it spun for ever.
    #[test]
    fn full_file_ends_the_run() {
        for method in METHODS.into_iter().filter(|&method| method != Method::Null) {
            run_in_folder(method, 1 << 20, false);
        }
    }
}
