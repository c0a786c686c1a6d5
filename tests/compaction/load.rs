//! The writers, one for each partition, and what all know of each other.

use crate::plan::{PARTITIONS, Plan, TOPIC};
use anyhow::{Result, ensure};
use headwater_tests::calls::{self, produce_request};
use headwater_tests::client::{Client, Failure};
use headwater_tests::server::Server;
use kafka_protocol::messages::ProduceRequest;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use uuid::Uuid;

const VERSION: i16 = 9;
/// Requests in flight.
const DEPTH: u64 = 4;

/// Where the server is; it moves when it is started again.
#[derive(Clone, Copy)]
pub struct Place {
    pub kafka: SocketAddr,
    pub admin: SocketAddr,
    pub pid: u32,
}

impl Place {
    fn of(server: &Server) -> Place {
        Place { kafka: server.kafka, admin: server.admin, pid: server.pid() }
    }
}

/// See the module.
pub struct Shared {
    pub place: Mutex<Place>,
    /// The offset before which everything is acknowledged.
    acknowledged: [AtomicU64; PARTITIONS],
    pub is_written: AtomicBool,
    pub is_done: AtomicBool,
}

impl Shared {
    pub fn new(server: &Server) -> Shared {
        Shared {
            place: Mutex::new(Place::of(server)),
            acknowledged: Default::default(),
            is_written: AtomicBool::new(false),
            is_done: AtomicBool::new(false),
        }
    }

    pub fn moved(&self, server: &Server) {
        *self.place.lock() = Place::of(server);
    }

    pub fn connect(&self) -> Result<Client, Failure> {
        let address = self.place.lock().kafka;
        Client::connect(address)
    }

    pub fn ends(&self) -> [u64; PARTITIONS] {
        std::array::from_fn(|partition| self.end(partition))
    }

    pub fn end(&self, partition: usize) -> u64 {
        self.acknowledged[partition].load(Ordering::Acquire)
    }

    pub fn acknowledged(&self) -> u64 {
        self.ends().into_iter().sum()
    }
}

/// Writes this partition's share of the updates, over a restart of the server.
pub fn write_all(plan: &Plan, shared: &Shared, partition: usize) -> Result<()> {
    let target = plan.updates / PARTITIONS as u64;
    loop {
        let left = target - shared.end(partition).min(target);
        if left == 0 {
            return Ok(());
        }
        ensure!(!shared.is_done.load(Ordering::Relaxed), "the test has failed elsewhere");
        match write(plan, shared, partition, left) {
            Ok(()) => {}
            Err(error) if error.downcast_ref::<Failure>().is_some_and(Failure::is_lost) => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Writes a few records more.
pub fn write_some(plan: &Plan, shared: &Shared, partition: usize, count: u64) -> Result<()> {
    write(plan, shared, partition, count)
}

fn write(plan: &Plan, shared: &Shared, partition: usize, count: u64) -> Result<()> {
    let mut client = shared.connect()?;
    // What was in flight when the server was killed may be there, or not.
    let (code, end) = calls::offset(&mut client, TOPIC, partition as i32, -1)?;
    ensure!(code == 0, "ListOffsets answers {code}");
    let end = u64::try_from(end)?;
    let known = shared.end(partition);
    ensure!(end >= known, "the log ends at {end}, and {known} was acknowledged");
    shared.acknowledged[partition].store(end, Ordering::Release);
    let target = known + count;
    let (mut sent, mut received) = (end, end);
    let size = |from: u64| plan.records_per_batch.min(target - from);
    while received < target {
        while sent < target && sent - received < DEPTH * plan.records_per_batch {
            let batch = plan.batch(partition, sent, size(sent));
            client.send(VERSION, &produce_request(TOPIC, Uuid::nil(), partition as i32, batch))?;
            sent += size(sent);
        }
        let answer = client.receive::<ProduceRequest>(VERSION)?;
        let row = answer.responses.into_iter().next().and_then(|topic| topic.partition_responses.into_iter().next());
        let (code, base) = row.map_or((-1, -1), |row| (row.error_code, row.base_offset));
        ensure!(code == 0, "Produce answers {code}");
        ensure!(base == received as i64, "a batch got offset {base} instead of {received}");
        received += size(received);
        shared.acknowledged[partition].store(received, Ordering::Release);
    }
    Ok(())
}
