//! `headwater group`: consumer groups, through any broker.

mod describe;
mod reset;

use super::run_async;
use crate::cli::Asking;
use crate::client::{ClientError, Cluster, ListedGroup};
use crate::exit::{FAILED, Failure};
use crate::output::{Report, columns};
use clap::Subcommand;
use kafka_protocol::error::ResponseError;

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List the groups
    List {
        #[command(flatten)]
        asking: Asking,
    },
    /// Show a group's members, and how far it is in each partition
    Describe {
        group: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Move a group's committed offsets; without --execute, only show where to
    Reset(reset::ResetArgs),
    /// Delete a group without members, with its offsets
    Delete {
        group: String,
        #[command(flatten)]
        asking: Asking,
    },
}

/// Runs the command.
pub fn run(command: GroupCommand) -> Result<(), Failure> {
    run_async(async move {
        match command {
            GroupCommand::List { asking } => list(&asking).await,
            GroupCommand::Describe { group, asking } => describe::run(&asking, &group).await,
            GroupCommand::Reset(args) => reset::run(&args).await,
            GroupCommand::Delete { group, asking } => delete(&asking, &group).await,
        }
    })
}

async fn list(asking: &Asking) -> Result<(), Failure> {
    let groups = asking.connect().await?.groups().await?;
    Ok(asking.output.print(&List(groups))?)
}

async fn delete(asking: &Asking, group: &str) -> Result<(), Failure> {
    let mut cluster = asking.connect().await?;
    match cluster.delete_group(group).await {
        Ok(()) => Ok(asking.output.print(&Deleted { group: group.to_owned(), result: "deleted" })?),
        Err(error) if error.is(ResponseError::NonEmptyGroup) => Err(in_use(&mut cluster, group, error).await),
        Err(error) if error.is(ResponseError::GroupIdNotFound) => Err(missing(group)),
        Err(error) => Err(error.into()),
    }
}

/// What to say when a group has members, and what was asked needs one without.
async fn in_use(cluster: &mut Cluster, group: &str, error: ClientError) -> Failure {
    let count = match cluster.group(group).await {
        Ok(Some(state)) => state.members.len(),
        _ => return error.into(),
    };
    active(group, count)
}

/// A group is in use.
fn active(group: &str, members: usize) -> Failure {
    let members = if members == 1 { "1 member".to_owned() } else { format!("{members} members") };
    Failure::new(FAILED, format!("group {group} is in use: it has {members}")).hint(
        "stop its consumers first, and wait until their sessions have ended; `headwater group describe` shows them",
    )
}

/// There is no such group.
fn missing(group: &str) -> Failure {
    Failure::new(FAILED, format!("there is no group {group}")).hint("`headwater group list` shows what there is")
}

#[derive(serde::Serialize)]
struct Deleted {
    group: String,
    result: &'static str,
}

impl Report for Deleted {
    fn table(&self) -> String {
        format!("group {} {}\n", self.group, self.result)
    }
}

#[derive(serde::Serialize)]
#[serde(transparent)]
struct List(Vec<ListedGroup>);

impl Report for List {
    fn table(&self) -> String {
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        let cells = |row: &ListedGroup| {
            let protocol = if row.protocol_type.is_empty() { "-".to_owned() } else { row.protocol_type.clone() };
            vec![row.group.clone(), word(&row.state), word(&row.kind), protocol, row.coordinator.to_string()]
        };
        let rows: Vec<_> = self.0.iter().map(cells).collect();
        columns(&["group", "state", "type", "protocol", "coordinator"], &rows)
    }
}
