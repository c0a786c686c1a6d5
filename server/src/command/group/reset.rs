//! `headwater group reset`: moves the committed offsets of a group that nobody uses.
//!
//! The plan is made first and shown; only --execute commits it. Offsets stay within what a partition holds, so that the next
//! consumer does not fall back on its own idea of where to begin.

use super::{active, missing};
use crate::cli::Asking;
use crate::client::{At, ClientError, Cluster, Committed, TopicPartition};
use crate::command::place::moment;
use crate::command::selection::Selection;
use crate::exit::{FAILED, Failure};
use crate::output::{Report, columns};
use clap::{ArgGroup, Args};
use kafka_protocol::error::ResponseError;
use std::collections::BTreeMap;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["topics", "all_topics"]))]
#[command(group = ArgGroup::new("target_offset").required(true)
    .args(["to_earliest", "to_latest", "to_offset", "to_time", "shift_by"]))]
#[command(after_help = "\
Without --execute nothing is changed. The group must have no members. A group that is not there is made, when --topic names \
partitions. Offsets that a partition does not hold become its first or its end.")]
pub struct ResetArgs {
    group: String,
    /// This topic, or some of its partitions: orders:0,2,5-7; may be repeated
    #[arg(id = "topics", long = "topic", value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<Selection>,
    /// Every partition that the group has committed an offset in, and that is still there
    #[arg(long)]
    all_topics: bool,
    /// To the first record
    #[arg(long)]
    to_earliest: bool,
    /// To the end: what is there counts as read
    #[arg(long)]
    to_latest: bool,
    /// To this offset
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record of this time or later: milliseconds since 1970, or 2025-01-31T12:00:00Z
    #[arg(long, alias = "to-datetime", value_name = "TIME", value_parser = moment)]
    to_time: Option<i64>,
    /// This many records on; back when negative
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// Commit the offsets, instead of showing them
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Where offsets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Earliest,
    Latest,
    Offset(i64),
    Time(i64),
    Shift(i64),
}

impl ResetArgs {
    fn target(&self) -> Target {
        match (self.to_offset, self.to_time, self.shift_by) {
            (Some(offset), _, _) => Target::Offset(offset),
            (_, Some(time), _) => Target::Time(time),
            (_, _, Some(count)) => Target::Shift(count),
            _ if self.to_earliest => Target::Earliest,
            _ => Target::Latest,
        }
    }
}

/// What is known about a partition.
#[derive(Debug, Clone, Copy)]
struct Known {
    committed: Option<i64>,
    first: i64,
    end: i64,
    /// The offset of the time that was asked for; none when no record is that late.
    of_time: Option<i64>,
}

