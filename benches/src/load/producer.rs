//! Producers: each thread drives any number of connections, without blocking on one of them.
//!
//! ```text
//! schedule or a free slot -> request (encoded once, aimed) -> socket ... socket -> answer checked -> latency from when it was due
//! ```
//! A connection sends one request at a time and has up to `in_flight` unanswered. In an open loop a request that is due while no slot is free
//! waits, and its latency counts from when it was due. Several that wait go out as one ([`batches`]), as a client would send them.

mod batches;
mod channel;

use super::end_to_end::Ledger;
use super::keys::{Distribution, Keys};
use super::meter::Meter;
use super::phase::{Job, Run};
use super::schedule::{Rate, Schedule};
use crate::kafka::batch::Shape;
use crate::kafka::connection::Connection;
use crate::kafka::{Error, admin};
use crate::sys;
use batches::Batches;
use channel::{Channel, Terms};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is produced, and how.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The broker.
    #[serde(skip)]
    pub address: SocketAddr,
    /// The topic; made when missing.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// Settings that it is made with.
    pub topic_settings: Vec<(String, String)>,
    /// -1 (all), 1 or 0.
    pub acks: i16,
    /// Connections.
    pub connections: usize,
    /// Threads that drive them.
    pub threads: usize,
    /// Requests in flight on each connection.
    pub in_flight: usize,
    /// Partitions that a request goes to, each with a batch.
    pub partitions_a_request: usize,
    /// Whether each partition is written to by one connection only.
    pub owned: bool,
    /// What a batch is made of.
    pub shape: Shape,
    /// How fast.
    pub rate: Rate,
    /// Time that a client would gather a batch for. Latency then counts for each record, from its arrival, and arrivals lie evenly in the
    /// time before the batch is due.
    pub linger: Duration,
    /// How partitions are chosen.
    pub keys: Distribution,
    /// How many keys there are.
    pub key_count: u32,
    /// Gives every batch the time at which it is sent; otherwise all have that of the start.
    pub stamp: bool,
    /// Stop after so many value bytes; 0: do not.
    pub total_bytes: u64,
    /// Stop after so long; zero: do not.
    pub duration: Duration,
}

impl Plan {
    /// Batches of 64 KiB with records of 1 KiB to four partitions, acks=all, over four connections with four requests in flight,
    /// as fast as they are answered.
    #[must_use]
    pub fn new(address: SocketAddr, topic: &str) -> Self {
        Self {
            address,
            topic: topic.into(),
            partitions: 4,
            topic_settings: Vec::new(),
            acks: -1,
            connections: 4,
            threads: 1,
            in_flight: 4,
            partitions_a_request: 1,
            owned: false,
            shape: Shape::plain(1024, 65536),
            rate: Rate::Closed,
            linger: Duration::ZERO,
            keys: Distribution::None,
            key_count: 10_000,
            stamp: false,
            total_bytes: 0,
            duration: Duration::ZERO,
        }
    }

    /// What cannot be.
    fn check(&self) -> Result<(), Error> {
        let wrong = |what: &str| Err(Error::Answer(what.into()));
        match () {
            () if self.partitions < 1 || self.connections == 0 || self.threads == 0 || self.in_flight == 0 => {
                wrong("partitions, connections, threads and requests in flight must be at least one")
            }
            () if self.total_bytes == 0 && self.duration.is_zero() => wrong("say for how long, or how many bytes"),
            () if self.keys != Distribution::None && self.partitions_a_request > 1 => {
                wrong("with keys, a request goes to one partition")
            }
            () => Ok(()),
        }
    }

