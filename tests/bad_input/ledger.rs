//! What was acknowledged, to be compared with what is there.

use anyhow::{Context, Result, ensure};
use headwater_engine::env::Rng;
use headwater_engine::env::sim::SimRng;
use headwater_tests::batch::{self, Codec, Source};
use headwater_tests::calls::{self, Wanted};
use headwater_tests::client::{Client, Failure};
use kafka_protocol::messages::ProduceRequest;
use std::collections::{BTreeMap, VecDeque};
use uuid::Uuid;

/// Requests in flight.
const IN_FLIGHT: usize = 4;
const PRODUCE: i16 = 9;

/// A topic and its acknowledged batches.
pub struct Ledger {
    pub topic: String,
    pub partitions: i32,
    draw: SimRng,
    /// Fingerprint and count, by partition and base offset.
    batches: BTreeMap<(i32, i64), (u64, i64)>,
    /// Bytes acknowledged.
    pub bytes: u64,
}

/// Why no more was produced.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// So many bytes were acknowledged.
    Enough,
    /// A batch was refused with this error code.
    Refused(i16),
    /// The server went away.
    Lost,
}

impl Ledger {
    /// Makes a topic.
    pub fn create(client: &mut Client, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<Ledger> {
        let (code, _) = calls::create_topic(client, topic, partitions, settings)?;
        ensure!(code == 0, "creating {topic} is answered with error {code}");
        let draw = SimRng::new(partitions as u64);
        Ok(Ledger { topic: topic.to_owned(), partitions, draw, batches: BTreeMap::new(), bytes: 0 })
    }

    /// Produces batches of random records of `size` bytes, partition after partition, until `bytes` were acknowledged, one is
    /// refused or the server goes away.
    pub fn produce(&mut self, client: &mut Client, size: usize, bytes: u64) -> Result<Ended> {
        match self.try_produce(client, size, self.bytes + bytes) {
            Ok(ended) => Ok(ended),
            Err(Failure::Lost(_)) => Ok(Ended::Lost),
            Err(error) => Err(error).context("producing"),
        }
    }

    fn try_produce(&mut self, client: &mut Client, size: usize, until: u64) -> Result<Ended, Failure> {
        let mut in_flight = VecDeque::new();
        let mut next = 0;
        let mut refused = None;
        loop {
            while in_flight.len() < IN_FLIGHT && refused.is_none() && self.bytes < until {
                let mut value = vec![0; size];
                self.draw.fill(&mut value);
                let batch = batch::encode(&[value], Source::NONE, Codec::None);
                let sent = (next, batch::fingerprint(&batch), batch.len() as u64);
                client.send(PRODUCE, &calls::produce_request(&self.topic, Uuid::nil(), next, batch))?;
                in_flight.push_back(sent);
                next = (next + 1) % self.partitions;
            }
            let Some((partition, fingerprint, size)) = in_flight.pop_front() else {
                return Ok(refused.map_or(Ended::Enough, Ended::Refused));
            };
            let answer = client.receive::<ProduceRequest>(PRODUCE)?;
            let answer = answer.responses.first().and_then(|topic| topic.partition_responses.first());
            let answer = answer.ok_or_else(|| Failure::wrong("an empty answer to Produce"))?;
            match answer.error_code {
                0 => {
                    self.batches.insert((partition, answer.base_offset), (fingerprint, 1));
                    self.bytes += size;
                }
                code => refused = Some(code),
            }
        }
    }

    /// Deletes all records of a partition.
    pub fn clear(&mut self, client: &mut Client, partition: i32) -> Result<()> {
        let (code, start) = calls::delete_records(client, &self.topic, partition, -1)?;
        ensure!(code == 0, "deleting the records of {}-{partition} is answered with error {code}", self.topic);
        self.batches.retain(|(of, base), _| *of != partition || *base >= start);
        Ok(())
    }

    /// Reads everything, and finds each acknowledged batch where it was acknowledged. Returns bytes read.
    pub fn verify(&self, client: &mut Client) -> Result<u64> {
        let mut bytes = 0;
        for partition in 0..self.partitions {
            bytes += self.verify_partition(client, partition).with_context(|| format!("{}-{partition}", self.topic))?;
        }
        Ok(bytes)
    }

    fn verify_partition(&self, client: &mut Client, partition: i32) -> Result<u64> {
        let (code, start) = calls::offset(client, &self.topic, partition, -2)?;
        ensure!(code == 0, "ListOffsets answers {code}");
        let (code, end) = calls::offset(client, &self.topic, partition, -1)?;
        ensure!(code == 0, "ListOffsets answers {code}");
        let (mut next, mut bytes, mut there) = (start, 0, BTreeMap::new());
        while next < end {
            let wanted = Wanted {
                topic: &self.topic,
                id: Uuid::nil(),
                partition,
                offset: next,
                bytes_max: 8 << 20,
                wait_ms: 1_000,
            };
            let answer = calls::fetch(client, 12, wanted)?;
            ensure!(answer.error_code == 0, "fetching from {next} is answered with error {}", answer.error_code);
            let found = batch::walk(&answer.records.unwrap_or_default())?;
            ensure!(!found.is_empty(), "nothing at {next}, although it ends at {end}");
            for batch in found {
                ensure!(batch.base == next, "offset {} follows {next}", batch.base);
                there.insert(batch.base, (batch.fingerprint, batch.count));
                next = batch.end();
                bytes += batch.size as u64;
            }
        }
        for ((_, base), batch) in self.batches.range((partition, i64::MIN)..=(partition, i64::MAX)) {
            let found = there.get(base);
            ensure!(found == Some(batch), "{batch:?} was acknowledged at {base}, there is {found:?}");
        }
        Ok(bytes)
    }
}
