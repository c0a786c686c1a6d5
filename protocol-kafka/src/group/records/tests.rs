//! Records as they are written, read back, and mutated.

use super::*;
use proptest::prelude::*;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Bytes that the reference wrote: escapes as in a byte string.
const REFERENCE_GROUP: &[u8] = b"\x00\x03\x00\x08consumer\x00\x00\x00\x01\x00\x05range\x00\x03m-1\x00\x00\x01\xa2\"n\xdeq\x00\x00\x00\x01\
    \x00\x03m-1\x00\x06inst-1\x00\x13kafka-python-3.0.12\x00\n/127.0.0.1\x00\x04\x93\xe0\x00\x00\xaf\xc8\x00\x00\x00\x02ab\
    \x00\x00\x00\x01c";
const REFERENCE_EMPTY_GROUP: &[u8] =
    b"\x00\x03\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00\x01\xa2\"n\xdej\x00\x00\x00\x00";
const REFERENCE_OFFSET_KEY: &[u8] = b"\x00\x01\x00\x08grpdump1\x00\x0egrpdump1-topic\x00\x00\x00\x00";
const REFERENCE_OFFSET: &[u8] =
    b"\x00\x04\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x03\x05meta\x00\x00\x01\xa2\"n\xdf+\x01\x00\x10\
    \xd1n\xb1h\xc0\xe6M)\x8e\xa4\xa85\x8b\xffg\x99";

#[test]
fn what_the_reference_writes_is_read_and_written_byte_for_byte() {
    let group = GroupRecord::read(REFERENCE_GROUP).unwrap();
    assert_eq!((&*group.protocol_type, group.generation, group.members.len()), ("consumer", 1, 1));
    assert_eq!(group.members[0].rebalance_timeout_ms, 300_000);
    assert_eq!(group.members[0].session_timeout_ms, 45_000);
    assert_eq!(group.write(), REFERENCE_GROUP);
    assert_eq!(GroupRecord::read(REFERENCE_EMPTY_GROUP).unwrap().write(), REFERENCE_EMPTY_GROUP);
    let offset = Committed::read(REFERENCE_OFFSET).unwrap();
    assert_eq!((offset.offset, offset.leader_epoch, &*offset.metadata), (7, 3, "meta"));
    assert_eq!(offset.topic_id.unwrap().to_string(), "d16eb168-c0e6-4d29-8ea4-a8358bff6799");
    assert_eq!(offset.write(), REFERENCE_OFFSET);
    let key = Key::Offset { group: text("grpdump1"), topic: text("grpdump1-topic"), partition: 0 };
    assert_eq!(read_key(REFERENCE_OFFSET_KEY).unwrap(), key);
    assert_eq!(offset_key("grpdump1", "grpdump1-topic", 0), REFERENCE_OFFSET_KEY);
}

#[test]
fn older_values_are_read() {
    let mut old = vec![0, 0];
    old.put_i64(5);
    put_string(&mut old, "m");
    old.put_i64(77);
    let read = Committed::read(&old).unwrap();
    assert_eq!((read.offset, read.leader_epoch, read.commit_time, read.expire_time), (5, -1, 77, None));
    let mut group = vec![0, 0];
    put_string(&mut group, "consumer");
    group.put_i32(4);
    put_string(&mut group, "range");
    put_string(&mut group, "m");
    group.put_i32(1);
    for part in ["m", "client", "host"] {
        put_string(&mut group, part);
    }
    group.put_i32(9_000);
    put_bytes(&mut group, b"s");
    put_bytes(&mut group, b"a");
    let read = GroupRecord::read(&group).unwrap();
    assert_eq!((read.state_time, read.members[0].rebalance_timeout_ms), (-1, 9_000));
}

fn words() -> impl Strategy<Value = StrBytes> {
    "[a-zA-Z0-9-]{0,40}".prop_map(StrBytes::from_string)
}

fn blob() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from)
}

prop_compose! {
    fn committed()(
        offset in any::<i64>(),
        leader_epoch in -1..100i32,
        metadata in words(),
        commit_time in any::<i64>(),
        expire_time in prop::option::of(0..i64::MAX),
        topic_id in prop::option::of(1..u128::MAX),
    ) -> Committed {
        // The form with a time to expire has no room for the others.
        let leader_epoch = if expire_time.is_some() { -1 } else { leader_epoch };
        let topic_id = topic_id.filter(|_| expire_time.is_none()).map(Uuid::from_u128);
        Committed { offset, leader_epoch, metadata, commit_time, expire_time, topic_id }
    }
}

prop_compose! {
    fn member()(
        id in words(),
        instance_id in prop::option::of(words()),
        client_id in words(),
        client_host in words(),
        timeouts in (0..i32::MAX, 0..i32::MAX),
        subscription in blob(),
        assignment in blob(),
    ) -> MemberRecord {
        let (rebalance_timeout_ms, session_timeout_ms) = timeouts;
        MemberRecord {
            id, instance_id, client_id, client_host, rebalance_timeout_ms, session_timeout_ms, subscription, assignment,
        }
    }
}

prop_compose! {
    fn group()(
        protocol_type in words(),
        generation in any::<i32>(),
        protocol in prop::option::of(words()),
        leader in prop::option::of(words()),
        state_time in any::<i64>(),
        members in prop::collection::vec(member(), 0..5),
    ) -> GroupRecord {
        GroupRecord { protocol_type, generation, protocol, leader, state_time, members }
    }
}

/// Changes a byte, or cuts the end.
fn mutated(mut bytes: Vec<u8>, at: usize, with: u8, cut: bool) -> Vec<u8> {
    let at = at % bytes.len().max(1);
    if cut {
        bytes.truncate(at);
    } else if let Some(byte) = bytes.get_mut(at) {
        *byte = with;
    }
    bytes
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(offset in committed(), group in group(), id in words(), topic in words(), partition: i32) {
        prop_assert_eq!(Committed::read(&offset.write()).unwrap(), offset);
        prop_assert_eq!(GroupRecord::read(&group.write()).unwrap(), group);
        prop_assert_eq!(read_key(&group_key(&id)).unwrap(), Key::Group(id.clone()));
        let key = offset_key(&id, &topic, partition);
        prop_assert_eq!(read_key(&key).unwrap(), Key::Offset { group: id, topic, partition });
    }

    #[test]
    fn no_bytes_make_the_readers_panic(
        offset in committed(), group in group(), id in words(), at: usize, with: u8, cut: bool, any in blob(), version in 0..5u8,
    ) {
        for bytes in [offset.write(), group.write(), offset_key(&id, &id, 1), any.to_vec()] {
            let mut bytes = mutated(bytes, at, with, cut);
            for version in [None, Some(version)] {
                if let (Some(version), Some(byte)) = (version, bytes.get_mut(1)) {
                    *byte = version;
                }
                let _ = (read_key(&bytes), Committed::read(&bytes), GroupRecord::read(&bytes));
            }
        }
    }
}
