//! Golden cases of the Kafka head: `kafka/*.json` hold requests and what Apache Kafka 4.4 answered to them, at several
//! versions each. `golden-record` (see `record.rs`) records them; these tests play them against Headwater.
#![allow(dead_code, reason = "each of the two programs uses a part of the modules")]

mod batch;
mod codec;
mod mask;
mod play;
mod scenario;
mod schema;
mod server;
mod wire;

use scenario::Scenario;
use std::path::PathBuf;

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
                scenario::expected(api, step, version).unwrap_or_else(|e| panic!("{name}, step {index}: {e}"));
            }
        }
    }
}

#[test]
fn a_message_reads_back_as_it_was_written() {
    for (name, api) in schema::apis().expect("the layouts") {
        for message in [&api.request, &api.response] {
            for version in message.versions.first..=message.versions.last {
                let bytes = codec::encode(message, version, &serde_json::json!({}))
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
    let step: scenario::Step = serde_json::from_value(serde_json::json!({
        "api": "X", "versions": "0", "request": {}, "not_compared": { "List[b.c].Value": "a test" }
    }))
    .expect("a step");
    let list = |b: i32, d: i32| serde_json::json!({ "List": [{"Name": "b.c", "Value": b}, {"Name": "d", "Value": d}] });
    assert!(scenario::check(&step, &list(1, 3), &list(2, 3)).is_empty());
    assert_eq!(scenario::check(&step, &list(1, 3), &list(1, 4)), [".List[1].Value: 3, expected 4"]);
}

/// Plays one case against a server of its own.
fn check(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("golden/kafka/{name}.json"));
    let scenario = play::load(&path).expect("the case file");
    let apis = schema::apis().expect("the layouts");
    let server = server::Server::start();
    let found = play::compare(&apis, server.address, &scenario).expect("playing the case");
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
    create_partitions
    create_topics
    delete_records
    delete_topics
    describe_cluster
    describe_configs
    describe_topic_partitions
    list_offsets
    metadata
    offset_for_leader_epoch
    topic_configs
}
