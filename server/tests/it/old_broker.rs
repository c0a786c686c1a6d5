//! The tools against a broker of the age of Apache Kafka 2.1: a proxy in front of a newer one that shows the versions of
//! that time and takes no others. HEADWATER_BOOTSTRAP names a broker to stand behind it, instead of one that is started.

use crate::common::{Broker, run, run_ok, text};
use crate::proxy;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;

/// The newest versions that Apache Kafka 2.1 serves.
const VERSIONS: [(ApiKey, i16); 18] = [
    (ApiKey::Produce, 7),
    (ApiKey::Fetch, 10),
    (ApiKey::ListOffsets, 4),
    (ApiKey::Metadata, 7),
    (ApiKey::OffsetCommit, 6),
    (ApiKey::OffsetFetch, 5),
    (ApiKey::FindCoordinator, 2),
    (ApiKey::DescribeGroups, 2),
    (ApiKey::ListGroups, 2),
    (ApiKey::ApiVersions, 2),
    (ApiKey::CreateTopics, 3),
    (ApiKey::DeleteTopics, 3),
    (ApiKey::DeleteRecords, 1),
    (ApiKey::InitProducerId, 1),
    (ApiKey::DescribeConfigs, 2),
    (ApiKey::AlterConfigs, 1),
    (ApiKey::CreatePartitions, 1),
    (ApiKey::DeleteGroups, 1),
];

/// Starts the proxy.
fn old(broker: &str) -> String {
    proxy::start(broker, |request| {
        let newest = VERSIONS.iter().find(|(known, _)| *known as i16 == request.key).map(|(_, newest)| *newest);
        let is_known = newest.is_some_and(|newest| request.version <= newest);
        match request.key == ApiKey::ApiVersions as i16 {
            true if is_known => Ok(with_old_versions(&request.ask()?)),
            // Error 35 and an empty list, in version 0.
            true => Ok([&request.frame[4..8], &35_i16.to_be_bytes(), &0_i32.to_be_bytes()].concat().into()),
            false if is_known => request.ask(),
            false => Err(io::ErrorKind::Unsupported.into()),
        }
    })
}

/// Correlation id and error, then a count and rows of key, oldest and newest version.
fn with_old_versions(answer: &[u8]) -> Bytes {
    let number = |bytes: &[u8]| i16::from_be_bytes([bytes[0], bytes[1]]);
    let rows: BTreeMap<i16, i16> = answer[10..].chunks_exact(6).map(|row| (number(row), number(&row[2..]))).collect();
    let mut old = BytesMut::from(&answer[..6]);
    let shown: Vec<_> =
        VERSIONS.iter().filter_map(|(key, newest)| Some((*key, rows.get(&(*key as i16))?, newest))).collect();
    old.put_i32(i32::try_from(shown.len()).unwrap());
    for (key, oldest, newest) in shown {
        old.put_i16(key as i16);
        old.put_i16(*oldest);
        old.put_i16(*newest);
    }
    old.freeze()
}

#[test]
fn the_tools_speak_to_a_broker_of_the_age_of_kafka_2_1() {
    let broker = Broker::start();
    let old = old(&broker.kafka);
    let tool = |args: &[&str], input: &str| run_ok(&[args, &["--bootstrap", &old]].concat(), input);
    let json =
        |args: &[&str]| -> Value { serde_json::from_str(&tool(&[args, &["--output", "json"]].concat(), "")).unwrap() };
    let (topic, group) = (broker.name("old"), broker.name("old"));
    let (topic, group) = (topic.as_str(), group.as_str());
    tool(&["topic", "create", topic, "--partitions", "2", "--replication", "1", "--config", "retention.ms=-1"], "");
    tool(&["produce", topic, "--partition", "0", "--idempotent"], "one\ntwo\nthree\n");
    assert_eq!(tool(&["consume", topic], ""), "one\ntwo\nthree\n");
    assert_eq!(tool(&["replay", topic, "--from", "1", "--to", "@4000000000000"], ""), "two\nthree\n");
    tool(&["topic", "alter", topic, "--partitions", "3"], "");
    tool(&["topic", "delete-records", topic, "--partition", "0", "--before", "1"], "");
    let described = json(&["topic", "describe", topic]);
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        (&described["partitions"][0]["first_offset"], &described["settings"][0]["value"]),
        (&1.into(), &"-1".into())
    );
    let refused = run(&["topic", "alter", topic, "--set", "retention.ms=1", "--bootstrap", &old], "");
    let error = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(error.contains("serves no version of IncrementalAlterConfigs") && error.contains("too old"), "{error}");

    tool(&["group", "reset", group, "--topic", topic, "--to-offset", "2", "--execute"], "");
    assert_eq!(json(&["group", "describe", group])["lag"], 1);
    let listed = json(&["group", "list"]);
    let row = listed.as_array().unwrap().iter().find(|row| row["group"] == group).unwrap();
    assert_eq!(row["state"], Value::Null, "it came with version 4");
    let missing = run(&["group", "describe", &broker.name("nobody"), "--bootstrap", &old], "");
    assert!(text(&missing.stderr).contains("there is no group nobody-"), "{}", text(&missing.stderr));
    tool(&["group", "delete", group], "");
    tool(&["topic", "delete", topic], "");
}
