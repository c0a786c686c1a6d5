//! `headwater topic alter`. HEADWATER_BOOTSTRAP names a broker to run it against, instead of one that is started.

use crate::common::{Broker, run, text};
use serde_json::Value;

fn settings(broker: &Broker, topic: &str) -> Vec<(String, String)> {
    let shown: Value = serde_json::from_str(&broker.tool(&["topic", "describe", topic, "--output", "json"])).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = shown["settings"].as_array().unwrap();
    rows.iter().map(|row| (word(&row["name"]), word(&row["value"]))).collect()
}

fn partitions(broker: &Broker, topic: &str) -> usize {
    let shown: Value = serde_json::from_str(&broker.tool(&["topic", "describe", topic, "--output", "json"])).unwrap();
    shown["partitions"].as_array().unwrap().len()
}

#[test]
fn a_topic_is_altered_as_a_whole_or_not_at_all() {
    let broker = Broker::start();
    let topic = broker.name("altered");
    let topic = topic.as_str();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    broker.tool(&["topic", "create", topic, "--config", "retention.ms=1000", "--config", "segment.bytes=1048576"]);

    let asked = broker.tool(&["topic", "alter", topic, "--set", "retention.ms=2000", "--validate-only"]);
    assert_eq!(asked, format!("topic {topic} could be changed\n"));
    assert_eq!(settings(&broker, topic), [pair("retention.ms", "1000"), pair("segment.bytes", "1048576")]);

    let change = [
        "--set",
        "retention.ms=2000",
        "--set",
        "cleanup.policy=delete",
        "--delete",
        "segment.bytes",
        "--partitions",
        "3",
    ];
    let changed = broker.tool(&[&["topic", "alter", topic][..], &change].concat());
    let told = "retention.ms = 2000, cleanup.policy = delete, segment.bytes as the broker has it, 3 partitions";
    assert_eq!(changed, format!("topic {topic} changed: {told}\n"));
    assert_eq!(settings(&broker, topic), [pair("cleanup.policy", "delete"), pair("retention.ms", "2000")]);
    assert_eq!(partitions(&broker, topic), 3);

    // One part is refused, so the other one is not done either.
    for (change, message) in [
        (&["--set", "retention.ms=soon", "--partitions", "4"][..], "InvalidConfig"),
        (&["--set", "retention.ms=3000", "--partitions", "2"], "InvalidPartitions"),
        (&["--set", "no.such.setting=1"], "InvalidConfig"),
    ] {
        let refused = broker.run(&[&["topic", "alter", topic][..], change].concat());
        assert_eq!(refused.status.code(), Some(1), "{change:?}");
        assert!(text(&refused.stderr).contains(message), "{change:?}: {}", text(&refused.stderr));
        assert_eq!(settings(&broker, topic), [pair("cleanup.policy", "delete"), pair("retention.ms", "2000")]);
        assert_eq!(partitions(&broker, topic), 3);
    }
    let missing = broker.run(&["topic", "alter", "no-such-topic", "--set", "retention.ms=1"]);
    assert!(text(&missing.stderr).contains("UnknownTopicOrPartition"), "{}", text(&missing.stderr));
    broker.tool(&["topic", "delete", topic]);
}

#[test]
fn a_topic_that_produce_makes_is_told_and_made_for_records_alone() {
    let broker = Broker::start();
    let topic = broker.name("mistyped");
    let topic = topic.as_str();
    let nothing = broker.run(&["produce", topic]);
    let error = text(&nothing.stderr);
    assert_eq!(nothing.status.code(), Some(0), "{error}");
    assert_eq!(error, format!("warning: topic {topic} is not there, and was not made: the input is empty\n"));
    assert_eq!(broker.run(&["topic", "describe", topic]).status.code(), Some(1));

    for wanted in [format!("topic {topic} created\n"), String::new()] {
        let made = run(&["produce", topic, "--bootstrap", &broker.kafka], "one\n");
        assert_eq!((made.status.code(), text(&made.stderr)), (Some(0), wanted));
    }
    assert_eq!(broker.tool(&["consume", topic]), "one\none\n");
    broker.tool(&["topic", "delete", topic]);
}
