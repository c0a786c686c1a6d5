//! AddRaftVoter. Version 1 says when the answer is wanted.

use super::Same;
use super::layout::{layout, request};
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

layout! {
    /// Another voter.
    struct AddRaftVoterRequest {
        /// The cluster that the client means.
        cluster_id: Option<StrBytes> [0..],
        /// How long the answer may take.
        timeout_ms: i32 [0..],
        /// The voter.
        voter_id: i32 [0..],
        /// Its folder.
        voter_directory_id: Uuid [0..],
        /// Where it listens.
        listeners: Vec<VoterListener> [0..],
        /// Whether the answer waits until the change is committed.
        ack_when_committed: bool [1..] = true,
    }

    /// Where a voter listens.
    struct VoterListener {
        /// The listener's name.
        name: StrBytes [0..],
        /// Its host.
        host: StrBytes [0..],
        /// Its port.
        port: u16 [0..],
    }
}

request!(AddRaftVoterRequest, 0);

pub(crate) type AddRaftVoterResponse = Same<messages::AddRaftVoterResponse, 0>;
