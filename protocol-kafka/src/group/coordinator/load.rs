//! What `__consumer_offsets` says after a start: read by replay threads, partition by partition, each one's groups at hand as soon
//! as it is read.

use super::super::classic::{Effects, Group};
use super::super::offsets::Offsets;
use super::super::records::{self, Committed, GroupRecord, Key};
use super::{FAILED, Inner, LOADING, READY, Slot};
use headwater_engine::batch::{INFLATED_SIZE_MAX, headers, records_of};
use headwater_engine::{Partition, Read, ReadError, ReadRequest};
use kafka_protocol::protocol::StrBytes;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Bytes read at a time.
const READ_SIZE: usize = 1 << 20;

/// What is kept of a group.
#[derive(Default)]
struct Kept {
    group: Option<GroupRecord>,
    offsets: HashMap<(StrBytes, i32), Committed>,
}

/// Loads every shard that is not loaded.
pub(super) async fn run(inner: Weak<Inner>) {
    let mut index = 0;
    loop {
        let reading = {
            let Some(inner) = inner.upgrade() else { return };
            let Some(opened) = inner.opened.get() else {
                // It is about to be there: this task was started on the way.
                drop(inner);
                tokio::task::yield_now().await;
                continue;
            };
            let Some(shard) = opened.shards.get(index) else { return };
            if shard.loading.load(Ordering::Acquire) != LOADING {
                index += 1;
                continue;
            }
            let partition = shard.partition.clone();
            inner.engine.offload(move || read(&partition))
        };
        let kept = reading.await;
        let Some(inner) = inner.upgrade() else { return };
        inner.loaded(index, kept.unwrap_or_else(|abandoned| Err(abandoned.to_string())));
        index += 1;
    }
}

/// Reads a partition from its beginning to its end. For a replay thread.
fn read(partition: &Arc<Partition>) -> Result<HashMap<StrBytes, Kept>, String> {
    let mut groups = HashMap::new();
    let mut from = partition.bounds().log_start;
    loop {
        let bounds = partition.bounds();
        if from >= bounds.high_watermark {
            return Ok(groups);
        }
        let request = ReadRequest { from, bytes_max: READ_SIZE, at_least_one: true, stable_only: false };
        let read = partition.read(&request).and_then(|read| match read {
            Read::Ready(batches) => Ok(batches),
            Read::Cold(cold) => cold.read(),
        });
        let batches = match read {
            Ok(batches) => batches,
            // Old records go while they are read.
            Err(ReadError::OutOfRange { bounds }) if from < bounds.log_start => {
                from = bounds.log_start;
                continue;
            }
            Err(error) => return Err(error.to_string()),
        };
        let Some(range) = batches.range else { return Ok(groups) };
        let bytes = range.bytes().map_err(|error| error.to_string())?;
        for (position, header) in headers(&bytes) {
            let records = records_of(&bytes.slice(position..), INFLATED_SIZE_MAX).map_err(|error| error.to_string())?;
            if header.attributes.is_control() {
                continue;
            }
            for record in &records {
                let record = record.map_err(|error| error.to_string())?;
                take(&mut groups, record.key.unwrap_or_default(), record.value);
            }
        }
        from = batches.next;
    }
}

/// Takes in one record; later ones replace earlier ones.
fn take(groups: &mut HashMap<StrBytes, Kept>, key: &[u8], value: Option<&[u8]>) {
    let taken = records::read_key(key).and_then(|key| {
        match key {
            Key::Offset { group, topic, partition } => {
                let kept = groups.entry(group).or_default();
                match value.map(Committed::read).transpose()? {
                    Some(committed) => kept.offsets.insert((topic, partition), committed),
                    None => kept.offsets.remove(&(topic, partition)),
                };
            }
            Key::Group(group) => groups.entry(group).or_default().group = value.map(GroupRecord::read).transpose()?,
            // Of a kind of group that is not served.
            Key::Other(_) => {}
        }
        Ok(())
    });
    if let Err(error) = taken {
        tracing::error!(%error, "a record of a consumer group is not understood and left out");
    }
}

impl Inner {
    fn loaded(self: &Arc<Inner>, index: usize, kept: Result<HashMap<StrBytes, Kept>, String>) {
        let Some(opened) = self.opened.get() else { return };
        let Some(shard) = opened.shards.get(index) else { return };
        let kept = match kept {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(partition = index, %error, "consumer groups cannot be read; they stay out of reach");
                shard.loading.store(FAILED, Ordering::Release);
                return;
            }
        };
        for (id, kept) in kept {
            if kept.group.is_none() && kept.offsets.is_empty() {
                continue;
            }
            let now = self.now(opened);
            let mut effects = Effects::default();
            let group = match kept.group {
                Some(record) => Group::restore(record, now, &self.rules, &mut effects),
                None => Group::new(now),
            };
            let mut offsets = Offsets::default();
            let mut gone = Vec::new();
            for ((topic, partition), committed) in kept.offsets {
                // The topic may have been deleted just before the end, and another one been made under its name.
                if !self.is_there(&topic, Some(&committed)) {
                    gone.push((topic.clone(), partition));
                }
                offsets.apply((topic, partition, Some(committed)));
            }
            let slot = Arc::new(Slot::new(id.clone(), index, group, offsets));
            let mut held = slot.held.lock();
            if !gone.is_empty()
                && let Err(error) = self.queue_gone(&slot, &mut held, now, gone, false)
            {
                tracing::warn!(group = &*id, %error, "offsets of a deleted topic stay until expired ones are looked for");
            }
            self.carry_out(&slot, &mut held, now, effects);
            drop(held);
            self.groups.fetch_add(1, Ordering::Relaxed);
            shard.groups.write().insert(id, slot);
        }
        shard.loading.store(READY, Ordering::Release);
    }
}
