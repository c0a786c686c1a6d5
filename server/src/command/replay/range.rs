//! The range of a replay: what a person wrote, as offsets of each partition.

use crate::client::{At, Cluster, Span};
use crate::command::place::Place;
use crate::command::selection::Selection;
use crate::exit::{FAILED, Failure};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Whether no partition could have anything in the range.
pub fn is_reversed(from: Place, to: Place) -> bool {
    match (from, to) {
        (Place::Offset(from), Place::Offset(to)) | (Place::At(At::Time(from)), Place::At(At::Time(to))) => from > to,
        _ => false,
    }
}

/// A span for each partition, and what is not as it was asked for.
pub async fn spans(
    cluster: &mut Cluster,
    topics: &[Selection],
    from: Place,
    to: Place,
) -> Result<(Vec<Span>, Vec<String>), Failure> {
    let mut chosen: BTreeMap<&str, (Uuid, BTreeSet<i32>)> = BTreeMap::new();
    for selection in topics {
        let state = cluster.topic(&selection.topic, false).await?;
        let existing: Vec<i32> = state.partitions.iter().map(|row| row.partition).collect();
        let of_topic = selection.of(&existing).map_err(|why| Failure::new(FAILED, why))?;
        chosen.entry(&selection.topic).or_insert_with(|| (state.id, BTreeSet::new())).1.extend(of_topic);
    }
    let (mut spans, mut warnings) = (Vec::new(), Vec::new());
    for (topic, (topic_id, partitions)) in chosen {
        let partitions: Vec<i32> = partitions.into_iter().collect();
        let bounds = Bounds {
            first: cluster.offsets(topic, &partitions, At::Earliest).await?,
            end: cluster.offsets(topic, &partitions, At::Latest).await?,
            of_from: of_time(cluster, topic, &partitions, from).await?,
            of_to: of_time(cluster, topic, &partitions, to).await?,
        };
        for partition in partitions {
            let cut = bounds.cut(partition, from, to);
            let place = format!("{topic}/{partition}");
            warnings.extend(cut.warning.map(|warning| format!("{place} {warning}")));
            spans.push(Span { topic: topic.to_owned(), topic_id, partition, next: cut.from, end: Some(cut.end) });
        }
    }
    Ok((spans, warnings))
}

/// The offsets of a time; nothing for other places.
async fn of_time(
    cluster: &mut Cluster,
    topic: &str,
    partitions: &[i32],
    place: Place,
) -> Result<BTreeMap<i32, i64>, Failure> {
    match place {
        Place::At(time @ At::Time(_)) => Ok(cluster.offsets(topic, partitions, time).await?),
        _ => Ok(BTreeMap::new()),
    }
}

/// What the broker said about the partitions of a topic.
struct Bounds {
    first: BTreeMap<i32, i64>,
    end: BTreeMap<i32, i64>,
    of_from: BTreeMap<i32, i64>,
    of_to: BTreeMap<i32, i64>,
}

/// A range within what a partition has.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    from: i64,
    end: i64,
    /// What the person who asked may not expect.
    warning: Option<String>,
}

impl Bounds {
    fn cut(&self, partition: i32, from: Place, to: Place) -> Cut {
        let of = |offsets: &BTreeMap<i32, i64>| offsets.get(&partition).copied();
        let first = of(&self.first).unwrap_or_default();
        let end = of(&self.end).unwrap_or_default().max(first);
        let offset = |place: Place, of_time: &BTreeMap<i32, i64>| match place {
            Place::Offset(offset) => offset,
            Place::At(At::Earliest) => first,
            Place::At(At::Latest) => end,
            // No record is that late: what comes next will be.
            Place::At(At::Time(_)) => of(of_time).filter(|offset| *offset >= 0).unwrap_or(end),
        };
        let (wanted_from, wanted_to) = (offset(from, &self.of_from), offset(to, &self.of_to));
        let warning = if wanted_from < first {
            Some(format!("begins at offset {first}: what was before it is deleted"))
        } else if wanted_from > end {
            Some(format!("ends at offset {end}: it has nothing from {wanted_from} on"))
        } else if wanted_to > end {
            Some(format!("ends at offset {end}, before {wanted_to}"))
        } else {
            None
        };
        let from = wanted_from.clamp(first, end);
        Cut { from, end: wanted_to.clamp(from, end), warning }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(from: &str, to: &str) -> (i64, i64, bool) {
        let bounds = Bounds {
            first: [(0, 10)].into(),
            end: [(0, 20)].into(),
            of_from: [(0, 13)].into(),
            of_to: [(0, -1)].into(),
        };
        let cut = bounds.cut(0, from.parse().unwrap(), to.parse().unwrap());
        (cut.from, cut.end, cut.warning.is_some())
    }

    #[test]
    fn ranges_lie_within_the_partition() {
        assert_eq!(cut("earliest", "latest"), (10, 20, false));
        assert_eq!(cut("12", "15"), (12, 15, false));
        assert_eq!(cut("12", "12"), (12, 12, false));
        assert_eq!(cut("latest", "earliest"), (20, 20, false));
        assert_eq!(cut("@1", "@2"), (13, 20, false));
        assert_eq!(cut("0", "15"), (10, 15, true));
        assert_eq!(cut("0", "5"), (10, 10, true));
        assert_eq!(cut("15", "100"), (15, 20, true));
        assert_eq!(cut("50", "100"), (20, 20, true));
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_seen() {
        let reversed = |from: &str, to: &str| is_reversed(from.parse().unwrap(), to.parse().unwrap());
        assert!(reversed("2", "1") && reversed("@2", "@1") && reversed("2025-01-02", "2025-01-01"));
        assert!(!reversed("1", "1") && !reversed("latest", "earliest") && !reversed("5", "@1"));
    }
}
