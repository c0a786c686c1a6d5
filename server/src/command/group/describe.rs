//! `headwater group describe`: members, and for each partition what is committed, where it ends, and who owns it.
//!
//! A group without members is described as well: its offsets are still there.

use super::missing;
use crate::cli::Asking;
use crate::client::{Committed, GroupState, Member, TopicPartition};
use crate::exit::Failure;
use crate::output::{Report, columns};
use std::collections::{BTreeMap, BTreeSet};

/// Runs the command.
pub async fn run(asking: &Asking, group: &str) -> Result<(), Failure> {
    let mut cluster = asking.connect().await?;
    let Some(state) = cluster.group(group).await? else { return Err(missing(group)) };
    let committed = cluster.committed(group).await?;
    let owners = owners(&state.members);
    let mut partitions: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    let known: BTreeSet<&TopicPartition> = committed.keys().chain(owners.keys()).collect();
    for (topic, partition) in known {
        partitions.entry(topic.clone()).or_default().push(*partition);
    }
    let mut ends = BTreeMap::new();
    for (topic, partitions) in &partitions {
        for (partition, end) in cluster.ends(topic, partitions).await? {
            ends.insert((topic.clone(), partition), end);
        }
    }
    Ok(asking.output.print(&described(group, state, &committed, &owners, &ends))?)
}

/// Who owns which partition.
fn owners(members: &[Member]) -> BTreeMap<TopicPartition, Member> {
    let mut owners = BTreeMap::new();
    for member in members {
        for (topic, partitions) in &member.partitions {
            owners.extend(partitions.iter().map(|partition| ((topic.clone(), *partition), member.clone())));
        }
    }
    owners
}

fn described(
    group: &str,
    state: GroupState,
    committed: &BTreeMap<TopicPartition, Committed>,
    owners: &BTreeMap<TopicPartition, Member>,
    ends: &BTreeMap<TopicPartition, i64>,
) -> Described {
    let known: BTreeSet<&TopicPartition> = committed.keys().chain(owners.keys()).collect();
    let row = |at: &TopicPartition| {
        let (place, owner, end) = (committed.get(at), owners.get(at), ends.get(at).copied());
        let offset = place.map(|place| place.offset);
        DescribedPartition {
            topic: at.0.clone(),
            partition: at.1,
            committed_offset: offset,
            end_offset: end,
            // What was committed may lie past the end: of a topic that was made again, for one.
            lag: offset.zip(end).map(|(offset, end)| end.saturating_sub(offset).max(0)),
            member_id: owner.map(|owner| owner.member_id.clone()),
            client_id: owner.map(|owner| owner.client_id.clone()),
            host: owner.map(|owner| owner.host.clone()),
            metadata: place.map(|place| place.metadata.clone()).filter(|text| !text.is_empty()),
        }
    };
    let partitions: Vec<_> = known.into_iter().map(row).collect();
    Described {
        group: group.to_owned(),
        state: state.state,
        kind: state.kind,
        protocol_type: state.protocol_type,
        assignor: state.assignor,
        coordinator: state.coordinator,
        lag: partitions.iter().filter_map(|row| row.lag).sum(),
        members: state.members,
        partitions,
    }
}

#[derive(serde::Serialize)]
struct Described {
    group: String,
    state: String,
    #[serde(rename = "type")]
    kind: &'static str,
    protocol_type: String,
    assignor: String,
    coordinator: i32,
    /// Of all partitions that have a committed offset.
    lag: i64,
    members: Vec<Member>,
    partitions: Vec<DescribedPartition>,
}

#[derive(serde::Serialize)]
struct DescribedPartition {
    topic: String,
    partition: i32,
    /// None: nothing is committed.
    committed_offset: Option<i64>,
    /// None: the partition is not there, or has no leader.
    end_offset: Option<i64>,
    lag: Option<i64>,
    member_id: Option<String>,
    client_id: Option<String>,
    host: Option<String>,
    metadata: Option<String>,
}

impl Report for Described {
    fn table(&self) -> String {
        let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        let mut text = format!("group {}  state {}", self.group, self.state);
        if !self.assignor.is_empty() {
            text += &format!("  assignor {}", self.assignor);
        }
        text += &format!("  coordinator {}  lag {}\n", self.coordinator, self.lag);
        let partition = |row: &DescribedPartition| {
            vec![
                row.topic.clone(),
                row.partition.to_string(),
                number(row.committed_offset),
                number(row.end_offset),
                number(row.lag),
                word(&row.member_id),
            ]
        };
        if !self.partitions.is_empty() {
            let rows: Vec<_> = self.partitions.iter().map(partition).collect();
            let headings = ["topic", "partition", "committed", "end", "lag", "member"];
            text += &format!("\n{}", columns(&headings, &rows));
        }
        if self.members.is_empty() {
            return text + "\nno members\n";
        }
        let member = |row: &Member| {
            let count: usize = row.partitions.values().map(Vec::len).sum();
            let instance = word(&row.instance_id);
            vec![row.member_id.clone(), instance, row.client_id.clone(), row.host.clone(), count.to_string()]
        };
        let rows: Vec<_> = self.members.iter().map(member).collect();
        text + &format!("\n{}", columns(&["member", "instance", "client", "host", "partitions"], &rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_those_that_are_owned_or_committed() {
        let member = Member {
            member_id: "m".to_owned(),
            instance_id: None,
            client_id: "c".to_owned(),
            host: "/127.0.0.1".to_owned(),
            partitions: [("orders".to_owned(), vec![1, 2])].into(),
        };
        let state = GroupState {
            state: "Stable".to_owned(),
            kind: "classic",
            protocol_type: "consumer".to_owned(),
            assignor: "range".to_owned(),
            coordinator: 1,
            members: vec![member],
        };
        let at = |partition| ("orders".to_owned(), partition);
        let place = |offset| Committed { offset, metadata: String::new() };
        let committed = [(at(0), place(7)), (at(1), place(5))].into();
        let ends = [(at(0), 3), (at(1), 8), (at(2), 4)].into();
        let owners = owners(&state.members);
        let shown = described("g", state, &committed, &owners, &ends);
        let rows: Vec<_> = shown.partitions.iter().map(|row| (row.partition, row.committed_offset, row.lag)).collect();
        assert_eq!(rows, [(0, Some(7), Some(0)), (1, Some(5), Some(3)), (2, None, None)]);
        assert_eq!(shown.lag, 3);
        let table = "\
group g  state Stable  assignor range  coordinator 1  lag 3

TOPIC   PARTITION  COMMITTED  END  LAG  MEMBER
orders          0          7    3    0  -
orders          1          5    8    3  m
orders          2          -    4    -  m

MEMBER  INSTANCE  CLIENT  HOST        PARTITIONS
m       -         c       /127.0.0.1           2
";
        assert_eq!(shown.table(), table);
    }
}
