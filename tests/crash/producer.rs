//! A producer that outlives the server: it keeps what was not acknowledged, and sends it again after the restart.
//!
//! For each partition it has a lane. The batches that are not acknowledged are sent in order, up to five of them at once. When
//! one is refused, the lane waits until the others in flight are answered, and begins anew with the oldest.

use crate::model::{Kept, Model, Place};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use headwater_engine::env::Rng;
use headwater_engine::env::sim::SimRng;
use headwater_tests::batch::{self, Codec, Source};
use headwater_tests::calls;
use headwater_tests::client::{Client, Failure};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use uuid::Uuid;

/// As many as the server remembers of a producer.
const LANE_MAX: usize = 5;

/// Kafka's error codes that these tests meet.
pub mod code {
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const UNKNOWN_TOPIC: i16 = 3;
    pub const NOT_LEADER: i16 = 6;
    pub const TIMED_OUT: i16 = 7;
    pub const OUT_OF_ORDER: i16 = 45;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
}

/// A batch that is not acknowledged.
struct Batch {
    bytes: Bytes,
    kept: Kept,
}

/// What goes to one partition.
#[derive(Default)]
struct Lane {
    sequence: i32,
    unacknowledged: VecDeque<Batch>,
    /// How many of them, from the oldest on, are in flight.
    in_flight: usize,
    /// Set when one was refused.
    blocked: bool,
}

/// A producer.
pub struct Producer {
    name: String,
    draw: SimRng,
    idempotent: bool,
    /// How many of its batches are large, as a part of all.
    large_share: f64,
    id: Option<(i64, i16)>,
    lanes: BTreeMap<Place, Lane>,
    /// Batches that were sent again and turned out to be there already.
    pub repeated: u64,
}

/// What a request in flight carries: each partition's batch, by its fingerprint.
struct InFlight {
    version: i16,
    parts: Vec<(Place, u64)>,
}

impl Producer {
    pub fn new(name: String, draw: SimRng, idempotent: bool, large_share: f64) -> Producer {
        Producer { name, draw, idempotent, large_share, id: None, lanes: BTreeMap::new(), repeated: 0 }
    }

    /// Sends until the server goes away; or, when `stop` is set, until nothing is left to be acknowledged. `allowance` is how
    /// many bytes of large batches may be sent in all.
    pub fn run(
        &mut self,
        address: SocketAddr,
        model: &Mutex<Model>,
        stop: &AtomicBool,
        allowance: &AtomicI64,
    ) -> Result<()> {
        self.reconnected();
        match self.produce(address, model, stop, allowance) {
            Err(error) if error.downcast_ref::<Failure>().is_some_and(Failure::is_lost) => Ok(()),
            outcome => outcome.with_context(|| self.name.clone()),
        }
    }

    /// Whether everything is acknowledged.
    pub fn is_done(&self) -> bool {
        self.lanes.values().all(|lane| lane.unacknowledged.is_empty())
    }

    fn reconnected(&mut self) {
        for lane in self.lanes.values_mut() {
            (lane.in_flight, lane.blocked) = (0, false);
            if !self.idempotent && self.draw.chance(0.5) {
                // It has no means to find out what became of them, and may as well give up.
                lane.unacknowledged.clear();
            }
        }
    }

    fn produce(
        &mut self,
        address: SocketAddr,
        model: &Mutex<Model>,
        stop: &AtomicBool,
        allowance: &AtomicI64,
    ) -> Result<()> {
        let mut client = Client::connect(address)?;
        if self.idempotent && self.id.is_none() {
            self.id = Some(calls::init_producer(&mut client)?);
        }
        let in_flight_max = 1 + self.draw.below(8) as usize;
        let mut in_flight: VecDeque<InFlight> = VecDeque::new();
        loop {
            while in_flight.len() < in_flight_max {
                let stops = stop.load(Ordering::Relaxed);
                let Some((request, sent)) = self.request(model, stops, allowance) else { break };
                client.send(sent.version, &request)?;
                in_flight.push_back(sent);
            }
            let Some(oldest) = in_flight.pop_front() else {
                if stop.load(Ordering::Relaxed) && self.is_done() {
                    return Ok(());
                }
                std::thread::yield_now();
                continue;
            };
            let answer = client.receive::<ProduceRequest>(oldest.version)?;
            let mut parts = oldest.parts.iter();
            for topic in answer.responses {
                for answered in topic.partition_responses {
                    let (place, fingerprint) = parts.next().context("more answers than batches")?;
                    ensure!(place.1 == answered.index, "partition {} answered instead of {}", answered.index, place.1);
                    self.answered(model, *place, *fingerprint, answered.error_code, answered.base_offset)?;
                }
            }
            ensure!(parts.next().is_none(), "fewer answers than batches");
        }
    }

