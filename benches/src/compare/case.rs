//! The cases of a comparison: each a load, and the figures that are taken of it.

use super::client::{Client, Clients, Done, PARTITIONS, RECORD_BYTES};
use super::server::Server;
use crate::kafka::batch::Shape;
use crate::kafka::connection::Connection;
use crate::kafka::{Error, admin};
use crate::latency::Percentiles;
use crate::load::meter::{Counts, Flow};
use crate::load::phase::{Phase, Watch};
use crate::load::producer::Plan;
use crate::load::schedule::Rate;
use crate::load::{consumer, cost, end_to_end};
use crate::scenario;
use headwater_engine::batch::Codec;
use serde::Serialize;
use std::time::{Duration, Instant};

/// What a case does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// Produces as fast as batches are acknowledged.
    Produce,
    /// Fetches what was produced before.
    Fetch,
    /// Ping-pong, or on a schedule of so many records per second.
    EndToEnd(Option<u32>),
    /// A real client produces.
    ClientProduce(Client),
    /// A real client reads what was produced before.
    ClientConsume(Client),
}

/// A case.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// Batches.
    pub shape: Shape,
    /// Partitions.
    pub partitions: i32,
}

/// How large the loads are.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// Value bytes produced in a round.
    pub round_bytes: u64,
    /// How often they are fetched.
    pub passes: u32,
    /// How long a case on a schedule takes.
    pub seconds: f64,
    /// Whether a fetch is measured as it comes; otherwise everything is read once before, so that it is in the page cache.
    pub cold_fetch: bool,
    /// Connections that produce.
    pub producers: usize,
    /// Produce requests in flight on each.
    pub in_flight: usize,
    /// Connections that fetch.
    pub consumers: usize,
    /// Waited after a load before the CPU time is read, so that work put off to the background counts.
    pub settle_ms: u64,
    /// Whether what a round produced is deleted behind it, for small disks. Else it stays until the end: a disk that is told of freed blocks
    /// works on them while the next rounds are measured.
    pub deletes: bool,
}

