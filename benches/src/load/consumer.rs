//! Consumers: each is a thread with a connection, and reads ranges of offsets or follows the end of the log.

use super::end_to_end::Ledger;
use super::meter::{Counts, Meter};
use super::phase::{Job, Run};
use crate::kafka::connection::Connection;
use crate::kafka::fetch::{Asking, Cursor};
use crate::kafka::{Error, admin};
use serde::Serialize;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Partitions that a request names at most: the broker reads the whole list each time.
const PARTITIONS_A_REQUEST_MAX: usize = 100;
/// A broker that gives nothing for so long, where there is something, ends the run.
const NOTHING_WAIT: Duration = Duration::from_secs(20);

/// What is read, and how.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The broker.
    #[serde(skip)]
    pub address: SocketAddr,
    /// The topic.
    pub topic: String,
    /// Consumers.
    pub consumers: usize,
    /// The most bytes of an answer.
    pub bytes_max: i32,
    /// The most bytes of a partition in an answer.
    pub partition_bytes_max: i32,
    /// How often everything is read; 0: until the phase is over.
    pub passes: u32,
    /// Whether a range begins where the time of its first record is looked up, as a replay by time does.
    pub by_time: bool,
    /// Whether the checksums of batches are compared.
    pub sums: bool,
}

impl Plan {
    /// One consumer that reads everything once, with the sizes that clients use.
    #[must_use]
    pub fn new(address: SocketAddr, topic: &str) -> Self {
        Self {
            address,
            topic: topic.into(),
            consumers: 1,
            bytes_max: 50 << 20,
            partition_bytes_max: 1 << 20,
            passes: 1,
            by_time: false,
            sums: true,
        }
    }

    fn asking(&self) -> Asking {
        Asking {
            topic: self.topic.clone(),
            bytes_max: self.bytes_max,
            partition_bytes_max: self.partition_bytes_max,
            wait_ms: 500,
            sums: self.sums,
        }
    }

    /// Jobs that together read what the topic holds now, each another part of it. They must find every record. Returns also
    /// how many records a pass has.
    pub fn range_jobs<'a>(&self) -> Result<(Vec<Job<'a>>, u64), Error> {
        let mut connection = Connection::open(self.address)?;
        let all = ranges(&mut connection, &self.topic)?;
        let records = count(&all);
        if records == 0 {
            return Err(Error::Answer(format!("{} holds no records", self.topic)));
        }
        let mut jobs = Vec::new();
        for cursors in parts(&all, self.consumers.max(1)) {
            let (plan, mut connection) = (self.clone(), Connection::open(self.address)?);
            let times = if self.by_time { times(&mut connection, &self.asking(), &cursors)? } else { Vec::new() };
            jobs.push(Job {
                flow: "consume",
                leads: self.passes > 0,
                work: Box::new(move |run, meter| plan.read(connection, cursors, &times, run, meter)),
            });
        }
        Ok((jobs, records))
    }

    fn read(
        &self,
        mut connection: Connection,
        mut cursors: Vec<Cursor>,
        times: &[(i32, i64)],
        run: &Run,
        meter: &Meter,
    ) -> Result<(), Error> {
        let asking = self.asking();
        for times in times.chunks(PARTITIONS_A_REQUEST_MAX) {
            for (partition, offset) in admin::offsets_at(&mut connection, &self.topic, times)? {
                let at = cursors.iter_mut().find(|cursor| cursor.partition == partition);
                // Records before it that have the same time are not this range's; none at that time is an error.
                match at {
                    Some(cursor) if (0..=cursor.next).contains(&offset) => {}
                    Some(cursor) if (cursor.next..cursor.end).contains(&offset) => cursor.next = offset,
                    _ => {
                        return Err(Error::Answer(format!(
                            "{}-{partition} has offset {offset} at the time of one of its own records",
                            self.topic
                        )));
                    }
                }
            }
        }
        let goes_on = |pass| if self.passes == 0 { !run.is_over() } else { pass < self.passes && !run.has_failed() };
        let mut pass = 0;
        while goes_on(pass) {
            pass += 1;
            let mut open = cursors.clone();
            let mut last = Instant::now();
            while !open.is_empty() {
                if run.has_failed() || (self.passes == 0 && run.is_over()) {
                    return Ok(());
                }
                let named = open.len().min(PARTITIONS_A_REQUEST_MAX);
                let sent = Instant::now();
                let walked = asking.fetch(&mut connection, &mut open[..named], |_, _| {})?;
                let mut reading = meter.open();
                reading.latencies.record(sent.elapsed());
                let (bytes, records) = (walked.bytes, walked.records);
                reading.count(run.now_ns(), Counts { bytes, batch_bytes: bytes, records, requests: 1 });
                drop(reading);
                if walked.records > 0 {
                    last = Instant::now();
                } else if last.elapsed() > NOTHING_WAIT {
                    let partitions: Vec<i32> = open[..named].iter().map(|cursor| cursor.partition).take(5).collect();
                    return Err(Error::Answer(format!(
                        "Fetch gave nothing of {}, partitions {partitions:?}, for {} s",
                        self.topic,
                        NOTHING_WAIT.as_secs()
                    )));
                }
                // Brokers fill an answer in the order of the partitions: each comes first in turn.
                let turn = if named < open.len() { named } else { 1 };
                open.rotate_left(turn);
                open.retain(|cursor| cursor.next < cursor.end);
            }
        }
        Ok(())
    }

    /// Jobs that follow the ends of all partitions, from now on, until everything that the ledger knows of has come.
    pub fn follow_jobs<'a>(&self, ledger: &'a Ledger) -> Result<Vec<Job<'a>>, Error> {
        let mut connection = Connection::open(self.address)?;
        let partitions = admin::partition_count(&mut connection, &self.topic)?;
        let ends = admin::offsets(&mut connection, &self.topic, partitions, admin::End::Latest)?;
        let mut jobs = Vec::new();
        let consumers = self.consumers.clamp(1, usize::try_from(partitions).unwrap_or(1));
        for nth in 0..consumers {
            let all = (0..partitions).zip(&ends);
            let mine = all.map(|(partition, &next)| Cursor { partition, next, end: i64::MAX });
            let cursors: Vec<Cursor> = mine.skip(nth).step_by(consumers).collect();
            let (plan, connection) = (self.clone(), Connection::open(self.address)?);
            jobs.push(Job {
                flow: "consume",
                leads: false,
                work: Box::new(move |run, meter| plan.follow(connection, cursors, ledger, run, meter)),
            });
        }
        Ok(jobs)
    }

    fn follow(
        &self,
        mut connection: Connection,
        mut cursors: Vec<Cursor>,
        ledger: &Ledger,
        run: &Run,
        meter: &Meter,
    ) -> Result<(), Error> {
        let asking = self.asking();
        let mut last = Instant::now();
        loop {
            let is_over = run.is_over();
            if run.has_failed() || (is_over && cursors.iter().all(|cursor| ledger.is_empty(cursor.partition))) {
                return Ok(());
            }
            let mut batches = Vec::new();
            let walked =
                asking.fetch(&mut connection, &mut cursors, |partition, records| batches.push((partition, records)))?;
            let now_ns = run.now_ns();
            let mut reading = meter.open();
            for (partition, records) in batches {
                let ours = ledger.came(partition, records, |due_ns| {
                    reading.latencies.record(Duration::from_nanos(now_ns.saturating_sub(due_ns)));
                });
                if !ours {
                    let topic = &self.topic;
                    return Err(Error::Answer(format!(
                        "{topic}-{partition} holds records that somebody else has sent"
                    )));
                }
            }
            let (bytes, records) = (walked.bytes, walked.records);
            if records > 0 {
                reading.count(now_ns, Counts { bytes, batch_bytes: bytes, records, requests: 1 });
            }
            drop(reading);
            if walked.records > 0 {
                last = Instant::now();
            } else if is_over && last.elapsed() > NOTHING_WAIT {
                return Err(Error::Answer(format!("not all records came back out of {}", self.topic)));
            }
        }
    }
}

