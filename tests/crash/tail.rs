//! A consumer that remembers what it was given: whatever a crash does, that must still be there afterwards.

use crate::model::{Kept, Model, Seen};
use crate::producer::code;
use anyhow::{Context, Result, bail, ensure};
use headwater_engine::env::sim::SimRng;
use headwater_tests::batch;
use headwater_tests::calls::{self, Wanted};
use headwater_tests::client::{Client, Failure};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Reads here and there until the server goes away or `stop` is set.
pub fn run(address: SocketAddr, model: &Mutex<Model>, stop: &AtomicBool, draw: &SimRng) -> Result<()> {
    match read(address, model, stop, draw) {
        Err(error) if error.downcast_ref::<Failure>().is_some_and(Failure::is_lost) => Ok(()),
        outcome => outcome.context("the consumer"),
    }
}

fn read(address: SocketAddr, model: &Mutex<Model>, stop: &AtomicBool, draw: &SimRng) -> Result<()> {
    let mut client = Client::connect(address)?;
    while !stop.load(Ordering::Relaxed) {
        let (place, name, offset) = {
            let model = model.lock().expect("no thread panicked");
            let Some((id, topic)) = model.topics.iter().nth(draw.below(model.topics.len() as u64) as usize) else {
                continue;
            };
            let index = draw.below(topic.partitions.len() as u64) as usize;
            let partition = &topic.partitions[index];
            let (start, end) = (partition.start_min, partition.end());
            // Mostly near the end, where what is not durable yet must not be seen.
            let near = if draw.chance(0.7) { end - 20 } else { start };
            let offset = near.max(start) + draw.below((end - near.max(start)).max(0) as u64 + 1) as i64;
            ((*id, index as i32), topic.name.clone(), offset)
        };
        let wanted =
            Wanted { topic: &name, id: place.0, partition: place.1, offset, bytes_max: 128 << 10, wait_ms: 20 };
        let answer = calls::fetch(&mut client, 13 + draw.below(6) as i16, wanted)?;
        match answer.error_code {
            0 => {}
            code::UNKNOWN_TOPIC | code::UNKNOWN_TOPIC_ID => {
                let model = model.lock().expect("no thread panicked");
                ensure!(!model.is_there(place.0), "{name} is unknown, but was never deleted");
                continue;
            }
            code::OFFSET_OUT_OF_RANGE => continue, // records were deleted meanwhile
            code => bail!("{name}-{} answers Fetch with error {code}", place.1),
        }
        let records = answer.records.unwrap_or_default();
        let found = batch::walk(&records).with_context(|| format!("{name}-{} from {offset}", place.1))?;
        let mut model = model.lock().expect("no thread panicked");
        for batch in found {
            ensure!(
                batch.end() <= answer.high_watermark,
                "{name}-{}: {batch:?} lies above the high watermark",
                place.1
            );
            let kept = Kept { fingerprint: batch.fingerprint, count: batch.count };
            model.seen.push(Seen { place, base: batch.base, kept });
        }
    }
    Ok(())
}
