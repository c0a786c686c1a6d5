//! A member of a group: joins, assigns when it leads, and rejoins.

use crate::requests::{
    self, ID_REQUIRED, ILLEGAL_GENERATION, JOIN, LOADING, NOT_AVAILABLE, NOT_COORDINATOR, REBALANCING, SYNC,
    UNKNOWN_MEMBER,
};
use crate::wire::Wire;
use anyhow::{Result, bail};
use kafka_protocol::messages::JoinGroupResponse;
use kafka_protocol::protocol::StrBytes;
use std::net::SocketAddr;

/// Long enough for a machine that is busy with all the others.
const TIMEOUT_MS: i32 = 120_000;

pub struct Member {
    pub wire: Wire,
    pub group: String,
    pub topic: String,
    pub partitions: usize,
    pub id: StrBytes,
    pub generation: i32,
    pub leads: bool,
}

impl Member {
    pub async fn connect(address: SocketAddr, group: String, topic: String, partitions: usize) -> Result<Member> {
        let wire = Wire::connect(address).await?;
        Ok(Member { wire, group, topic, partitions, id: StrBytes::new(), generation: -1, leads: false })
    }

    /// Joins, or rejoins, until it has its assignment. Returns how many members its generation has, if it leads.
    pub async fn enter(&mut self) -> Result<usize> {
        loop {
            let joined = self.join().await?;
            let sync = requests::sync(&self.group, &joined, &self.topic, self.partitions);
            let synced = self.wire.call(SYNC, &sync).await?;
            match synced.error_code {
                0 => return Ok(joined.members.len()),
                // Another rebalance has begun.
                REBALANCING | ILLEGAL_GENERATION => {}
                UNKNOWN_MEMBER => self.id = StrBytes::new(),
                other => bail!("SyncGroup: error {other}"),
            }
        }
    }

    async fn join(&mut self) -> Result<JoinGroupResponse> {
        loop {
            let joined = self.wire.call(JOIN, &requests::join(&self.group, &self.id, &self.topic, TIMEOUT_MS)).await?;
            match joined.error_code {
                0 => {
                    self.generation = joined.generation_id;
                    self.leads = joined.leader == joined.member_id;
                    return Ok(joined);
                }
                ID_REQUIRED => self.id = joined.member_id,
                UNKNOWN_MEMBER => self.id = StrBytes::new(),
                LOADING | NOT_AVAILABLE | NOT_COORDINATOR => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await
                }
                REBALANCING => {}
                other => bail!("JoinGroup: error {other}"),
            }
        }
    }

    /// A heartbeat: whether the member must rejoin.
    pub async fn must_rejoin(&mut self) -> Result<bool> {
        let answer = self.wire.call(requests::BEAT, &requests::beat(&self.group, &self.id, self.generation)).await?;
        match answer.error_code {
            0 => Ok(false),
            REBALANCING | ILLEGAL_GENERATION | UNKNOWN_MEMBER => Ok(true),
            other => bail!("Heartbeat: error {other}"),
        }
    }
}
