//! The writers: slots with one record outstanding each, all driven by one thread.

use crate::latency::Latencies;
use crossbeam::channel::{Receiver, Sender};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One record that a writer wants durable.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Who waits for it.
    pub writer: u32,
    /// Where it goes.
    pub partition: u32,
}

/// Wakes a committer that waits inside its device.
#[derive(Default)]
pub struct Doorbell {
    /// The device's counter, when it has one.
    pub counter: Option<File>,
    /// Whether the committer sleeps, so that a ring costs a system call only then.
    pub sleeping: AtomicBool,
}

impl Doorbell {
    fn ring(&self) {
        if let Some(mut counter) = self.counter.as_ref()
            && self.sleeping.load(Ordering::SeqCst)
            && self.sleeping.swap(false, Ordering::SeqCst)
        {
            counter.write_all(&1u64.to_ne_bytes()).expect("an eventfd takes eight bytes");
        }
    }
}

/// What the writers saw.
pub struct Load {
    /// From sending a record to learning that it is durable, after the warm-up.
    pub latencies: Latencies,
    /// Records acknowledged after the warm-up.
    pub acks: u64,
    /// How long was measured.
    pub elapsed: Duration,
}

/// How the writers behave.
#[derive(Clone, Copy)]
pub struct Plan {
    /// How many of them.
    pub writers: usize,
    /// Records go round-robin from a random start over this many partitions.
    pub partitions: usize,
    /// Ignored at the start.
    pub warm_up: Duration,
    /// Measured after it.
    pub measured: Duration,
}

/// Runs the writers until the time is over, everything sent is acknowledged, or the committer ended. `at_start` and
/// `at_end` are called where the measured time begins and ends.
pub fn run(
    plan: Plan,
    records: &Sender<Record>,
    acks: &Receiver<Vec<Record>>,
    doorbell: &Doorbell,
    mut at_start: impl FnMut(),
    mut at_end: impl FnMut(),
) -> Load {
    let begun = Instant::now();
    let mut sent_at = vec![begun; plan.writers];
    // A fixed odd stride visits every partition once before any again, in an order that is not the order of creation.
    let mut next_partition = 0usize;
    let mut pick = || {
        next_partition = (next_partition + 7919) % plan.partitions;
        u32::try_from(next_partition).expect("few partitions")
    };
    for writer in 0..plan.writers {
        let writer = u32::try_from(writer).expect("few writers");
        if records.send(Record { writer, partition: pick() }).is_err() {
            break;
        }
    }
    doorbell.ring();
    let (mut latencies, mut counted) = (Latencies::new(), 0u64);
    let (mut start, mut end): (Option<Instant>, Option<Instant>) = (None, None);
    let mut outstanding = plan.writers;
    while outstanding > 0 {
        let Ok(done) = acks.recv() else { break };
        let now = Instant::now();
        if start.is_none() && now - begun >= plan.warm_up {
            at_start();
            start = Some(Instant::now());
        }
        if let Some(start) = start
            && end.is_none()
            && now - start >= plan.measured
        {
            at_end();
            end = Some(now);
        }
        for record in done {
            let slot = record.writer as usize;
            if start.is_some_and(|start| sent_at[slot] >= start) && end.is_none() {
                latencies.record(now - sent_at[slot]);
            }
            counted += u64::from(start.is_some_and(|start| now > start) && end.is_none());
            outstanding -= 1;
            if end.is_none() {
                sent_at[slot] = now;
                outstanding += usize::from(records.send(Record { partition: pick(), ..record }).is_ok());
            }
        }
        doorbell.ring();
    }
    let now = Instant::now();
    if start.is_some() && end.is_none() {
        // The committer ended first (its file is full): what was measured until now counts.
        at_end();
    }
    let elapsed = start.map_or(Duration::ZERO, |start| end.unwrap_or(now) - start);
    Load { latencies, acks: counted, elapsed }
}
