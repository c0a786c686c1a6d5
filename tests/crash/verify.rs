//! After a restart: everything that was acknowledged or served is there, at its offset, byte for byte; what is there beside it
//! was sent; offsets and sequences have no gaps; idempotent batches are there once.

use crate::model::{Kept, Model, Partition, Place};
use crate::producer::code;
use anyhow::{Context, Result, bail, ensure};
use headwater_tests::batch::{self, Found};
use headwater_tests::calls::{self, Wanted};
use headwater_tests::client::Client;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Batches.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Batches that were never acknowledged and are there all the same.
    pub survivors: u64,
    /// Batches that were never acknowledged and are not there.
    pub vanished: u64,
}

/// Compares, and makes the model what is there. No client may be running.
pub fn check(address: SocketAddr, model: &mut Model) -> Result<Summary> {
    let mut client = Client::connect(address)?;
    topics(&mut client, model)?;
    let mut summary = Summary::default();
    let mut logs: BTreeMap<Place, Vec<Found>> = BTreeMap::new();
    for (&id, topic) in &mut model.topics {
        for (index, partition) in topic.partitions.iter_mut().enumerate() {
            let place = (id, index as i32);
            let at = || format!("{}-{index} ({id})", topic.name);
            let found = read(&mut client, &topic.name, place, partition).with_context(at)?;
            compare(partition, &found, &mut summary).with_context(at)?;
            logs.insert(place, found);
        }
    }
    for seen in model.seen.drain(..) {
        let Some(log) = logs.get(&seen.place) else { continue }; // deleted
        let start =
            model.topics.get(&seen.place.0).map_or(0, |topic| topic.partitions[seen.place.1 as usize].start_min);
        if seen.base + seen.kept.count <= start {
            continue;
        }
        let there = log.iter().find(|found| found.base == seen.base);
        ensure!(
            there.is_some_and(|found| found.fingerprint == seen.kept.fingerprint),
            "{:?}: a consumer was given {:?} at {}, now there is {there:?}",
            seen.place,
            seen.kept,
            seen.base
        );
    }
    Ok(summary)
}

/// Topics that were created exist, those that were deleted do not, and what was not answered is one or the other.
fn topics(client: &mut Client, model: &mut Model) -> Result<()> {
    let there = calls::topics(client)?;
    let ids: HashMap<_, _> = there.iter().map(|(name, (id, partitions))| (*id, (name, *partitions))).collect();
    for id in &model.deleted {
        ensure!(!ids.contains_key(id), "topic {id} is back, as {:?}", ids.get(id));
    }
    if let Some(&id) = model.deleted.last() {
        let wanted = Wanted { topic: "", id, partition: 0, offset: 0, bytes_max: 1 << 20, wait_ms: 0 };
        let code = calls::fetch(client, 13, wanted)?.error_code;
        ensure!(code == code::UNKNOWN_TOPIC_ID, "fetching from a deleted topic is answered with {code}");
    }
    let mut gone = Vec::new();
    for (&id, topic) in &mut model.topics {
        match ids.get(&id) {
            Some((name, partitions)) => {
                ensure!(**name == topic.name, "{} is called {name} now", topic.name);
                let known = topic.partitions.len();
                let grown = topic.growing.take();
                ensure!(
                    *partitions == known || Some(*partitions) == grown,
                    "{name} has {partitions} partitions instead of {known} (or {grown:?})"
                );
                topic.partitions.resize_with(*partitions, Partition::default);
                topic.deleting = false;
            }
            None if topic.deleting => gone.push(id),
            None => bail!("{} ({id}) is gone", topic.name),
        }
    }
    for id in gone {
        model.topics.remove(&id);
        model.deleted.push(id);
    }
    let creating = model.creating.take();
    for (name, (id, partitions)) in there {
        if model.topics.contains_key(&id) {
            continue;
        }
        ensure!(
            creating.as_ref() == Some(&(name.clone(), partitions)),
            "nobody made {name} with {partitions} partitions"
        );
        model.add(id, &name, partitions, false)?;
    }
    Ok(())
}