/// A figure of a round: what it is and its value.
pub type Figure = (&'static str, f64);

/// Names of all cases, for the command line.
pub const NAMES: [&str; 19] = [
    "produce-64k",
    "produce-16k",
    "produce-100b",
    "produce-lz4",
    "produce-960k",
    "produce-64k-100p",
    "produce-16k-100p",
    "fetch-64k",
    "fetch-16k",
    "fetch-100b",
    "fetch-lz4",
    "fetch-960k",
    "e2e-ping",
    "e2e-500",
    "e2e-20000",
    "java-produce",
    "java-consume",
    "librdkafka-produce",
    "librdkafka-consume",
];

impl Case {
    /// The case of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = NAMES.into_iter().find(|known| *known == name)?;
        let (kind, payload) = name.split_once('-')?;
        let (payload, partitions) = payload.strip_suffix("-100p").map_or((payload, 4), |payload| (payload, 100));
        // Each record is a batch, and late ones join up to the size that clients take.
        let one = || Shape { records: Some(1), ..Shape::plain(1024, 16 << 10) };
        let (kind, shape, partitions) = match (kind, payload) {
            ("e2e", "ping") => (Kind::EndToEnd(None), one(), 1),
            ("e2e", rate) => (Kind::EndToEnd(Some(rate.parse().ok()?)), one(), 1),
            ("java" | "librdkafka", verb) => {
                let client = if kind == "java" { Client::Java } else { Client::Librdkafka };
                let kind = if verb == "produce" { Kind::ClientProduce(client) } else { Kind::ClientConsume(client) };
                (kind, Shape::plain(RECORD_BYTES as usize, 64 << 10), PARTITIONS)
            }
            (kind, payload) => {
                let shape = match payload {
                    "64k" => Shape::plain(1024, 64 << 10),
                    "16k" => Shape::plain(1024, 16 << 10),
                    "960k" => Shape::plain(1024, 960 << 10),
                    "100b" => Shape::plain(100, 64 << 10),
                    "lz4" => Shape { codec: Codec::Lz4, repeats: 0.5, ..Shape::plain(1024, 64 << 10) },
                    _ => return None,
                };
                (if kind == "fetch" { Kind::Fetch } else { Kind::Produce }, shape, partitions)
            }
        };
        Some(Self { name, kind, shape, partitions })
    }

    /// The real client that it runs.
    #[must_use]
    pub fn client(&self) -> Option<Client> {
        match self.kind {
            Kind::ClientProduce(client) | Kind::ClientConsume(client) => Some(client),
            Kind::Produce | Kind::Fetch | Kind::EndToEnd(_) => None,
        }
    }

    /// Whether it reads what is there before its rounds.
    fn reads(&self) -> bool {
        matches!(self.kind, Kind::Fetch | Kind::ClientConsume(_))
    }

    /// Some bytes that so many rounds leave on a server, where nothing is deleted.
    #[must_use]
    pub fn leaves(&self, size: &Size, rounds: usize) -> u64 {
        let rounds = rounds as u64;
        match self.kind {
            Kind::Fetch | Kind::ClientConsume(_) => size.round_bytes,
            Kind::Produce | Kind::ClientProduce(_) => size.round_bytes.saturating_mul(rounds),
            // 20 MB/s, of which the largest has 20,000 records of 1 KiB.
            Kind::EndToEnd(_) => ((size.seconds * 20e6) as u64).saturating_mul(rounds),
        }
    }

    fn produce(&self, server: &Server, topic: &str, bytes: u64, size: &Size) -> Plan {
        Plan {
            partitions: self.partitions,
            connections: size.producers,
            in_flight: size.in_flight,
            shape: self.shape.clone(),
            total_bytes: bytes,
            topic_settings: server.topic_settings.clone(),
            ..Plan::new(server.address, topic)
        }
    }

    fn fetch(&self, server: &Server, topic: &str, size: &Size) -> consumer::Plan {
        consumer::Plan { consumers: size.consumers, passes: size.passes, ..consumer::Plan::new(server.address, topic) }
    }

    /// The topic that all rounds fetch from.
    fn fetched(&self) -> String {
        format!("compare-{}", self.name)
    }

    /// Produces so much in the shape of this case, and fetches it, so that a JVM has compiled what it runs; and makes what
    /// fetch cases read.
    pub fn warm(&self, server: &Server, bytes: u64, size: &Size, clients: &Clients) -> Result<(), Error> {
        let quiet = Watch::default();
        if self.reads() {
            scenario::fill(&self.produce(server, &self.fetched(), size.round_bytes, size), &quiet)?;
        }
        if bytes == 0 {
            return Ok(());
        }
        let topic = format!("compare-warm-{}", self.name);
        match self.kind {
            Kind::EndToEnd(_) => {
                let seconds = Size { seconds: size.seconds.min(2.0), ..size.clone() };
                self.end_to_end(server, &topic, &seconds, &quiet)?;
            }
            Kind::ClientProduce(client) | Kind::ClientConsume(client) => {
                let records = self.client_produces(server, &topic, bytes, client, clients)?.records;
                clients.consume(client, server.address, &topic, records)?;
            }
            Kind::Produce | Kind::Fetch => {
                scenario::produce("warm", &self.produce(server, &topic, bytes, size), &quiet)?;
                if server.stores {
                    scenario::consume("warm", &self.fetch(server, &topic, size), &quiet)?;
                }
            }
        }
        self.done_with(server, &topic, size)
    }

    fn done_with(&self, server: &Server, topic: &str, size: &Size) -> Result<(), Error> {
        if size.deletes { scenario::delete(server.address, topic) } else { Ok(()) }
    }

    /// Whether a server that stores nothing can run it.
    #[must_use]
    pub fn needs_a_store(&self) -> bool {
        self.kind != Kind::Produce
    }

    /// Runs a round and returns its figures.
    pub fn round(
        &self,
        server: &Server,
        number: usize,
        size: &Size,
        clients: &Clients,
    ) -> Result<(Vec<Figure>, Phase), Error> {
        let settle = Duration::from_millis(size.settle_ms);
        let watch = Watch { pid: server.pid, progress: false, settle, write_back: true };
        let topic = format!("compare-{}-{number}", self.name);
        let phase = match self.kind {
            Kind::Fetch => {
                let watch = Watch { settle: Duration::ZERO, ..watch };
                let plan = self.fetch(server, &self.fetched(), size);
                if !size.cold_fetch {
                    // A server may keep what nobody has read out of the page cache, and other servers' rounds push it out.
                    let once = consumer::Plan { passes: 1, ..plan.clone() };
                    scenario::consume("before", &once, &Watch::default())?;
                }
                scenario::consume(self.name, &plan, &watch)?
            }
            Kind::Produce => {
                let plan = self.produce(server, &topic, size.round_bytes, size);
                scenario::produce(self.name, &plan, &watch)?
            }
            Kind::EndToEnd(_) => self.end_to_end(server, &topic, size, &watch)?,
            Kind::ClientProduce(client) => self.client_phase("produce", &watch, || {
                self.client_produces(server, &topic, size.round_bytes, client, clients)
            })?,
            Kind::ClientConsume(client) => {
                let topic = self.fetched();
                if !size.cold_fetch {
                    scenario::consume("before", &consumer::Plan::new(server.address, &topic), &Watch::default())?;
                }
                let records = held(server, &topic)?;
                let watch = Watch { settle: Duration::ZERO, ..watch };
                self.client_phase("consume", &watch, || clients.consume(client, server.address, &topic, records))?
            }
        };
        if !self.reads() {
            self.done_with(server, &topic, size)?;
        }
        Ok((self.figures(&phase)?, phase))
    }

    fn end_to_end(&self, server: &Server, topic: &str, size: &Size, watch: &Watch) -> Result<Phase, Error> {
        let Kind::EndToEnd(rate) = self.kind else { return Err(Error::Answer("not an end-to-end case".into())) };
        let many = rate.is_some_and(|rate| rate > 1000);
        let produce = Plan {
            // A connection for each of several partitions, where one would be too slow, with as many in flight as clients have.
            partitions: if many { 4 } else { self.partitions },
            connections: if many { 4 } else { 1 },
            in_flight: 5,
            owned: true,
            rate: rate.map_or(Rate::Closed, |rate| Rate::Records(rate.into())),
            duration: Duration::try_from_secs_f64(size.seconds).map_err(|error| Error::Answer(error.to_string()))?,
            ..self.produce(server, topic, 0, size)
        };
        end_to_end::end_to_end(&produce, &consumer::Plan::new(server.address, topic), watch)
    }

    /// A client produces to a new topic, which must hold just that then.
    fn client_produces(
        &self,
        server: &Server,
        topic: &str,
        bytes: u64,
        client: Client,
        clients: &Clients,
    ) -> Result<Done, Error> {
        let mut connection = Connection::open(server.address)?;
        admin::ensure_topic_with(&mut connection, topic, self.partitions, &server.topic_settings)?;
        let done = clients.produce(client, server.address, topic, bytes.div_ceil(RECORD_BYTES))?;
        match held(server, topic)? {
            held if held == done.records => Ok(done),
            held => Err(Error::Answer(format!("{} records were acknowledged, {topic} holds {held}", done.records))),
        }
    }

    /// Watches a client. Its whole process counts in the costs, its own time in the rate.
    fn client_phase(
        &self,
        flow: &'static str,
        watch: &Watch,
        work: impl FnOnce() -> Result<Done, Error>,
    ) -> Result<Phase, Error> {
        let (begin, begun) = (cost::begin(watch.pid)?, Instant::now());
        let Done { records, seconds } = work()?;
        let took = begun.elapsed().as_secs_f64();
        watch.settle();
        let bytes = records * RECORD_BYTES;
        let flow = Flow {
            name: flow,
            counts: Counts { bytes, records, ..Counts::default() },
            seconds,
            mb_per_s: bytes as f64 / 1e6 / seconds.max(1e-9),
            records_per_s: records as f64 / seconds.max(1e-9),
            latency: Percentiles::default(),
            latencies: 0,
            curve: Vec::new(),
            over_time: Vec::new(),
        };
        Ok(Phase { name: self.name.into(), seconds: took, flows: vec![flow], cost: begin.end(bytes)? })
    }

    /// The traffic that its figures are of.
    pub fn flow<'a>(&self, phase: &'a Phase) -> Result<&'a Flow, Error> {
        match self.kind {
            Kind::Produce | Kind::ClientProduce(_) => phase.flow("produce"),
            Kind::Fetch | Kind::EndToEnd(_) | Kind::ClientConsume(_) => phase.flow("consume"),
        }
    }

    fn figures(&self, phase: &Phase) -> Result<Vec<Figure>, Error> {
        let (cost, flow) = (&phase.cost, self.flow(phase)?);
        let mut figures = Vec::new();
        if let Some(cpu) = cost.server_cpu_s_per_gb {
            figures.push(("server CPU s/GB", cpu));
        }
        figures.push(("machine CPU s/GB, generator's taken off", cost.machine_cpu_s_per_gb));
        if matches!(self.kind, Kind::EndToEnd(_)) {
            figures.push(("records/s", flow.records_per_s));
        } else {
            figures.push(("MB/s", flow.mb_per_s));
        }
        if self.client().is_some() {
            figures.push(("records/s", flow.records_per_s));
        }
        let latency = flow.latency;
        for (name, us) in [
            ("p50 ms", latency.p50_us),
            ("p99 ms", latency.p99_us),
            ("p99.9 ms", latency.p999_us),
            ("max ms", latency.max_us),
        ]
        .into_iter()
        .filter(|_| flow.latencies > 0)
        {
            figures.push((name, us / 1e3));
        }
        if let Some(server) = cost.server {
            figures.push(("anonymous MB", server.anonymous_mb));
            figures.push(("resident MB", server.resident_mb));
        }
        figures.push(("generator CPU s/GB", cost.generator_cpu_s_per_gb));
        Ok(figures)
    }
}

/// How many records a topic holds.
fn held(server: &Server, topic: &str) -> Result<u64, Error> {
    Ok(consumer::count(&consumer::ranges(&mut Connection::open(server.address)?, topic)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_case() {
        for name in NAMES {
            assert!(Case::named(name).is_some(), "{name}");
        }
        assert_eq!(Case::named("java-produce").unwrap().kind, Kind::ClientProduce(Client::Java));
        assert_eq!(Case::named("librdkafka-consume").unwrap().kind, Kind::ClientConsume(Client::Librdkafka));
        assert!(Case::named("produce-1g").is_none());
        assert_eq!(Case::named("produce-16k-100p").unwrap().partitions, 100);
        assert_eq!(Case::named("e2e-500").unwrap().kind, Kind::EndToEnd(Some(500)));
    }
}