    /// The next request: one batch each for one to three partitions.
    fn request(
        &mut self,
        model: &Mutex<Model>,
        stops: bool,
        allowance: &AtomicI64,
    ) -> Option<(ProduceRequest, InFlight)> {
        let mut model = model.lock().expect("no thread panicked");
        let places = if stops { self.lanes.keys().copied().collect() } else { self.pick(&model) };
        let (mut topics, mut parts) = (Vec::<TopicProduceData>::new(), Vec::new());
        for place in places {
            let Some(topic) = model.topics.get(&place.0) else {
                self.lanes.remove(&place);
                continue;
            };
            let name = topic.name.clone();
            let lane = self.lanes.entry(place).or_default();
            if lane.blocked {
                continue;
            }
            if lane.in_flight == lane.unacknowledged.len() {
                if stops || lane.in_flight == LANE_MAX {
                    continue;
                }
                let batch = new_batch(&self.draw, &self.name, self.id, &mut lane.sequence, self.large_share, allowance);
                lane.unacknowledged.push_back(batch);
            }
            let batch = &lane.unacknowledged[lane.in_flight];
            lane.in_flight += 1;
            model.attempt(place, batch.kept.fingerprint, batch.kept.count, self.idempotent);
            parts.push((place, batch.kept.fingerprint));
            let part = PartitionProduceData::default().with_index(place.1).with_records(Some(batch.bytes.clone()));
            let data = TopicProduceData::default().with_name(calls::name(&name)).with_topic_id(place.0);
            topics.push(data.with_partition_data(vec![part]));
            if parts.len() == 3 {
                break;
            }
        }
        if parts.is_empty() {
            return None;
        }
        // A name may come to mean another topic at any time; only an id says which one is meant.
        let all_steady = parts.iter().all(|(place, _)| model.topics.get(&place.0).is_some_and(|topic| topic.steady));
        let version = if all_steady { 3 + self.draw.below(11) as i16 } else { 13 };
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(topics);
        Some((request, InFlight { version, parts }))
    }

    /// A few partitions of topics that are there, each once.
    fn pick(&self, model: &Model) -> Vec<Place> {
        let topics: Vec<(&Uuid, usize)> = model
            .topics
            .iter()
            .filter(|(_, topic)| !topic.deleting && !topic.partitions.is_empty())
            .map(|(id, topic)| (id, topic.partitions.len()))
            .collect();
        let mut places = Vec::new();
        for _ in 0..1 + self.draw.below(3) {
            if topics.is_empty() {
                break;
            }
            let (id, partitions) = topics[self.draw.below(topics.len() as u64) as usize];
            let place = (*id, self.draw.below(partitions as u64) as i32);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    fn answered(&mut self, model: &Mutex<Model>, place: Place, fingerprint: u64, code: i16, base: i64) -> Result<()> {
        let mut model = model.lock().expect("no thread panicked");
        let Some(lane) = self.lanes.get_mut(&place) else { return Ok(()) };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        match code {
            0 => {
                let at = lane.unacknowledged.iter().position(|batch| batch.kept.fingerprint == fingerprint);
                let at = at.context("a batch was acknowledged that waits for nothing")?;
                ensure!(at == 0 || lane.blocked && !self.idempotent, "a batch was acknowledged before an earlier one");
                let batch = lane.unacknowledged.remove(at).context("it is there")?;
                if let Some(partition) = model.partition(place)
                    && partition.unique.contains_key(&fingerprint)
                {
                    self.repeated += 1;
                }
                let size = batch.bytes.len();
                model
                    .acknowledge(place, base, batch.kept, size, self.idempotent)
                    .with_context(|| format!("{place:?}, a batch of {:?}", self.id))?;
            }
            code::UNKNOWN_TOPIC | code::UNKNOWN_TOPIC_ID => {
                ensure!(!model.is_there(place.0), "{place:?} is unknown, but was never deleted");
                self.lanes.remove(&place);
                return Ok(());
            }
            code::TIMED_OUT | code::NOT_LEADER => lane.blocked = true,
            code::OUT_OF_ORDER if lane.blocked => {}
            code => bail!("{place:?} answers Produce with error {code}"),
        }
        if lane.in_flight == 0 {
            lane.blocked = false;
        }
        Ok(())
    }
}

/// A batch that there is only one of. Most are small; some are large, as long as the allowance lasts.
fn new_batch(
    draw: &SimRng,
    producer: &str,
    id: Option<(i64, i16)>,
    sequence: &mut i32,
    large_share: f64,
    allowance: &AtomicI64,
) -> Batch {
    let large = draw.chance(large_share) && allowance.load(Ordering::Relaxed) > 0;
    let count = 1 + draw.below(if large { 50 } else { 10 });
    let value_max = if large { 8_000 } else { 300 };
    let values: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            let mut value = vec![0; draw.below(value_max) as usize];
            draw.fill(&mut value);
            value.extend(format!(" {producer} {:016x}", draw.next_u64()).into_bytes());
            value
        })
        .collect();
    let codec = if draw.chance(0.1) { Codec::Gzip } else { Codec::None };
    let source = match id {
        Some((producer_id, epoch)) => Source { producer_id, epoch, sequence: *sequence },
        None => Source::NONE,
    };
    // Sequences go on from 0 after the largest.
    *sequence = sequence.checked_add(count as i32).unwrap_or_default();
    let bytes = batch::encode(&values, source, codec);
    allowance.fetch_sub(if large { bytes.len() as i64 } else { 0 }, Ordering::Relaxed);
    let kept = Kept { fingerprint: batch::fingerprint(&bytes), count: count as i64 };
    Batch { bytes, kept }
}
