//! A producer and a consumer that do nothing wrong, and measure how they are served.

use anyhow::{Context, Result, ensure};
use headwater_benches::latency::{Latencies, Percentiles};
use headwater_tests::batch::{self, Codec, Source};
use headwater_tests::calls::{self, Wanted};
use headwater_tests::client::Client;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

const TOPIC: &str = "bystanders";
const PAUSE: Duration = Duration::from_millis(2);

/// The two of them.
pub struct Bystanders {
    stop: Arc<AtomicBool>,
    /// What was acknowledged.
    end: Arc<AtomicI64>,
    producer: JoinHandle<Result<Latencies>>,
    consumer: JoinHandle<Result<i64>>,
}

/// How they fared.
#[derive(Debug)]
pub struct Fared {
    pub records: i64,
    /// From sending a batch to its acknowledgement.
    pub latency: Percentiles,
}

impl Bystanders {
    /// Starts them.
    pub fn start(address: SocketAddr) -> Result<Bystanders> {
        let (stop, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let mut client = Client::connect(address)?;
        let (code, _) = calls::create_topic(&mut client, TOPIC, 1, &[])?;
        ensure!(code == 0, "creating a topic is answered with error {code}");
        let id = calls::init_producer(&mut client)?;
        let (stops, ends) = (stop.clone(), end.clone());
        let producer = Builder::new()
            .name("good-producer".into())
            .spawn(move || produce(client, id, &stops, &ends).context("the well-behaved producer"))?;
        let client = Client::connect(address)?;
        let (stops, ends) = (stop.clone(), end.clone());
        let consumer = Builder::new()
            .name("good-consumer".into())
            .spawn(move || consume(client, &stops, &ends).context("the well-behaved consumer"))?;
        Ok(Bystanders { stop, end, producer, consumer })
    }

    /// Ends them. An error when either met one, or when not all that was acknowledged was consumed.
    pub fn finish(self) -> Result<Fared> {
        self.stop.store(true, Ordering::Relaxed);
        let latencies = self.producer.join().map_err(|_| anyhow::anyhow!("the producer panicked"))?;
        let consumed = self.consumer.join().map_err(|_| anyhow::anyhow!("the consumer panicked"))?;
        let (latencies, consumed) = (latencies?, consumed?);
        let produced = self.end.load(Ordering::Relaxed);
        ensure!(consumed == produced, "{produced} were acknowledged, {consumed} consumed");
        Ok(Fared { records: produced, latency: latencies.percentiles() })
    }
}

fn produce(
    mut client: Client,
    (producer_id, epoch): (i64, i16),
    stop: &AtomicBool,
    end: &AtomicI64,
) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    let mut sequence = 0;
    while !stop.load(Ordering::Relaxed) {
        let source = Source { producer_id, epoch, sequence };
        let batch = batch::encode(&[vec![b'x'; 100]], source, Codec::None);
        let sent = Instant::now();
        let (code, base) = calls::produce(&mut client, TOPIC, 0, batch)?;
        latencies.record(sent.elapsed());
        ensure!(code == 0 && base == i64::from(sequence), "batch {sequence} got offset {base}, error {code}");
        sequence += 1;
        end.store(i64::from(sequence), Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
    Ok(latencies)
}

/// Reads to the end, and says how many records there were.
fn consume(mut client: Client, stop: &AtomicBool, end: &AtomicI64) -> Result<i64> {
    let mut next = 0;
    loop {
        let stops = stop.load(Ordering::Relaxed);
        let wanted = Wanted {
            topic: TOPIC,
            id: uuid::Uuid::nil(),
            partition: 0,
            offset: next,
            bytes_max: 1 << 20,
            wait_ms: 100,
        };
        let answer = calls::fetch(&mut client, 12, wanted)?;
        ensure!(answer.error_code == 0, "fetching from {next} is answered with error {}", answer.error_code);
        for found in batch::walk(&answer.records.unwrap_or_default())? {
            ensure!(found.base == next, "offset {} comes instead of {next}", found.base);
            next = found.end();
        }
        if stops && next >= end.load(Ordering::Relaxed) && answer.high_watermark == next {
            return Ok(next);
        }
    }
}