/// The times of the first batches of ranges.
fn times(connection: &mut Connection, asking: &Asking, cursors: &[Cursor]) -> Result<Vec<(i32, i64)>, Error> {
    let each = cursors.iter().map(|cursor| Ok((cursor.partition, asking.time_at(connection, *cursor)?)));
    each.collect()
}

/// What the partitions of a topic hold.
pub fn ranges(connection: &mut Connection, topic: &str) -> Result<Vec<Cursor>, Error> {
    let partitions = admin::partition_count(connection, topic)?;
    let starts = admin::offsets(connection, topic, partitions, admin::End::Earliest)?;
    let ends = admin::offsets(connection, topic, partitions, admin::End::Latest)?;
    let each = (0..partitions).zip(starts.into_iter().zip(ends));
    Ok(each.map(|(partition, (next, end))| Cursor { partition, next, end }).filter(|it| it.next < it.end).collect())
}

/// Records in ranges.
#[must_use]
pub fn count(ranges: &[Cursor]) -> u64 {
    ranges.iter().map(|range| u64::try_from(range.end - range.next).unwrap_or(0)).sum()
}

/// Cuts ranges into so many parts of the same number of records, whole partitions where that is possible.
fn parts(ranges: &[Cursor], count: usize) -> Vec<Vec<Cursor>> {
    if ranges.len() >= count {
        let mut parts = vec![Vec::new(); count];
        ranges.iter().enumerate().for_each(|(at, range)| parts[at % count].push(*range));
        return parts;
    }
    let mut parts = Vec::new();
    for (at, range) in ranges.iter().enumerate() {
        // This partition's share of the consumers; each has a piece of it.
        let pieces = (at + 1) * count / ranges.len() - at * count / ranges.len();
        let records = range.end - range.next;
        let cut = |piece: usize| range.next + records * piece as i64 / pieces as i64;
        parts.extend((0..pieces).map(|piece| vec![Cursor { next: cut(piece), end: cut(piece + 1), ..*range }]));
    }
    parts.retain(|part| part.iter().any(|range| range.next < range.end));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        let ranges: Vec<Cursor> = (0..3).map(|partition| Cursor { partition, next: 10, end: 110 }).collect();
        for consumers in [1, 2, 3, 4, 7, 50] {
            let parts = parts(&ranges, consumers);
            assert_eq!(parts.len(), consumers);
            assert_eq!(parts.iter().map(|part| count(part)).sum::<u64>(), 300);
            let mut all: Vec<_> =
                parts.iter().flatten().map(|range| (range.partition, range.next, range.end)).collect();
            all.sort_unstable();
            assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0 || pair[0].2 == pair[1].1), "{all:?}");
        }
    }
}
