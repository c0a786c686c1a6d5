//! `headwater group`. HEADWATER_BOOTSTRAP names a broker to run it against, instead of one that is started.

use crate::common::{Broker, run, text};
use crate::member::Member;
use crate::proxy;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
use kafka_protocol::messages::{
    ApiKey, GroupId, ListGroupsResponse, OffsetCommitResponse, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use serde_json::Value;
use std::time::Duration;

fn describe(broker: &Broker, group: &str) -> Value {
    serde_json::from_str(&broker.tool(&["group", "describe", group, "--output", "json"])).unwrap()
}

/// Partition, committed offset and lag.
fn places(described: &Value) -> Vec<(i64, Option<i64>, Option<i64>)> {
    let rows = described["partitions"].as_array().unwrap();
    let place =
        |row: &Value| (row["partition"].as_i64().unwrap(), row["committed_offset"].as_i64(), row["lag"].as_i64());
    rows.iter().map(place).collect()
}

/// A topic of two partitions with ten records each, in two batches of different times.
fn topic(broker: &Broker) -> String {
    let topic = broker.name("orders");
    broker.tool(&["topic", "create", &topic, "--partitions", "2"]);
    for lines in ["1\n2\n3\n4\n", "5\n6\n7\n8\n9\n10\n"] {
        for partition in ["0", "1"] {
            broker.feed(&["produce", &topic, "--partition", partition], lines);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    topic
}

#[test]
fn offsets_of_a_group_without_members_are_moved_shown_and_deleted() {
    let broker = Broker::start();
    let (topic, group) = (topic(&broker), broker.name("billing"));
    let (topic, group) = (topic.as_str(), group.as_str());
    let reset = |args: &[&str]| broker.tool(&[&["group", "reset", group][..], args].concat());

    let missing = broker.run(&["group", "describe", group]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains(&format!("there is no group {group}")), "{}", text(&missing.stderr));

    let dry = reset(&["--topic", topic, "--to-offset", "4"]);
    assert!(dry.ends_with("\nnothing was changed; --execute commits these offsets\n"), "{dry}");
    assert_eq!(broker.run(&["group", "describe", group]).status.code(), Some(1), "a dry run makes no group");

    reset(&["--topic", topic, "--to-offset", "4", "--execute"]);
    assert_eq!(places(&describe(&broker, group)), [(0, Some(4), Some(6)), (1, Some(4), Some(6))]);
    let listed: Vec<Value> = serde_json::from_str(&broker.tool(&["group", "list", "--output", "json"])).unwrap();
    let row = listed.iter().find(|row| row["group"] == group).unwrap();
    assert_eq!((&row["state"], &row["type"]), (&"Empty".into(), &"classic".into()));

    reset(&["--topic", &format!("{topic}:1"), "--shift-by", "-3", "--execute"]);
    assert_eq!(places(&describe(&broker, group)), [(0, Some(4), Some(6)), (1, Some(1), Some(9))]);
    let shown: Value =
        serde_json::from_str(&reset(&["--all-topics", "--shift-by", "7", "--execute", "--output", "json"])).unwrap();
    let moved = |row: &Value| (row["from"].as_i64(), row["to"].as_i64(), row["note"].as_str().map(str::to_owned));
    let moves: Vec<_> = shown["partitions"].as_array().unwrap().iter().map(moved).collect();
    let clipped = Some("the partition ends here".to_owned());
    assert_eq!(moves, [(Some(4), Some(10), clipped), (Some(1), Some(8), None)]);
    assert_eq!(shown["executed"], true);

    let rows = broker.tool(&["consume", topic, "--partition", "1", "--format", "json"]);
    let fifth: Value = serde_json::from_str(rows.lines().nth(4).unwrap()).unwrap();
    reset(&["--topic", &format!("{topic}:1"), "--to-time", &fifth["timestamp"].to_string(), "--execute"]);
    assert_eq!(places(&describe(&broker, group)), [(0, Some(10), Some(0)), (1, Some(4), Some(6))]);
    let late = reset(&["--topic", topic, "--to-datetime", "2090-01-01T00:00:00Z"]);
    assert_eq!(late.matches("no record is that late").count(), 2, "{late}");
    reset(&["--all-topics", "--to-latest", "--execute"]);
    assert_eq!(describe(&broker, group)["lag"], 0);
    reset(&["--all-topics", "--to-earliest", "--execute"]);
    assert_eq!(describe(&broker, group)["lag"], 20);

    let elsewhere = broker.run(&["group", "reset", group, "--topic", &format!("{topic}:2"), "--to-latest"]);
    assert!(text(&elsewhere.stderr).contains("there is none with number 2"), "{}", text(&elsewhere.stderr));
    assert_eq!(broker.tool(&["group", "delete", group]), format!("group {group} deleted\n"));
    let again = broker.run(&["group", "delete", group]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains(&format!("there is no group {group}")), "{}", text(&again.stderr));
    broker.tool(&["topic", "delete", topic]);
}

#[test]
fn a_commit_that_is_refused_in_part_names_what_is_done_and_what_is_not() {
    let broker = Broker::start();
    let (topic, group) = (topic(&broker), broker.name("billing"));
    let (topic, group) = (topic.as_str(), group.as_str());
    let too_large = ResponseError::OffsetMetadataTooLarge.code();
    let proxy = proxy::start(&broker.kafka, move |request| {
        request.ask_and(ApiKey::OffsetCommit, |answer: &mut OffsetCommitResponse| {
            let rows = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            rows.filter(|row| row.partition_index == 0).for_each(|row| row.error_code = too_large);
        })
    });
    let args = ["group", "reset", group, "--topic", topic, "--to-offset", "4", "--execute", "--bootstrap", &proxy];
    let refused = run(&args, "");
    let error = text(&refused.stderr);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), String::new()), "{error}");
    let reason = format!("error: cannot commit {topic}/0 for group {group}: OffsetMetadataTooLarge");
    let wanted = format!("{reason}\ncommitted: {topic}/1\nnot committed: {topic}/0\n");
    assert_eq!(error, wanted);
    broker.tool(&["group", "delete", group]);
    broker.tool(&["topic", "delete", topic]);
}

