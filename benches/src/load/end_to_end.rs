//! From the moment at which a batch was due to the moment at which a consumer has it.

use super::consumer;
use super::meter::Counts;
use super::phase::{Job, Phase, Watch, run};
use super::producer;
use super::schedule::Rate;
use crate::kafka::connection::Connection;
use crate::kafka::fetch::{Asking, Cursor};
use crate::kafka::produce::{Request, check};
use crate::kafka::{Error, admin};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A record that is acknowledged and does not come for so long ends the run.
const NOTHING_WAIT: Duration = Duration::from_secs(20);

/// When what is on its way was due, by partition, in the order of its offsets. Each partition is written to by one connection only, so
/// that this is the order of sending.
pub struct Ledger(Vec<Mutex<VecDeque<Due>>>);

/// Records that were due together.
struct Due {
    at_ns: u64,
    records: u64,
}

impl Ledger {
    /// Nothing is on its way.
    #[must_use]
    pub fn new(partitions: i32) -> Self {
        Self((0..partitions).map(|_| Mutex::default()).collect())
    }

    fn of<R>(&self, partition: i32, with: impl FnOnce(&mut VecDeque<Due>) -> R) -> Option<R> {
        let queue = self.0.get(usize::try_from(partition).ok()?)?;
        Some(with(&mut queue.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Records that are due then are about to be sent, alone or with others in a batch.
    pub fn sent(&self, partition: i32, at_ns: u64, records: u64) {
        self.of(partition, |queue| queue.push_back(Due { at_ns, records }));
    }

    /// So many more records have come; `each` is told when they were due, once for those that were due together. Whether all of them were
    /// on their way.
    #[must_use]
    pub fn came(&self, partition: i32, records: u64, mut each: impl FnMut(u64)) -> bool {
        let mut left = records;
        self.of(partition, |queue| {
            while let Some(due) = queue.front_mut().filter(|_| left > 0) {
                let came = due.records.min(left);
                left -= came;
                due.records -= came;
                if due.records == 0 {
                    each(due.at_ns);
                    queue.pop_front();
                }
            }
        });
        left == 0
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_empty(&self, partition: i32) -> bool {
        self.of(partition, |queue| queue.is_empty()).unwrap_or(true)
    }
}

/// Produces on a schedule and consumes beside it.
pub fn open_loop(produce: &producer::Plan, consume: &consumer::Plan, watch: &Watch) -> Result<Phase, Error> {
    let ledger = Ledger::new(produce.partitions);
    let mut jobs = produce.jobs(Some(&ledger))?;
    jobs.extend(consume.follow_jobs(&ledger)?);
    let phase = run("end-to-end", jobs, watch)?;
    let (sent, came) = (phase.flow("produce")?.counts.records, phase.flow("consume")?.counts.records);
    if sent != came {
        return Err(Error::Answer(format!("{sent} records were sent and {came} came")));
    }
    Ok(phase)
}

/// One batch at a time: it is sent, comes to a waiting consumer and is acknowledged; then the next.
pub fn ping_pong(produce: &producer::Plan, consume: &consumer::Plan, watch: &Watch) -> Result<Phase, Error> {
    let mut writer = Connection::open(produce.address)?;
    admin::ensure_topic_with(&mut writer, &produce.topic, produce.partitions, &produce.topic_settings)?;
    let partitions = admin::partition_count(&mut writer, &produce.topic)?;
    let ends = admin::offsets(&mut writer, &produce.topic, partitions, admin::End::Latest)?;
    let mut reader = Connection::open(consume.address)?;
    let batch = produce.shape.batch()?;
    let job: super::phase::Work<'_> = Box::new(|run, meter| {
        let asking = Asking {
            topic: produce.topic.clone(),
            bytes_max: consume.bytes_max,
            partition_bytes_max: consume.partition_bytes_max,
            wait_ms: 20_000,
            sums: true,
        };
        let mut cursors: Vec<Cursor> =
            (0..partitions).zip(&ends).map(|(partition, &next)| Cursor { partition, next, end: i64::MAX }).collect();
        let mut request = Request::new(&produce.topic, produce.acks, &batch, 1);
        let (mut sent_bytes, mut turn) = (0, 0);
        let more = |sent_bytes: u64| {
            !run.has_failed()
                && (produce.duration.is_zero() || run.begun.elapsed() < produce.duration)
                && (produce.total_bytes == 0 || sent_bytes < produce.total_bytes)
        };
        while more(sent_bytes) {
            reader.send(&mut asking.request(&cursors))?;
            // The consumer is to be waiting already, as it is in practice, not to race with the record.
            std::thread::sleep(Duration::from_micros(200));
            request.aim(0, turn % partitions);
            turn += 1;
            let sent = Instant::now();
            writer.send(request.frame())?;
            let mut records = 0;
            loop {
                records += asking.read(reader.incoming()?, &mut cursors, |_, _| {})?.records;
                if records >= batch.records {
                    break;
                }
                if sent.elapsed() > NOTHING_WAIT {
                    return Err(Error::Answer(format!("a record of {} has not come", produce.topic)));
                }
                reader.send(&mut asking.request(&cursors))?;
            }
            let took = sent.elapsed();
            if produce.acks != 0 {
                check(writer.receive()?)?;
            }
            sent_bytes += batch.value_bytes;
            let mut reading = meter.open();
            reading.latencies.record(took);
            let counts =
                Counts { bytes: batch.value_bytes, batch_bytes: batch.bytes.len() as u64, records, requests: 1 };
            reading.count(run.now_ns(), counts);
        }
        Ok(())
    });
    run("end-to-end", vec![Job { flow: "consume", leads: true, work: job }], watch)
}

/// End to end, ping-pong in a closed loop.
pub fn end_to_end(produce: &producer::Plan, consume: &consumer::Plan, watch: &Watch) -> Result<Phase, Error> {
    if produce.rate == Rate::Closed { ping_pong(produce, consume, watch) } else { open_loop(produce, consume, watch) }
}
