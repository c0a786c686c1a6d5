//! The records inside of what a fetch brought, cut to what was asked for.

use super::place::Place;
use crate::client::{Fetched, Gap, Span};
use crate::exit::{FAILED, Failure};
use headwater_engine::batch::{INFLATED_SIZE_MAX, Record, headers, records_of, verify_crc};
use std::io;
use std::ops::ControlFlow;

/// Calls `visit` with each record of the span, in order, until it breaks off. Batches are checked before their records are
/// shown; markers of transactions are left out.
pub fn each_record(
    fetched: &Fetched,
    span: &Span,
    mut visit: impl FnMut(Record<'_>) -> io::Result<ControlFlow<()>>,
) -> Result<(), Failure> {
    let end = span.end.unwrap_or(i64::MAX);
    for (position, header) in headers(&fetched.batches) {
        if header.attributes.is_control() || header.last_offset().0 < fetched.from {
            continue;
        }
        let batch = fetched.batches.slice(position..position + header.size);
        let damaged = |error| {
            let place = format!("{}/{} at offset {}", span.topic, span.partition, header.base_offset);
            Failure::new(FAILED, format!("{place} cannot be read: {error}"))
        };
        verify_crc(&batch).map_err(damaged)?;
        for record in &records_of(&batch, INFLATED_SIZE_MAX).map_err(damaged)? {
            let record = record.map_err(damaged)?;
            if record.offset.0 < fetched.from {
                continue;
            }
            if record.offset.0 >= end || visit(record)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Whether a gap is a part of what was asked for: where reading should begin with the first record that there is, it just
/// begins later.
pub fn is_loss(gap: &Gap, starts: &[i64], from: Place) -> bool {
    !(from.is_earliest() && starts.get(gap.span) == Some(&gap.from))
}
