//! Holding an engine that was opened after a stop against what must be there.

use crate::batches::Stored;
use crate::compacted::{self, Passes};
use crate::ensure;
use crate::state::{Event, PartitionState, State};
use bytes::Bytes;
use headwater_engine::{Engine, Epoch, Offset, Partition, Read, ReadRequest, TopicId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What must be found: a state and a prefix of what follows it.
pub struct Expectation {
    pub base: State,
    pub tail: Vec<Event>,
    /// The latest epoch that served before.
    pub epoch: Option<i32>,
    pub data_id: Option<TopicId>,
    /// Ids of all topics that ever were.
    pub ids: BTreeSet<TopicId>,
    /// Passes of compaction that began before.
    pub passes: Passes,
}

impl Expectation {
    /// The state that the engine shows, if it is one that it may show.
    pub fn find(&self, engine: &Engine) -> Result<State, String> {
        ensure!(
            self.epoch.is_none_or(|epoch| engine.node_epoch().0 > epoch),
            "epoch {} follows {:?}",
            engine.node_epoch(),
            self.epoch
        );
        ensure!(
            self.data_id.is_none_or(|id| engine.data_id() == id),
            "the data folder has another id than before: {}",
            engine.data_id()
        );
        let mut state = self.base.clone();
        let mut reasons = Vec::new();
        for next in 0..=self.tail.len() {
            match self.outline(&mut state, engine) {
                Ok(()) => {
                    compare(&state, &self.passes, engine)?;
                    return Ok(state);
                }
                Err(why) => reasons.push(why),
            }
            if let Some(event) = self.tail.get(next) {
                state.apply(event);
            }
        }
        let tail: Vec<String> = self.tail.iter().map(ToString::to_string).collect();
        let (first, last) = (&reasons[0], &reasons[reasons.len() - 1]);
        Err(format!(
            "what is there is no prefix of what was asked. Against all that was answered: {first}. Against all that was asked: {last}. Not answered: {tail:#?}"
        ))
    }

    /// Compares everything but the records. Learns where logs start and the ids of topics whose creation was not answered.
    fn outline(&self, state: &mut State, engine: &Engine) -> Result<(), String> {
        let topics = engine.topics();
        let names: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
        let mut due: Vec<&str> = state.topics.values().map(|topic| topic.name.as_str()).collect();
        due.sort_unstable();
        ensure!(names == due, "there are topics {names:?} instead of {due:?}");
        for topic in topics {
            let name = topic.name();
            let key = state.by_name(name).ok_or("no such topic")?;
            let known = state.topics.get_mut(&key).ok_or("no such topic")?;
            match known.id {
                Some(id) => ensure!(id == topic.id(), "{name} has id {} instead of {id}", topic.id()),
                None => ensure!(!self.ids.contains(&topic.id()), "{name} has the id of another topic"),
            }
            ensure!(topic.settings().overrides() == &known.settings, "{name} has other settings");
            let (found, due) = (topic.partitions().len(), known.partitions.len());
            ensure!(found == due, "{name} has {found} partitions instead of {due}");
            for (partition, due) in topic.partitions().iter().zip(&known.partitions) {
                let place = format!("{name}/{}", partition.index());
                let bounds = partition.bounds();
                let high_watermark = bounds.high_watermark.0;
                ensure!(high_watermark == due.next, "{place} ends at {high_watermark} instead of {}", due.next);
                let starts: Vec<i64> = due.starts().collect();
                let log_start = bounds.log_start.0;
                ensure!(starts.contains(&log_start), "{place} starts at {log_start} instead of {starts:?}");
            }
        }
        for topic in engine.topics() {
            let key = state.by_name(topic.name()).ok_or("no such topic")?;
            let known = state.topics.get_mut(&key).ok_or("no such topic")?;
            known.id = Some(topic.id());
            for (partition, due) in topic.partitions().iter().zip(&mut known.partitions) {
                due.resolve(partition.bounds().log_start.0);
            }
        }
        Ok(())
    }
}

/// Compares every kept record, byte for byte, and the epochs.
pub fn compare(state: &State, passes: &Passes, engine: &Engine) -> Result<(), String> {
    for (key, topic) in &state.topics {
        let name = &topic.name;
        let found = engine.topic(name).ok_or_else(|| format!("there is no topic {name}"))?;
        ensure!(topic.id.is_none_or(|id| id == found.id()), "{name} has another id");
        for (index, due) in topic.partitions.iter().enumerate() {
            let partition = found.partition(index as u32).ok_or_else(|| format!("{name} has no partition {index}"))?;
            let place = format!("{name}/{index}");
            let bytes = read_all(&partition).map_err(|why| format!("{place}: {why}"))?;
            let compared = match passes.of(*key, index) {
                None => compare_bytes(&due.batches, &bytes),
                Some(seen) => compacted::left(due, &bytes.into(), due.log_start, &seen).map(|_| ()),
            };
            compared.map_err(|why| format!("{place}: {why}"))?;
            compare_epochs(due, &partition).map_err(|why| format!("{place}: {why}"))?;
        }
    }
    Ok(())
}

fn compare_epochs(due: &PartitionState, partition: &Partition) -> Result<(), String> {
    ensure!(partition.leader_epoch().0 == due.epoch(), "epoch {} instead of {}", partition.leader_epoch(), due.epoch());
    for (index, (epoch, _)) in due.epochs.iter().enumerate() {
        let end = due.epochs.get(index + 1).map_or(due.next, |next| next.1);
        if end > due.log_start {
            let found = partition.epoch_end(Epoch(*epoch)).map(|(epoch, end)| (epoch.0, end.0));
            ensure!(found == Some((*epoch, end)), "epoch {epoch} ends at {found:?} instead of {end}");
        }
    }
    Ok(())
}

fn compare_bytes(due: &[Arc<Stored>], bytes: &[u8]) -> Result<(), String> {
    let mut rest = bytes;
    for batch in due {
        let (found, after) = rest.split_at(batch.bytes.len().min(rest.len()));
        ensure!(found == batch.bytes, "the batch at offset {} is not the one that was appended", batch.base);
        rest = after;
    }
    ensure!(rest.is_empty(), "{} bytes too many", rest.len());
    Ok(())
}

/// Everything that is kept, in whole batches.
pub fn read_all(partition: &Arc<Partition>) -> Result<Vec<u8>, String> {
    let bounds = partition.bounds();
    let mut all = Vec::new();
    let mut from = bounds.log_start;
    while from < bounds.high_watermark {
        let request = ReadRequest { from, bytes_max: 1 << 20, at_least_one: true, stable_only: false };
        let (bytes, next) = read(partition, &request)?;
        ensure!(next > from, "a read from {from} came no further than {next}");
        all.extend_from_slice(&bytes);
        from = next;
    }
    ensure!(from == bounds.high_watermark, "a read went on to {from}, past {}", bounds.high_watermark);
    Ok(all)
}

/// Reads, waiting when it must.
pub fn read(partition: &Arc<Partition>, request: &ReadRequest) -> Result<(Bytes, Offset), String> {
    let batches = match partition.read(request).map_err(|error| error.to_string())? {
        Read::Ready(batches) => batches,
        Read::Cold(cold) => cold.read().map_err(|error| error.to_string())?,
    };
    let bytes = match &batches.range {
        Some(range) => range.bytes().map_err(|error| error.to_string())?,
        None => Bytes::new(),
    };
    Ok((bytes, batches.next))
}