    /// Makes the topic when it is missing, connects and returns the jobs of a phase; `ledger` is told of every batch.
    pub fn jobs<'a>(&self, ledger: Option<&'a Ledger>) -> Result<Vec<Job<'a>>, Error> {
        self.check()?;
        let mut first = Connection::open(self.address)?;
        admin::ensure_topic_with(&mut first, &self.topic, self.partitions, &self.topic_settings)?;
        sys::raise_open_files()?;
        let batches = Arc::new(Batches::new(&self.shape)?);
        let keys = Keys::new(self.keys, self.key_count, self.partitions).map(Arc::new);
        let left = Arc::new(AtomicU64::new(match self.total_bytes {
            0 => u64::MAX,
            bytes => bytes.div_ceil(batches.one().value_bytes),
        }));
        let threads = self.threads.min(self.connections);
        let mut of_threads: Vec<Vec<Channel>> = (0..threads).map(|_| Vec::new()).collect();
        for connection in 0..self.connections {
            of_threads[connection % threads].push(self.channel(connection, &batches, keys.clone())?);
        }
        let jobs = of_threads.into_iter().map(|channels| {
            let (plan, batches, left) = (self.clone(), batches.clone(), left.clone());
            Job {
                flow: "produce",
                leads: true,
                work: Box::new(move |run, meter| drive(&plan, channels, &batches, &left, ledger, run, meter)),
            }
        });
        Ok(jobs.collect())
    }

    /// A connection with its share of the partitions and of the schedule.
    fn channel(&self, connection: usize, batches: &Batches, keys: Option<Arc<Keys>>) -> Result<Channel, Error> {
        let nth = i32::try_from(connection).unwrap_or(i32::MAX);
        let mut partitions: Vec<i32> = (0..self.partitions).collect();
        if self.owned && self.connections <= partitions.len() {
            // Neighbours stay together, so that ten shards of a connection are its first ten, and so on.
            let (count, all) = (self.connections, partitions.len());
            partitions = partitions[connection * all / count..(connection + 1) * all / count].to_vec();
        } else if self.owned {
            return Err(Error::Answer(format!(
                "{} connections cannot own {} partitions: use fewer",
                self.connections, self.partitions
            )));
        } else {
            partitions.rotate_left((nth % self.partitions) as usize);
        }
        let places = self.partitions_a_request.clamp(1, partitions.len());
        let batch = batches.one();
        let records = batch.records * places as u64;
        let requests_per_s = self.rate.requests_per_s(records, batch.value_bytes * places as u64);
        let schedule = requests_per_s.map(|rate| Schedule::new(rate, self.connections as u64, connection as u64));
        let request = crate::kafka::produce::Request::new(&self.topic, self.acks, batch, places);
        Channel::open(self.address, request, schedule, partitions, keys, connection as u64 + 1)
    }
}

/// Drives some connections until the load is sent and answered.
fn drive(
    plan: &Plan,
    mut channels: Vec<Channel>,
    batches: &Batches,
    left: &AtomicU64,
    ledger: Option<&Ledger>,
    run: &Run,
    meter: &Meter,
) -> Result<(), Error> {
    sys::wake_on_time()?;
    let end_ns =
        if plan.duration.is_zero() { u64::MAX } else { u64::try_from(plan.duration.as_nanos()).unwrap_or(u64::MAX) };
    let take = |batches: u64| {
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            (left > 0).then(|| left.saturating_sub(batches))
        });
        taken.is_ok()
    };
    let terms = Terms {
        acks: plan.acks,
        in_flight: plan.in_flight,
        stamp: plan.stamp,
        linger: plan.linger,
        batches,
        topic: &plan.topic,
        end_ns,
        ledger,
    };
    let mut interests = Vec::with_capacity(channels.len());
    loop {
        let mut wait = Duration::from_millis(100);
        let mut is_idle = true;
        for channel in &mut channels {
            let next = channel.send(&terms, run, meter, &take)?;
            is_idle &= channel.is_done();
            if let Some(due_ns) = next {
                wait = wait.min(Duration::from_nanos(due_ns.saturating_sub(run.now_ns())));
            }
        }
        if is_idle {
            return Ok(());
        }
        interests.clear();
        interests.extend(channels.iter().map(Channel::interest));
        sys::wait_ready(&mut interests, wait)?;
        for (channel, interest) in channels.iter_mut().zip(&interests) {
            if interest.is_ready() {
                channel.receive(&terms, run, meter)?;
            }
        }
        channels.iter().try_for_each(|channel| channel.check_wait(run))?;
    }
}
