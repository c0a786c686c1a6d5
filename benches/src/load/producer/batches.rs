//! Batches by how many scheduled ones they hold.
//!
//! A client whose linger is 0 sends a record at once, and what comes while it must wait goes out together. So do requests here that are due
//! while none may be sent: their records join into one batch for each partition. Such batches are encoded when they are first needed,
//! and kept.

use crate::kafka::Error;
use crate::kafka::batch::{Batch, Shape};
use std::sync::OnceLock;

/// More scheduled batches than this never join, so that what is kept stays small.
const JOINED_MAX: u64 = 256;

/// The batches of one shape.
pub struct Batches {
    shape: Shape,
    one: Batch,
    /// Of two scheduled ones, of three, and so on.
    more: Vec<OnceLock<Batch>>,
}

impl Batches {
    /// The batch of that shape. Where a shape counts its records, more of them join as long as they fit its size.
    pub fn new(shape: &Shape) -> Result<Self, Error> {
        let one = shape.batch()?;
        let joined_max = match shape.records {
            Some(_) => (shape.records_that_fit() / one.records.max(1)).clamp(1, JOINED_MAX),
            None => 1,
        };
        Ok(Self { shape: shape.clone(), one, more: (1..joined_max).map(|_| OnceLock::new()).collect() })
    }

    /// The batch that is on the schedule.
    pub fn one(&self) -> &Batch {
        &self.one
    }

    /// How many of them join at most.
    pub fn joined_max(&self) -> usize {
        self.more.len() + 1
    }

    /// So many of them as one.
    pub fn joined(&self, count: usize) -> Result<&Batch, Error> {
        let Some(cell) = count.checked_sub(2).and_then(|at| self.more.get(at)) else { return Ok(&self.one) };
        if let Some(batch) = cell.get() {
            return Ok(batch);
        }
        let records = self.shape.records.map(|records| records * count);
        let batch = Shape { records, ..self.shape.clone() }.batch()?;
        Ok(cell.get_or_init(|| batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::batch::walk;
    use headwater_engine::batch::Codec;

    #[test]
    fn joined_batches_hold_what_the_single_ones_would_and_fit_the_size() {
        let shape = Shape { records: Some(5), ..Shape::plain(1024, 16_384) };
        let batches = Batches::new(&shape).unwrap();
        assert_eq!(batches.joined_max(), 3);
        for count in [1, 2, 3, 3] {
            let batch = batches.joined(count).unwrap();
            assert_eq!((batch.records, batch.value_bytes), (5 * count as u64, 5 * 1024 * count as u64));
            assert_eq!(walk(&batch.bytes, 0, |_| {}).unwrap().records, batch.records);
            assert!(batch.bytes.len() <= 16_384);
        }
        let packed = Batches::new(&Shape { codec: Codec::Lz4, repeats: 0.5, ..shape.clone() }).unwrap();
        assert_eq!(walk(&packed.joined(3).unwrap().bytes, 0, |_| {}).unwrap().records, 15);
        let alone = [Shape { batch_bytes: 0, ..shape.clone() }, Shape { records: None, ..shape }];
        assert!(alone.iter().all(|shape| Batches::new(shape).unwrap().joined_max() == 1));
    }
}
