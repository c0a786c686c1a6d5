//! `headwater topic`: operations on topics, through any broker.

use super::run_async;
use crate::cli::{Target, name_value};
use crate::client::{At, Cluster, NewTopic, PartitionState, Setting};
use crate::exit::Failure;
use crate::output::{Output, Report, columns};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// List the topics
    List {
        /// Internal topics too
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Make a topic
    Create {
        topic: String,
        /// How many partitions [default: the broker's]
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// How many copies [default: the broker's]
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i16).range(1..))]
        replication: Option<i16>,
        /// A setting, such as retention.ms=3600000; may be repeated
        #[arg(long = "config", value_name = "NAME=VALUE", value_parser = name_value)]
        settings: Vec<(String, String)>,
        /// Only ask whether it could be made
        #[arg(long)]
        validate_only: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Show a topic's partitions, offsets and settings
    Describe {
        topic: String,
        /// Every setting, not only those that differ from the default
        #[arg(long)]
        all_settings: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Delete a topic and its records
    Delete {
        topic: String,
        #[command(flatten)]
        common: Common,
    },
    /// Give a topic more partitions
    AddPartitions {
        topic: String,
        /// How many it shall have in all
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
        total: i32,
        #[command(flatten)]
        common: Common,
    },
    /// Delete the oldest records of a partition
    DeleteRecords {
        topic: String,
        #[arg(long, value_parser = clap::value_parser!(i32).range(0..))]
        partition: i32,
        /// The first offset to keep, or `all`
        #[arg(long, value_name = "OFFSET", value_parser = before)]
        before: i64,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    target: Target,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn before(text: &str) -> Result<i64, String> {
    match text.parse() {
        Ok(offset) if offset >= 0 => Ok(offset),
        _ if text == "all" => Ok(-1),
        _ => Err("must be an offset, or `all`".to_owned()),
    }
}

/// Runs the command.
pub fn run(command: TopicCommand) -> Result<(), Failure> {
    run_async(async move {
        match command {
            TopicCommand::List { internal, common } => list(&common, internal).await,
            TopicCommand::Create { topic, partitions, replication, settings, validate_only, common } => {
                let mut cluster = common.connect().await?;
                let (partitions, replication) = (partitions.unwrap_or(-1), replication.unwrap_or(-1));
                let new = NewTopic { name: topic, partitions, replication, settings, validate_only };
                cluster.create_topic(&new).await?;
                common.done(if validate_only { "could be created" } else { "created" }, &new.name, None)
            }
            TopicCommand::Describe { topic, all_settings, common } => describe(&common, &topic, all_settings).await,
            TopicCommand::Delete { topic, common } => {
                common.connect().await?.delete_topic(&topic).await?;
                common.done("deleted", &topic, None)
            }
            TopicCommand::AddPartitions { topic, total, common } => {
                common.connect().await?.add_partitions(&topic, total).await?;
                common.done("extended", &topic, Some(format!("it has {total} partitions now")))
            }
            TopicCommand::DeleteRecords { topic, partition, before, common } => {
                let first = common.connect().await?.delete_records(&topic, partition, before).await?;
                common.done("trimmed", &topic, Some(format!("partition {partition} begins at offset {first} now")))
            }
        }
    })
}

impl Common {
    async fn connect(&self) -> Result<Cluster, Failure> {
        Ok(Cluster::connect(&self.target.bootstrap, self.target.timeout).await?)
    }

    fn done(&self, what: &'static str, topic: &str, detail: Option<String>) -> Result<(), Failure> {
        Ok(self.output.print(&Done { topic: topic.to_owned(), result: what, detail })?)
    }
}

async fn list(common: &Common, internal: bool) -> Result<(), Failure> {
    let topics = common.connect().await?.topics().await?;
    let rows = topics.into_iter().filter(|topic| internal || !topic.is_internal).map(|topic| ListedTopic {
        topic: topic.name,
        partitions: topic.partitions.len(),
        replicas: topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0),
        id: topic.id,
        internal: topic.is_internal,
    });
    Ok(common.output.print(&List(rows.collect()))?)
}

async fn describe(common: &Common, name: &str, all_settings: bool) -> Result<(), Failure> {
    let mut cluster = common.connect().await?;
    let topic = cluster.topic(name, false).await?;
    let led: Vec<i32> = topic.partitions.iter().filter(|row| row.leader.is_some()).map(|row| row.partition).collect();
    let first = cluster.offsets(name, &led, At::Earliest).await?;
    let end = cluster.offsets(name, &led, At::Latest).await?;
    let mut settings = cluster.settings(name).await?;
    settings.retain(|setting| all_settings || setting.source == "topic");
    let partitions = topic
        .partitions
        .into_iter()
        .map(|state| DescribedPartition {
            first_offset: first.get(&state.partition).copied(),
            end_offset: end.get(&state.partition).copied(),
            state,
        })
        .collect();
    let described = Described { topic: topic.name, id: topic.id, internal: topic.is_internal, partitions, settings };
    Ok(common.output.print(&described)?)
}

#[derive(serde::Serialize)]
struct Done {
    topic: String,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Report for Done {
    fn table(&self) -> String {
        let detail = self.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
        format!("topic {} {}{detail}\n", self.topic, self.result)
    }
}

#[derive(serde::Serialize)]
struct ListedTopic {
    topic: String,
    partitions: usize,
    replicas: usize,
    id: String,
    internal: bool,
}

#[derive(serde::Serialize)]
#[serde(transparent)]
struct List(Vec<ListedTopic>);

impl Report for List {
    fn table(&self) -> String {
        let cells = |row: &ListedTopic| {
            vec![row.topic.clone(), row.partitions.to_string(), row.replicas.to_string(), row.id.clone()]
        };
        columns(&["topic", "partitions", "replicas", "id"], &self.0.iter().map(cells).collect::<Vec<_>>())
    }
}

#[derive(serde::Serialize)]
struct DescribedPartition {
    #[serde(flatten)]
    state: PartitionState,
    first_offset: Option<i64>,
    end_offset: Option<i64>,
}

#[derive(serde::Serialize)]
struct Described {
    topic: String,
    id: String,
    internal: bool,
    partitions: Vec<DescribedPartition>,
    settings: Vec<Setting>,
}

impl Report for Described {
    fn table(&self) -> String {
        let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let partition = |row: &DescribedPartition| {
            vec![
                row.state.partition.to_string(),
                number(row.state.leader.map(i64::from)),
                row.state.leader_epoch.to_string(),
                ids(&row.state.replicas),
                ids(&row.state.in_sync),
                number(row.first_offset),
                number(row.end_offset),
            ]
        };
        let headings = ["partition", "leader", "epoch", "replicas", "in sync", "first offset", "end offset"];
        let partitions: Vec<_> = self.partitions.iter().map(partition).collect();
        let mut text = format!("topic {}  id {}\n\n{}", self.topic, self.id, columns(&headings, &partitions));
        if !self.settings.is_empty() {
            let setting =
                |row: &Setting| vec![row.name.clone(), row.value.clone().unwrap_or_default(), row.source.to_owned()];
            let settings: Vec<_> = self.settings.iter().map(setting).collect();
            text += &format!("\n{}", columns(&["setting", "value", "set by"], &settings));
        }
        text
    }
}
