//! A consumer that is in a group and does nothing there: enough to make the group active.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, GroupId, JoinGroupRequest, LeaveGroupRequest,
    RequestHeader, ResponseHeader, SyncGroupRequest, TopicName, consumer_protocol_assignment,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Versions before members have to come twice to get in.
const JOIN_VERSION: i16 = 3;
const SYNC_VERSION: i16 = 2;
const LEAVE_VERSION: i16 = 2;

/// A member of a group.
pub struct Member {
    stream: TcpStream,
    group: String,
    pub id: String,
}

impl Member {
    /// Joins as the only member and takes these partitions.
    pub fn join(broker: &str, group: &str, topic: &str, partitions: &[i32]) -> Member {
        let stream = TcpStream::connect(broker).expect("the broker listens");
        let mut member = Member { stream, group: group.to_owned(), id: String::new() };
        let topic_name = TopicName(string(topic));
        let subscription = ConsumerProtocolSubscription::default().with_topics(vec![topic_name.0.clone()]);
        let protocol =
            JoinGroupRequestProtocol::default().with_name(string("range")).with_metadata(with_version(&subscription));
        let joined = member.call(
            &JoinGroupRequest::default()
                .with_group_id(GroupId(string(group)))
                .with_session_timeout_ms(30_000)
                .with_rebalance_timeout_ms(30_000)
                .with_protocol_type(string("consumer"))
                .with_protocols(vec![protocol]),
            JOIN_VERSION,
        );
        assert_eq!(joined.error_code, 0, "JoinGroup");
        member.id = joined.member_id.to_string();
        let owned = consumer_protocol_assignment::TopicPartition::default()
            .with_topic(topic_name)
            .with_partitions(partitions.to_vec());
        let assignment = ConsumerProtocolAssignment::default().with_assigned_partitions(vec![owned]);
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(with_version(&assignment));
        let synced = member.call(
            &SyncGroupRequest::default()
                .with_group_id(GroupId(string(group)))
                .with_generation_id(joined.generation_id)
                .with_member_id(joined.member_id)
                .with_assignments(vec![assignment]),
            SYNC_VERSION,
        );
        assert_eq!(synced.error_code, 0, "SyncGroup");
        member
    }

    /// Leaves the group.
    pub fn leave(mut self) {
        let request =
            LeaveGroupRequest::default().with_group_id(GroupId(string(&self.group))).with_member_id(string(&self.id));
        assert_eq!(self.call(&request, LEAVE_VERSION).error_code, 0, "LeaveGroup");
    }

    fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
        let mut frame = BytesMut::new();
        header.encode(&mut frame, R::header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.stream.write_all(&i32::try_from(frame.len()).unwrap().to_be_bytes()).unwrap();
        self.stream.write_all(&frame).unwrap();
        let mut size = [0; 4];
        self.stream.read_exact(&mut size).unwrap();
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
        self.stream.read_exact(&mut answer).unwrap();
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        R::Response::decode(&mut answer, version).unwrap()
    }
}

/// What members tell each other begins with its version, 0 here.
fn with_version(message: &impl Encodable) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    message.encode(&mut bytes, 0).unwrap();
    bytes.freeze()
}

fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
