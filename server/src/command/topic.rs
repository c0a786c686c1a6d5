//! `headwater topic`: operations on topics, through any broker.

use super::run_async;
use crate::cli::{Asking, name_value};
use crate::client::{At, NewTopic, PartitionState, Setting, SettingsChange};
use crate::exit::{Failure, USAGE};
use crate::output::{Report, columns};
use clap::{ArgGroup, Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// List the topics
    List {
        /// Internal topics too
        #[arg(long)]
        internal: bool,
        #[command(flatten)]
        asking: Asking,
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
        asking: Asking,
    },
    /// Show a topic's partitions, offsets and settings
    Describe {
        topic: String,
        /// Every setting, not only those that differ from the default
        #[arg(long)]
        all_settings: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Change a topic's settings, or give it more partitions
    Alter(AlterArgs),
    /// Delete a topic and its records
    Delete {
        topic: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Give a topic more partitions
    AddPartitions {
        topic: String,
        /// How many it shall have in all
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
        total: i32,
        #[command(flatten)]
        asking: Asking,
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
        asking: Asking,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true).args(["set", "delete", "partitions"]))]
pub struct AlterArgs {
    topic: String,
    /// Give a setting a value, such as retention.ms=3600000; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_value)]
    set: Vec<(String, String)>,
    /// Take away the topic's own value of a setting, so that the broker's holds again; may be repeated
    #[arg(long, value_name = "NAME")]
    delete: Vec<String>,
    /// How many partitions the topic shall have in all; they only become more
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Only ask whether it could be changed
    #[arg(long)]
    validate_only: bool,
    #[command(flatten)]
    asking: Asking,
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
            TopicCommand::List { internal, asking } => list(&asking, internal).await,
            TopicCommand::Create { topic, partitions, replication, settings, validate_only, asking } => {
                let mut cluster = asking.connect().await?;
                let (partitions, replication) = (partitions.unwrap_or(-1), replication.unwrap_or(-1));
                let new = NewTopic { name: topic, partitions, replication, settings, validate_only };
                cluster.create_topic(&new).await?;
                done(&asking, if validate_only { "could be created" } else { "created" }, &new.name, None)
            }
            TopicCommand::Describe { topic, all_settings, asking } => describe(&asking, &topic, all_settings).await,
            TopicCommand::Alter(args) => alter(&args).await,
            TopicCommand::Delete { topic, asking } => {
                asking.connect().await?.delete_topic(&topic).await?;
                done(&asking, "deleted", &topic, None)
            }
            TopicCommand::AddPartitions { topic, total, asking } => {
                asking.connect().await?.add_partitions(&topic, total, false).await?;
                done(&asking, "extended", &topic, Some(format!("it has {total} partitions now")))
            }
            TopicCommand::DeleteRecords { topic, partition, before, asking } => {
                let first = asking.connect().await?.delete_records(&topic, partition, before).await?;
                done(&asking, "trimmed", &topic, Some(format!("partition {partition} begins at offset {first} now")))
            }
        }
    })
}

fn done(asking: &Asking, what: &'static str, topic: &str, detail: Option<String>) -> Result<(), Failure> {
    Ok(asking.output.print(&Done { topic: topic.to_owned(), result: what, detail })?)
}

/// Every part is validated before the first one is changed: a change that cannot be made as a whole is not begun.
async fn alter(args: &AlterArgs) -> Result<(), Failure> {
    let names = || args.set.iter().map(|(name, _)| name).chain(&args.delete);
    if let Some(twice) = names().find(|name| names().filter(|other| other == name).count() > 1) {
        return Err(Failure::new(USAGE, format!("setting {twice} is named twice")));
    }
    let mut cluster = args.asking.connect().await?;
    let mut change = SettingsChange { set: &args.set, delete: &args.delete, validate_only: true };
    let has_settings = names().next().is_some();
    if has_settings {
        cluster.alter_settings(&args.topic, &change).await?;
    }
    if let Some(total) = args.partitions {
        cluster.add_partitions(&args.topic, total, true).await?;
    }
    if args.validate_only {
        return done(&args.asking, "could be changed", &args.topic, None);
    }
    if has_settings {
        change.validate_only = false;
        cluster.alter_settings(&args.topic, &change).await?;
    }
    if let Some(total) = args.partitions {
        cluster.add_partitions(&args.topic, total, false).await?;
    }
    let set = args.set.iter().map(|(name, value)| format!("{name} = {value}"));
    let deleted = args.delete.iter().map(|name| format!("{name} as the broker has it"));
    let grown = args.partitions.map(|total| format!("{total} partitions"));
    let details: Vec<String> = set.chain(deleted).chain(grown).collect();
    done(&args.asking, "changed", &args.topic, Some(details.join(", ")))
}

async fn list(asking: &Asking, internal: bool) -> Result<(), Failure> {
    let topics = asking.connect().await?.topics().await?;
    let rows = topics.into_iter().filter(|topic| internal || !topic.is_internal).map(|topic| ListedTopic {
        topic: topic.name,
        partitions: topic.partitions.len(),
        replicas: topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0),
        id: topic.id.to_string(),
        internal: topic.is_internal,
    });
    Ok(asking.output.print(&List(rows.collect()))?)
}

async fn describe(asking: &Asking, name: &str, all_settings: bool) -> Result<(), Failure> {
    let mut cluster = asking.connect().await?;
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
    let described =
        Described { topic: topic.name, id: topic.id.to_string(), internal: topic.is_internal, partitions, settings };
    Ok(asking.output.print(&described)?)
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
