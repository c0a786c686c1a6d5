//! ListOffsets. Version 11 has a new special timestamp and no new field.

use super::Same;
use kafka_protocol::messages;

pub(crate) type ListOffsetsRequest = Same<messages::ListOffsetsRequest, 10>;
pub(crate) type ListOffsetsResponse = Same<messages::ListOffsetsResponse, 10>;