#[test]
fn a_group_in_use_is_described_and_left_alone() {
    let broker = Broker::start();
    let (topic, group) = (topic(&broker), broker.name("shipping"));
    let (topic, group) = (topic.as_str(), group.as_str());
    broker.tool(&["group", "reset", group, "--topic", &format!("{topic}:0"), "--to-offset", "3", "--execute"]);
    let member = Member::join(&broker.kafka, group, topic, &[0, 1]);

    let described = describe(&broker, group);
    assert_eq!((&described["state"], &described["assignor"]), (&"Stable".into(), &"range".into()));
    assert_eq!(described["members"][0]["partitions"], serde_json::json!({ topic: [0, 1] }));
    assert_eq!(places(&described), [(0, Some(3), Some(7)), (1, None, None)]);
    for row in described["partitions"].as_array().unwrap() {
        assert_eq!(row["member_id"], member.id.as_str());
    }
    let table = broker.tool(&["group", "describe", group]);
    assert!(table.contains("  state Stable  assignor range  ") && table.contains(&member.id), "{table}");

    for args in [
        &["group", "reset", group, "--all-topics", "--to-latest", "--execute"][..],
        &["group", "reset", group, "--topic", topic, "--to-latest"],
        &["group", "delete", group],
    ] {
        let refused = broker.run(args);
        let error = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains(&format!("group {group} is in use: it has 1 member\n")), "{args:?}: {error}");
    }
    assert_eq!(places(&describe(&broker, group))[0], (0, Some(3), Some(7)));

    member.leave();
    broker.tool(&["group", "reset", group, "--all-topics", "--to-latest", "--execute"]);
    assert_eq!(describe(&broker, group)["state"], "Empty");
    broker.tool(&["group", "delete", group]);
    broker.tool(&["topic", "delete", topic]);
}

#[test]
fn offsets_of_what_was_deleted_are_left_out_of_a_reset_of_all_topics() {
    let broker = Broker::start();
    let (topic, group) = (topic(&broker), broker.name("billing"));
    let (topic, group) = (topic.as_str(), group.as_str());
    broker.tool(&["group", "reset", group, "--topic", topic, "--to-offset", "4", "--execute"]);
    let real = topic.to_owned();
    // The topic has two partitions; of the other one nothing is left.
    let proxy = proxy::start(&broker.kafka, move |request| {
        request.ask_and(ApiKey::OffsetFetch, |answer: &mut OffsetFetchResponse| {
            for (name, partition) in [(real.as_str(), 2), ("gone", 0)] {
                let row = OffsetFetchResponsePartition::default()
                    .with_partition_index(partition)
                    .with_committed_offset(1)
                    .with_metadata(Some(StrBytes::default()));
                let name = TopicName(StrBytes::from_string(name.to_owned()));
                answer.topics.push(OffsetFetchResponseTopic::default().with_name(name).with_partitions(vec![row]));
            }
        })
    });
    let args = ["group", "reset", group, "--all-topics", "--to-latest", "--execute", "--bootstrap", &proxy];
    let output = run(&args, "");
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    for place in ["gone/0".to_owned(), format!("{topic}/2")] {
        assert!(error.contains(&format!("warning: {place} is not there any more: it is left out\n")), "{error}");
    }
    assert_eq!(places(&describe(&broker, group)), [(0, Some(10), Some(0)), (1, Some(10), Some(0))]);
    broker.tool(&["group", "delete", group]);
    broker.tool(&["topic", "delete", topic]);
}

#[test]
fn a_group_of_another_kind_is_not_said_to_be_missing() {
    let broker = Broker::start();
    let group = broker.name("shared");
    let name = group.clone();
    let proxy = proxy::start(&broker.kafka, move |request| {
        request.ask_and(ApiKey::ListGroups, |answer: &mut ListGroupsResponse| {
            let id = GroupId(StrBytes::from_string(name.clone()));
            let row = ListedGroup::default().with_group_id(id).with_group_type(StrBytes::from_static_str("share"));
            answer.groups.push(row);
        })
    });
    for args in [&["describe", &group][..], &["reset", &group, "--all-topics", "--to-latest"]] {
        let output = run(&[&["group"], args, &["--bootstrap", &proxy]].concat(), "");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        let wanted = format!("error: group {group} is of type share, which this program can list but not handle\n");
        assert_eq!(error, wanted, "{args:?}");
    }
}