/// Reads a whole partition.
fn read(client: &mut Client, topic: &str, place: Place, partition: &mut Partition) -> Result<Vec<Found>> {
    let (code, start) = calls::offset(client, topic, place.1, -2)?;
    ensure!(code == 0, "ListOffsets answers {code}");
    let (code, end) = calls::offset(client, topic, place.1, -1)?;
    ensure!(code == 0, "ListOffsets answers {code}");
    ensure!(
        (partition.start_min..=partition.start_max).contains(&start),
        "it starts at {start}, not within {}..={}",
        partition.start_min,
        partition.start_max
    );
    partition.forget_below(start);
    (partition.start_min, partition.start_max) = (start, start);
    ensure!(end >= partition.end(), "it ends at {end}, before {}", partition.end());
    let mut log: Vec<Found> = Vec::new();
    let mut next = start;
    while next < end {
        let wanted =
            Wanted { topic, id: place.0, partition: place.1, offset: next, bytes_max: 8 << 20, wait_ms: 1_000 };
        let answer = calls::fetch(client, 17, wanted)?;
        ensure!(answer.error_code == 0, "fetching from {next} is answered with error {}", answer.error_code);
        ensure!(answer.high_watermark == end && answer.log_start_offset == start, "bounds differ: {start}..{end}");
        let found = batch::walk(&answer.records.unwrap_or_default())?;
        ensure!(!found.is_empty(), "nothing at {next}, although it ends at {end}");
        for batch in found {
            // Only the first batch may begin before the log's start.
            ensure!(batch.base == next || log.is_empty() && batch.base < next, "{batch:?} follows offset {next}");
            ensure!(batch.end() > next && batch.end() <= end, "{batch:?} does not lead from {next} towards {end}");
            if let Some(last) = log.last() {
                ensure!(last.leader_epoch <= batch.leader_epoch, "epochs go back: {last:?}, {batch:?}");
            }
            next = batch.end();
            log.push(batch);
        }
    }
    Ok(log)
}

fn compare(partition: &mut Partition, found: &[Found], summary: &mut Summary) -> Result<()> {
    let by_base: HashMap<i64, &Found> = found.iter().map(|found| (found.base, found)).collect();
    for (base, kept) in &partition.kept {
        let there = by_base.get(base).with_context(|| format!("{kept:?} at {base} is lost"))?;
        ensure!(
            there.fingerprint == kept.fingerprint && there.count == kept.count,
            "{kept:?} at {base} became {there:?}"
        );
    }
    let mut sequences: HashMap<(i64, i16), i32> = HashMap::new();
    for batch in found {
        summary.batches += 1;
        summary.bytes += batch.size as u64;
        let idempotent = batch.source.producer_id >= 0;
        if idempotent {
            let next = batch.source.sequence + batch.count as i32;
            let producer = (batch.source.producer_id, batch.source.epoch);
            if let Some(expected) = sequences.insert(producer, next) {
                ensure!(batch.source.sequence == expected, "{batch:?} comes where sequence {expected} is due");
            }
        }
        if partition.kept.contains_key(&batch.base) {
            continue;
        }
        let kept = Kept { fingerprint: batch.fingerprint, count: batch.count };
        let attempt = partition.attempts.get_mut(&batch.fingerprint);
        let attempt = attempt.with_context(|| format!("nobody sent {batch:?}, or it is there too often"))?;
        ensure!(attempt.count == batch.count, "{batch:?} has a wrong count");
        attempt.copies -= 1;
        if attempt.copies == 0 {
            partition.attempts.remove(&batch.fingerprint);
        }
        partition.keep(batch.base, kept, idempotent)?;
        summary.survivors += 1;
    }
    summary.vanished += partition.attempts.len() as u64;
    // The server that they were sent to is dead.
    partition.attempts.clear();
    Ok(())
}
