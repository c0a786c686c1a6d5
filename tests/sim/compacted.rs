//! What must hold of a compacted partition: records go, but only those that a later one of their key stands for (or null values, after
//! their time); what is left is as it was appended, at its offset; and batches follow one another without a gap.

use crate::batches::{Row, Stored, rows};
use crate::ensure;
use crate::state::{Key, PartitionState, State};
use bytes::Bytes;
use headwater_engine::batch::{headers, verify_crc};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A pass of compaction that began.
#[derive(Clone)]
struct Pass {
    at: i64,
    /// The topics that it may have come to, and for how long each keeps null values.
    delete_retention_ms: BTreeMap<Key, i64>,
    /// The partition that it came to and the offset where it ended, once that is known.
    reach: Option<(Key, usize, i64)>,
}

/// All passes that began, whatever became of them.
#[derive(Clone, Default)]
pub struct Passes(Vec<Pass>);

/// A pass that may have come to a partition.
struct Sight {
    number: usize,
    at: i64,
    delete_retention_ms: i64,
    /// Where it ended at the latest.
    end: i64,
}

/// The passes that may have come to one partition.
pub struct Seen(Vec<Sight>);

fn is_compacted(settings: &BTreeMap<String, String>) -> bool {
    settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"))
}

fn delete_retention_ms(settings: &BTreeMap<String, String>) -> i64 {
    settings.get("delete.retention.ms").and_then(|text| text.parse().ok()).unwrap_or(86_400_000)
}

impl Passes {
    /// A pass begins, and finds these topics.
    pub fn begin(&mut self, at: i64, state: &State) {
        let compacted = state.topics.iter().filter(|(_, topic)| is_compacted(&topic.settings));
        let delete_retention_ms = compacted.map(|(key, topic)| (*key, delete_retention_ms(&topic.settings))).collect();
        self.0.push(Pass { at, delete_retention_ms, reach: None });
    }

    /// The last pass is done.
    pub fn end(&mut self, reach: Option<(Key, usize, i64)>) {
        if let Some(pass) = self.0.last_mut() {
            pass.reach = reach;
        }
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What may have come to a partition; none when everything that was appended to it must be there.
    pub fn of(&self, key: Key, index: usize) -> Option<Seen> {
        let sight = |(number, pass): (usize, &Pass)| {
            let end = match pass.reach {
                None => i64::MAX,
                Some((its_key, its_index, end)) if (its_key, its_index) == (key, index) => end,
                Some(_) => return None,
            };
            let delete_retention_ms = *pass.delete_retention_ms.get(&key)?;
            Some(Sight { number, at: pass.at, delete_retention_ms, end })
        };
        let seen: Vec<_> = self.0.iter().enumerate().filter_map(sight).collect();
        (!seen.is_empty()).then_some(Seen(seen))
    }
}

impl Seen {
    /// Whether a pass may have known a batch's record at this offset.
    fn knows(&self, batch: &Stored, offset: i64) -> bool {
        self.0.iter().any(|pass| pass.number >= batch.passes_before && offset < pass.end)
    }

