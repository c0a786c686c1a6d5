//! Golden cases of the Kafka head: `kafka/*.json` hold requests and what Apache Kafka 4.4 answered to them, at several
//! versions each. `golden-record` (see `record.rs`) records them; these tests play them against Headwater.
#![allow(dead_code, reason = "each of the two programs uses a part of the modules")]

mod batch;
mod codec;
mod coordinated;
mod coverage;
mod mask;
mod play;
mod player;
mod raw;
mod scenario;
mod schema;
mod server;
mod wire;

use scenario::Scenario;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Every case file, by name.
fn cases() -> Vec<(String, Scenario)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/kafka");
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder of the cases") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        cases.push((name, play::load(&path).expect("a case file")));
    }
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

#[test]
fn every_step_has_an_answer_for_each_of_its_versions() {
    let apis = schema::apis().expect("the layouts");
    for (name, scenario) in cases() {
        for (index, step) in scenario.steps.iter().enumerate() {
            let api = apis.get(&step.api).unwrap_or_else(|| panic!("{name}, step {index}: unknown API {}", step.api));
            for version in scenario::versions(step).expect("a version range") {
                assert!(
                    api.request.versions.contains(version),
                    "{name}, step {index}: {} has no version {version}",
                    step.api
                );
                if step.part.has_answer() {
                    scenario::expected(api, step, version).unwrap_or_else(|e| panic!("{name}, step {index}: {e}"));
                }
            }
        }
    }
}

#[test]
fn every_operation_succeeds_and_fails_at_each_of_its_versions() {
    let gaps = coverage::gaps(&schema::apis().expect("the layouts"), &cases());
    assert!(gaps.is_empty(), "{} gaps:\n{}", gaps.len(), gaps.join("\n"));
}

#[test]
fn a_message_reads_back_as_it_was_written() {
    for (name, api) in schema::apis().expect("the layouts") {
        for message in [&api.request, &api.response] {
            for version in message.versions.first..=message.versions.last {
                let bytes = codec::encode(message, version, &json!({}))
                    .unwrap_or_else(|e| panic!("{name} at version {version}: {e:#}"));
                let value = codec::decode(message, version, &bytes)
                    .unwrap_or_else(|e| panic!("{name} at version {version}: {e:#}"));
                let again = codec::encode(message, version, &value).expect("what was read can be written");
                assert_eq!(bytes, again, "{name} at version {version}");
            }
        }
    }
}

#[test]
fn a_difference_is_told_with_its_place() {
    let step: scenario::Step = serde_json::from_value(json!({
        "api": "X", "versions": "0", "request": {}, "not_compared": { "List[b.c].Value": "a test" }
    }))
    .expect("a step");
    let list = |b: i32, d: i32| json!({ "List": [{"Name": "b.c", "Value": b}, {"Name": "d", "Value": d}] });
    assert!(scenario::check(&step, &list(1, 3), &list(2, 3)).is_empty());
    assert_eq!(scenario::check(&step, &list(1, 3), &list(1, 4)), [".List[1].Value: 3, expected 4"]);
}