/// The new offset, and what is unusual about it.
fn planned(target: Target, known: Known) -> Result<(i64, Option<&'static str>), &'static str> {
    let wanted = match target {
        Target::Earliest => known.first,
        Target::Latest => known.end,
        Target::Offset(offset) => offset,
        Target::Time(_) => match known.of_time {
            Some(offset) => offset,
            None => return Ok((known.end, Some("no record is that late"))),
        },
        Target::Shift(count) => match known.committed {
            Some(offset) => offset.saturating_add(count),
            None => return Err("nothing is committed that could be shifted"),
        },
    };
    let note = match wanted {
        _ if wanted < known.first => Some("the partition begins here"),
        _ if wanted > known.end => Some("the partition ends here"),
        _ => None,
    };
    // A partition may be trimmed between the two questions, so that its end seems to lie before its first offset.
    Ok((wanted.min(known.end).max(known.first), note))
}

/// Runs the command.
pub async fn run(args: &ResetArgs) -> Result<(), Failure> {
    let (group, target) = (args.group.as_str(), args.target());
    let mut cluster = args.asking.connect().await?;
    let state = cluster.group(group).await?;
    if let Some(state) = state.as_ref().filter(|state| state.is_active()) {
        return Err(active(group, state.members.len()));
    }
    if state.is_none() && args.all_topics {
        return Err(missing(group));
    }
    let committed = cluster.committed(group).await?;
    let mut rows = Vec::new();
    for (topic, partitions) in chosen(args, &mut cluster, &committed).await? {
        for (partition, known) in known(&mut cluster, &topic, &partitions, target, &committed).await? {
            let (to, note) = planned(target, known)
                .map_err(|why| Failure::new(FAILED, format!("group {group}, {topic}/{partition}: {why}")))?;
            rows.push(Move { topic: topic.clone(), partition, from: known.committed, to, end: known.end, note });
        }
    }
    if args.execute {
        let offsets = rows.iter().map(|row| ((row.topic.clone(), row.partition), row.to)).collect();
        commit(&mut cluster, group, &offsets).await?;
    }
    Ok(args.asking.output.print(&Reset { group: group.to_owned(), executed: args.execute, partitions: rows })?)
}

async fn commit(cluster: &mut Cluster, group: &str, offsets: &BTreeMap<TopicPartition, i64>) -> Result<(), Failure> {
    let mut refused = match cluster.commit(group, offsets).await {
        Ok(refused) => refused,
        Err(error @ (ClientError::Lost { .. } | ClientError::Timeout { .. })) => {
            let hint = format!("the offsets may be committed or not: `headwater group describe {group}` shows them");
            return Err(Failure::from(error).hint(hint));
        }
        Err(error) => return Err(error.into()),
    };
    // A consumer may have joined since the group was looked at: then the broker refuses a commit from outside, as a whole.
    let is_joined = |error: &ClientError| {
        [ResponseError::UnknownMemberId, ResponseError::IllegalGeneration, ResponseError::RebalanceInProgress]
            .into_iter()
            .any(|code| error.is(code))
    };
    let names: Vec<String> = refused.keys().map(|(topic, partition)| format!("{topic}/{partition}")).collect();
    let Some((_, error)) = refused.pop_first() else { return Ok(()) };
    if is_joined(&error) {
        return Err(super::in_use(cluster, group, error).await);
    }
    if names.len() == offsets.len() {
        return Err(error.into());
    }
    let done = offsets.keys().map(|(topic, partition)| format!("{topic}/{partition}"));
    let done: Vec<String> = done.filter(|name| !names.contains(name)).collect();
    let message = format!("{error}\ncommitted: {}\nnot committed: {}", done.join(" "), names.join(" "));
    Err(Failure { message, ..Failure::from(error) })
}

/// The partitions to move, by topic.
async fn chosen(
    args: &ResetArgs,
    cluster: &mut Cluster,
    committed: &BTreeMap<TopicPartition, Committed>,
) -> Result<BTreeMap<String, Vec<i32>>, Failure> {
    let mut chosen: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    if args.all_topics {
        for (topic, partition) in committed.keys() {
            chosen.entry(topic.clone()).or_default().push(*partition);
        }
        if chosen.is_empty() {
            return Err(Failure::new(FAILED, format!("group {} has no committed offsets", args.group)));
        }
        leave_out_missing(cluster, &mut chosen).await?;
        if chosen.is_empty() {
            let message = format!("nothing is there any more of what group {} has committed offsets in", args.group);
            return Err(Failure::new(FAILED, message));
        }
    }
    for selection in &args.topics {
        let state = cluster.topic(&selection.topic, false).await?;
        let existing: Vec<i32> = state.partitions.iter().map(|row| row.partition).collect();
        let of_topic = chosen.entry(selection.topic.clone()).or_default();
        of_topic.extend(selection.of(&existing).map_err(|why| Failure::new(FAILED, why))?);
        of_topic.sort_unstable();
        of_topic.dedup();
    }
    Ok(chosen)
}

/// Leaves out partitions that were deleted since the group committed an offset in them, and says so.
async fn leave_out_missing(cluster: &mut Cluster, chosen: &mut BTreeMap<String, Vec<i32>>) -> Result<(), Failure> {
    for (topic, partitions) in chosen.iter_mut() {
        let existing: Vec<i32> = match cluster.topic(topic, false).await {
            Ok(state) => state.partitions.iter().map(|row| row.partition).collect(),
            Err(error) if error.is(ResponseError::UnknownTopicOrPartition) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        for partition in partitions.extract_if(.., |partition| !existing.contains(partition)) {
            eprintln!("warning: {topic}/{partition} is not there any more: it is left out");
        }
    }
    chosen.retain(|_, partitions| !partitions.is_empty());
    Ok(())
}

/// What the broker knows about partitions of a topic.
async fn known(
    cluster: &mut Cluster,
    topic: &str,
    partitions: &[i32],
    target: Target,
    committed: &BTreeMap<TopicPartition, Committed>,
) -> Result<Vec<(i32, Known)>, Failure> {
    let first = cluster.offsets(topic, partitions, At::Earliest).await?;
    let end = cluster.offsets(topic, partitions, At::Latest).await?;
    let of_time = match target {
        Target::Time(time) => cluster.offsets(topic, partitions, At::Time(time)).await?,
        _ => BTreeMap::new(),
    };
    let known = |partition: &i32| Known {
        committed: committed.get(&(topic.to_owned(), *partition)).map(|place| place.offset),
        first: first.get(partition).copied().unwrap_or_default(),
        end: end.get(partition).copied().unwrap_or_default(),
        of_time: of_time.get(partition).copied().filter(|offset| *offset >= 0),
    };
    Ok(partitions.iter().map(|partition| (*partition, known(partition))).collect())
}

#[derive(serde::Serialize)]
struct Reset {
    group: String,
    executed: bool,
    partitions: Vec<Move>,
}

#[derive(serde::Serialize)]
struct Move {
    topic: String,
    partition: i32,
    /// None: nothing was committed.
    from: Option<i64>,
    to: i64,
    #[serde(rename = "end_offset")]
    end: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

impl Report for Reset {
    fn table(&self) -> String {
        let cells = |row: &Move| {
            let from = row.from.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
            let lag = row.end.saturating_sub(row.to).max(0);
            let note = row.note.unwrap_or_default().to_owned();
            vec![row.topic.clone(), row.partition.to_string(), from, row.to.to_string(), lag.to_string(), note]
        };
        let rows: Vec<_> = self.partitions.iter().map(cells).collect();
        let done = match self.executed {
            true => format!("group {} has these offsets now\n", self.group),
            false => "nothing was changed; --execute commits these offsets\n".to_owned(),
        };
        columns(&["topic", "partition", "from", "to", "lag", ""], &rows) + "\n" + &done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(committed: Option<i64>, of_time: Option<i64>) -> Known {
        Known { committed, first: 10, end: 20, of_time }
    }

    #[test]
    fn offsets_stay_within_the_partition_and_say_why() {
        let (begins, ends) = (Some("the partition begins here"), Some("the partition ends here"));
        let cases = [
            (Target::Earliest, 10, None),
            (Target::Latest, 20, None),
            (Target::Offset(15), 15, None),
            (Target::Offset(20), 20, None),
            (Target::Offset(9), 10, begins),
            (Target::Offset(21), 20, ends),
            (Target::Shift(3), 15, None),
            (Target::Shift(-2), 10, None),
            (Target::Shift(-3), 10, begins),
            (Target::Shift(i64::MAX), 20, ends),
            (Target::Shift(i64::MIN), 10, begins),
            (Target::Time(0), 14, None),
        ];
        for (target, offset, note) in cases {
            assert_eq!(planned(target, known(Some(12), Some(14))), Ok((offset, note)), "{target:?}");
        }
    }

    #[test]
    fn a_time_after_the_last_record_is_the_end_and_a_shift_needs_a_start() {
        assert_eq!(planned(Target::Time(0), known(None, None)), Ok((20, Some("no record is that late"))));
        assert!(planned(Target::Shift(1), known(None, None)).is_err());
        assert_eq!(planned(Target::Earliest, known(None, None)), Ok((10, None)));
    }

    #[test]
    fn a_partition_that_is_trimmed_meanwhile_gives_its_first_offset() {
        let known = Known { committed: None, first: 30, end: 20, of_time: None };
        assert_eq!(planned(Target::Latest, known), Ok((30, Some("the partition begins here"))));
    }
}