    /// Whether a batch's null values may be gone: one pass said when they may go, and a later one came after that time.
    fn has_expired(&self, batch: &Stored) -> bool {
        let mut horizon = i64::MAX;
        let knows = |pass: &&Sight| pass.number >= batch.passes_before && batch.base < pass.end;
        self.0.iter().filter(knows).any(|pass| {
            let is_later = pass.at >= horizon;
            if batch.end() <= pass.end {
                horizon = horizon.min(pass.at.saturating_add(pass.delete_retention_ms));
            }
            is_later
        })
    }
}

/// Batches that a read gave.
pub struct Found {
    pub rows: Vec<Row>,
    /// How many batches, and the size of the first.
    pub batches: usize,
    /// The offset behind the last.
    pub next: i64,
}

/// Takes apart what a read from `from` gave, and holds every record against the one that was appended there.
pub fn found(due: &PartitionState, bytes: &Bytes, from: i64) -> Result<Found, String> {
    let mut found = Found { rows: Vec::new(), batches: 0, next: from };
    let mut walk = headers(bytes);
    for (position, header) in walk.by_ref() {
        let (base, next) = (header.base_offset.0, header.next_offset().0);
        let fits = if found.batches == 0 { base <= from && from < next } else { base == found.next };
        ensure!(fits, "a batch from {base} to {next} follows {}", found.next);
        let batch = bytes.slice(position..position + header.size);
        verify_crc(&batch).map_err(|error| error.to_string())?;
        // What stands for offsets before the log start has the oldest epoch that is known.
        let shown = base.max(due.log_start);
        let after = due.epochs.iter().position(|(_, start)| *start > shown).unwrap_or(due.epochs.len());
        if let Some((epoch, _)) = after.checked_sub(1).map(|at| due.epochs[at]) {
            ensure!(header.leader_epoch.0 == epoch, "the batch at {base} has epoch {}", header.leader_epoch);
            let end = due.epochs.get(after).map_or(i64::MAX, |(_, start)| *start);
            ensure!(next <= end, "the batch from {base} to {next} reaches over the end of epoch {epoch} at {end}");
        }
        let mut last = base - 1;
        for row in rows(&batch)? {
            let offset = row.offset;
            ensure!(last < offset && offset < next, "the record at {offset} follows {last} in [{base}, {next})");
            last = offset;
            // What lies before the log start may be known no more.
            let known = due.batches.partition_point(|batch| batch.end() <= offset);
            if let Some(batch) = due.batches.get(known).filter(|batch| batch.base <= offset) {
                let appended = &batch.rows()[(offset - batch.base) as usize];
                ensure!(row == *appended, "the record at {offset} is {row:?} and was {appended:?}");
            }
            found.rows.push(row);
        }
        ensure!(header.record_count as usize == rows(&batch)?.len(), "the batch at {base} has another count");
        (found.next, found.batches) = (next, found.batches + 1);
    }
    ensure!(walk.position() == bytes.len(), "what follows {} is no batch", found.next);
    Ok(found)
}

/// Every record from `from` to `next` is among the rows, unless compaction may have taken it.
pub fn check_gone(due: &PartitionState, rows: &[Row], (from, next): (i64, i64), seen: &Seen) -> Result<(), String> {
    let mut last: HashMap<&Option<Vec<u8>>, i64> = HashMap::new();
    for batch in &due.batches {
        for row in batch.rows().iter().filter(|row| seen.knows(batch, row.offset)) {
            last.insert(&row.key, row.offset);
        }
    }
    let there: HashSet<i64> = rows.iter().map(|row| row.offset).collect();
    for batch in due.batches.iter().filter(|batch| batch.end() > from && batch.base < next) {
        for row in batch.rows().iter().filter(|row| (from..next).contains(&row.offset)) {
            if there.contains(&row.offset) {
                continue;
            }
            let is_superseded = last.get(&row.key).is_some_and(|last| *last > row.offset);
            let is_expired = row.value.is_none() && seen.has_expired(batch);
            ensure!(is_superseded || is_expired, "the record at {} is gone: {row:?}", row.offset);
        }
    }
    Ok(())
}

/// Where a key's last record is gone, all are: a value must not come back.
pub fn check_all(due: &PartitionState, rows: &[Row], log_start: i64) -> Result<(), String> {
    let there: HashSet<i64> = rows.iter().map(|row| row.offset).collect();
    let mut last: HashMap<&Option<Vec<u8>>, i64> = HashMap::new();
    for row in due.batches.iter().flat_map(|batch| batch.rows()) {
        last.insert(&row.key, row.offset);
    }
    for row in rows.iter().filter(|row| row.offset >= log_start) {
        let last = last.get(&row.key).copied().unwrap_or(row.offset);
        ensure!(there.contains(&last), "the record at {} is there, and the later one at {last} is gone", row.offset);
    }
    Ok(())
}

/// What is left of a partition, from the log start on, after everything about it was checked.
pub fn left(due: &PartitionState, bytes: &Bytes, log_start: i64, seen: &Seen) -> Result<Vec<Row>, String> {
    let mut found = found(due, bytes, log_start)?;
    ensure!(found.next == due.next, "it ends at {} instead of {}", found.next, due.next);
    found.rows.retain(|row| row.offset >= log_start);
    check_gone(due, &found.rows, (log_start, due.next), seen)?;
    check_all(due, &found.rows, log_start)?;
    Ok(found.rows)
}