/// A broker's restart is no step of a case, so this one has no recording. The rules are the reference's: an epoch that is
/// over is refused as a belief (74), and answered with its end when it is asked for.
#[test]
fn epochs_of_earlier_runs_are_known_and_fenced() {
    let apis = schema::apis().expect("the layouts");
    let mut server = server::Server::start();
    let mut epochs = Vec::new();
    for run in 0..3 {
        let mut wire = wire::Wire::new(server.address);
        let mut ask = |api: &str, version, request| wire.exchange(&apis[api], version, &request).expect("an answer");
        if run == 0 {
            ask("CreateTopics", 4, json!({ "Topics": [{"Name": "t", "NumPartitions": 1, "ReplicationFactor": 1}] }));
        }
        // Two records in each run.
        let records = json!([{"timestamp": 1000 + run, "key": "a", "value": "b"}, {"key": "c", "value": "d"}]);
        let records = codec::to_hex(&batch::build(&json!({ "$batch": records })).expect("a batch"));
        let topics = json!([{"Name": "t", "PartitionData": [{"Index": 0, "Records": records}]}]);
        let produced = ask("Produce", 8, json!({ "Acks": -1, "TimeoutMs": 1000, "TopicData": topics }));
        assert_eq!(produced["Responses"][0]["PartitionResponses"][0]["BaseOffset"], run * 2);

        let mut list = |believed: i64, timestamp: i64| {
            let partition = json!({"PartitionIndex": 0, "CurrentLeaderEpoch": believed, "Timestamp": timestamp});
            let topics = json!([{"Name": "t", "Partitions": [partition]}]);
            let answer = ask("ListOffsets", 10, json!({ "ReplicaId": -1, "Topics": topics }));
            answer["Topics"][0]["Partitions"][0].clone()
        };
        let latest = list(-1, -1);
        assert_eq!(latest["Offset"], run * 2 + 2);
        let epoch = latest["LeaderEpoch"].as_i64().expect("an epoch");
        assert!(epochs.last().is_none_or(|last| *last < epoch), "each run has a later epoch");
        epochs.push(epoch);
        for (run, past) in epochs.iter().enumerate() {
            // The record's own epoch comes with it, however old it is.
            assert_eq!(list(epoch, 1000 + run as i64)["LeaderEpoch"], *past);
        }
        assert_eq!(list(epoch, -2)["LeaderEpoch"], epochs[0], "the log begins in the first run");
        assert_eq!(list(epoch + 1, -1)["ErrorCode"], 75);

        let mut end = |believed: i64, asked: i64| {
            let partition = json!({"Partition": 0, "CurrentLeaderEpoch": believed, "LeaderEpoch": asked});
            let topics = json!([{"Topic": "t", "Partitions": [partition]}]);
            let answer = ask("OffsetForLeaderEpoch", 4, json!({ "ReplicaId": -1, "Topics": topics }));
            answer["Topics"][0]["Partitions"][0].clone()
        };
        for (run, past) in epochs.iter().enumerate() {
            let answer = end(epoch, *past);
            assert_eq!((&answer["LeaderEpoch"], &answer["EndOffset"]), (&json!(past), &json!(run * 2 + 2)));
        }
        for past in &epochs[..epochs.len() - 1] {
            assert_eq!(end(*past, *past)["ErrorCode"], 74);
        }
        server = server.restart();
    }
}

#[test]
fn names_that_are_kept_are_neither_created_nor_made_on_demand() {
    let apis = schema::apis().expect("the layouts");
    let server = server::Server::start();
    let mut wire = wire::Wire::new(server.address);
    for name in ["__mine", "__consumer_offsets", "sqs.q", "sns.t"] {
        let topics = json!([{"Name": name, "NumPartitions": 1, "ReplicationFactor": 1}]);
        let answer = wire.exchange(&apis["CreateTopics"], 4, &json!({ "Topics": topics })).expect("an answer");
        assert_eq!(answer["Topics"][0]["ErrorCode"], 44, "{name}");
        for round in 0..2 {
            let asked = json!({ "Topics": [{ "Name": name }], "AllowAutoTopicCreation": true });
            let answer = wire.exchange(&apis["Metadata"], 4, &asked).expect("an answer");
            // The topic of the groups is made when it is first asked for, as there.
            let expected = if name == "__consumer_offsets" && round == 1 { 0 } else { 3 };
            assert_eq!(answer["Topics"][0]["ErrorCode"], expected, "{name}");
        }
    }
}

