//! ApiVersions. From version 5 on, a client that comes back to a broker says which cluster and node it believes it meets.

use super::Same;
use super::layout::{layout, request};
use kafka_protocol::messages;
use kafka_protocol::protocol::StrBytes;

layout! {
    /// A client's first question.
    struct ApiVersionsRequest {
        /// What the client is called.
        client_software_name: StrBytes [3..],
        /// And its version.
        client_software_version: StrBytes [3..],
        /// The cluster that the client means; none when it knows no cluster yet.
        cluster_id: Option<StrBytes> [5..],
        /// The broker that the client means; -1 when it does not matter.
        node_id: i32 [5..] = -1,
    }
}

request!(ApiVersionsRequest, 3);

pub(crate) type ApiVersionsResponse = Same<messages::ApiVersionsResponse, 4>;
