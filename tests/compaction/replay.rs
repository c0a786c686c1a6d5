//! A consumer that reads a partition from the beginning and believes nothing.

use crate::load::Shared;
use crate::plan::{Plan, TOPIC};
use anyhow::{Result, ensure};
use headwater_engine::batch::{headers, records_of, verify_crc};
use headwater_tests::calls::{Wanted, fetch};
use headwater_tests::client::Failure;
use uuid::Uuid;

const BYTES_MAX: i32 = 2 << 20;

/// What a replay met: offset by offset, whether the value is null.
pub struct Left(Vec<(u64, bool)>);

#[derive(Debug)]
pub struct Count {
    pub records: u64,
    pub null_values: u64,
}

impl Left {
    /// Whether it met nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What lies before an offset.
    pub fn before(&self, end: u64) -> Count {
        let old = || self.0.iter().filter(|(offset, _)| *offset < end);
        Count { records: old().count() as u64, null_values: old().filter(|(_, is_null)| *is_null).count() as u64 }
    }
}

/// Reads a partition up to what is acknowledged now, and holds it against the plan. None when the server went away meanwhile.
pub fn replay(plan: &Plan, shared: &Shared, partition: usize) -> Result<Option<Left>> {
    match try_replay(plan, shared, partition) {
        Err(error) if error.downcast_ref::<Failure>().is_some_and(Failure::is_lost) => Ok(None),
        outcome => outcome.map(Some),
    }
}

fn try_replay(plan: &Plan, shared: &Shared, partition: usize) -> Result<Left> {
    let end = shared.end(partition);
    let mut client = shared.connect()?;
    let mut seen = vec![-1i64; plan.keys as usize];
    let mut left = Left(Vec::new());
    let mut next = 0i64;
    while next < end as i64 {
        let wanted = Wanted {
            topic: TOPIC,
            id: Uuid::nil(),
            partition: partition as i32,
            offset: next,
            bytes_max: BYTES_MAX,
            wait_ms: 1_000,
        };
        let row = fetch(&mut client, 12, wanted)?;
        ensure!(row.error_code == 0, "Fetch from {next} answers {}", row.error_code);
        let bytes = row.records.unwrap_or_default();
        let from = next;
        for (position, header) in headers(&bytes) {
            let batch = bytes.slice(position..position + header.size);
            verify_crc(&batch)?;
            let (base, end) = (header.base_offset.0, header.next_offset().0);
            ensure!(base <= next && next < end, "a batch from {base} to {end} follows {next}");
            ensure!(base == next || next == from, "a batch from {base} goes back behind {next}");
            let mut last = base - 1;
            for record in &records_of(&batch, 64 << 20)? {
                let record = record?;
                let offset = record.offset.0;
                ensure!(last < offset && offset < end, "the record at {offset} follows {last}");
                last = offset;
                let offset = u64::try_from(offset)?;
                let (key, is_null) = plan.record(partition, offset);
                ensure!(record.key == Some(&key.to_be_bytes()[..]), "another key at {offset}");
                let value = Plan::value(offset);
                let due = Some(&value[..]).filter(|_| !is_null);
                ensure!(record.value == due, "another value at {offset}: {:?}", record.value);
                seen[key as usize] = record.offset.0;
                left.0.push((offset, is_null));
            }
            next = end;
        }
        ensure!(next > from, "a fetch from {from} brings nothing, and {end} is acknowledged");
    }
    for (key, (seen, due)) in seen.iter().zip(plan.last(partition, end)).enumerate() {
        let may_be_gone = due < 0 || plan.record(partition, due as u64).1;
        ensure!(
            *seen >= due || (may_be_gone && *seen < 0),
            "key {key} was last written at {due} before {end}, and the replay ends at {seen}"
        );
    }
    Ok(left)
}