/// A small request must not make the server build an answer without end.
#[test]
fn requests_for_very_much_are_throttled_beyond_a_bound() {
    let apis = schema::apis().expect("the layouts");
    let server = server::Server::start();
    let mut wire = wire::Wire::new(server.address);
    let codes = |answer: &serde_json::Value, list: &str| -> Vec<i64> {
        answer[list].as_array().expect("a list").iter().map(|entry| entry["ErrorCode"].as_i64().unwrap_or(0)).collect()
    };
    let resource = json!({"ResourceType": 2, "ResourceName": "t", "ConfigurationKeys": ["retention.ms"]});
    let asked = json!({ "Resources": vec![resource; 10_001] });
    let answer = wire.exchange(&apis["DescribeConfigs"], 4, &asked).expect("an answer");
    let codes_of_resources = codes(&answer, "Results");
    assert_eq!((codes_of_resources.len(), codes_of_resources[9_999], codes_of_resources[10_000]), (10_001, 3, 89));

    let topic = |n: usize| json!({"Name": format!("t{n}"), "NumPartitions": 1, "ReplicationFactor": 1});
    let asked = json!({ "Topics": (0..10_001).map(topic).collect::<Vec<_>>(), "ValidateOnly": true });
    let answer = wire.exchange(&apis["CreateTopics"], 4, &asked).expect("an answer");
    let codes_of_topics = codes(&answer, "Topics");
    assert_eq!(codes_of_topics.iter().filter(|code| **code == 0).count(), 10_000);
    assert_eq!(codes_of_topics.iter().filter(|code| **code == 89).count(), 1);

    let asked: Vec<_> = (0..1_100).map(|n| json!({ "Name": format!("auto{n}") })).collect();
    wire.exchange(&apis["Metadata"], 4, &json!({ "Topics": asked, "AllowAutoTopicCreation": true }))
        .expect("an answer");
    let answer = wire.exchange(&apis["Metadata"], 4, &json!({ "Topics": null })).expect("an answer");
    assert_eq!(codes(&answer, "Topics"), vec![0; 1_000]);
}

#[test]
fn every_operation_that_is_served_has_its_frames() {
    for row in headwater_protocol_kafka::TABLE {
        assert!(!raw::LATER.contains(&row.name), "{} is served: record its frames", row.name);
    }
}

#[test]
fn frames_that_nobody_means_to_send_are_met_as_by_the_reference() {
    let apis = schema::apis().expect("the layouts");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/raw.json");
    let reference = raw::load(&path).expect("what the reference did");
    let server = server::Server::start();
    let ours = raw::watch(&apis, server.address).expect("answers");
    let found = raw::differences(&apis, &ours, &reference).expect("a comparison");
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

/// Plays one case against a server of its own.
fn check(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/kafka/{name}.json"));
    let scenario = play::load(&path).expect("the case file");
    let apis = schema::apis().expect("the layouts");
    let server = server::Server::start();
    let found = play::compare(&apis, server.address, &scenario, Duration::ZERO).expect("playing the case");
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

/// One test per case file, so that a failure names the API.
macro_rules! played {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_case_file_is_played() {
            let names: Vec<String> = cases().into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

played! {
    alter_client_quotas
    alter_configs
    alter_other_configs
    alter_partition_reassignments
    alter_replica_log_dirs
    altered_topics
    api_versions
    codecs
    connections
    create_partitions
    create_topics
    delete_groups
    delete_records
    delete_topics
    describe_client_quotas
    describe_cluster
    describe_configs
    describe_groups
    describe_log_dirs
    describe_producers
    describe_quorum
    describe_topic_partitions
    elect_leaders
    fetch
    fetch_sessions
    find_coordinator
    group_protocols
    group_records
    group_timeouts
    idempotent
    incremental_alter_configs
    init_producer_id
    internal_topic
    internal_topics
    join_group
    leave_group
    list_config_resources
    list_offsets
    list_partition_reassignments
    metadata
    offset_commit
    offset_delete
    offset_fetch
    offset_for_leader_epoch
    produce
    raft_voters
    rebalance
    rebalance_oldest
    static_members
    topic_configs
    unregister_broker
    update_features
}
