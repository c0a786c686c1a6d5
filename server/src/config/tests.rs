//! Where a setting comes from, and what is refused.

use super::options::OPTIONS;
use super::resolve::Source;
use super::*;

fn inputs(flags: &[(&str, &str)], env: &[(&str, &str)], file: Option<&str>) -> Inputs {
    let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Inputs { flags: own(flags), env: own(env), file: file.map(|text| ("headwater.toml".to_owned(), text.to_owned())) }
}

fn value(effective: &Effective, key: &str) -> (String, String) {
    let value = effective.values.iter().find(|value| value.key == key).expect("every option has a value");
    (value.text.clone(), value.source.to_string())
}

fn problems(inputs: &Inputs) -> String {
    resolve(inputs).expect_err("must be refused").to_string()
}

#[test]
fn defaults_alone_are_a_valid_configuration() {
    let effective = resolve(&Inputs::default()).unwrap();
    assert_eq!(effective.config.kafka.to_string(), "127.0.0.1:9092");
    assert_eq!(effective.config.aws.to_string(), "127.0.0.1:4566");
    assert_eq!(effective.config.admin.to_string(), "127.0.0.1:9600");
    assert_eq!(effective.config.engine.data_dir, PathBuf::from("./headwater-data"));
    assert!(effective.values.iter().all(|value| value.source == Source::Default));
    assert_eq!(effective.values.len(), OPTIONS.len());
}

/// The table repeats defaults that belong to the engine and the network side, so that people can read them.
#[test]
fn the_defaults_of_the_table_are_those_of_the_parts() {
    let config = resolve(&Inputs::default()).unwrap().config;
    let engine = headwater_engine::Options::new(PathBuf::from("./headwater-data"));
    assert_eq!(format!("{:#?}", config.engine), format!("{engine:#?}"));
    assert_eq!(format!("{:#?}", config.limits), format!("{:#?}", Limits::default()));
    assert_eq!(format!("{:#?}", config.groups), format!("{:#?}", GroupOptions::default()));
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = Some("kafka = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\ndata_dir = \"from-file\"\n");
    let env = [("HEADWATER_KAFKA", "127.0.0.1:3"), ("HEADWATER_ADMIN", "127.0.0.1:4")];
    let effective = resolve(&inputs(&[("kafka", "127.0.0.1:5")], &env, file)).unwrap();
    assert_eq!(value(&effective, "kafka"), ("127.0.0.1:5".into(), "--kafka".into()));
    assert_eq!(value(&effective, "admin"), ("127.0.0.1:4".into(), "HEADWATER_ADMIN".into()));
    assert_eq!(value(&effective, "data_dir"), ("from-file".into(), "headwater.toml:3".into()));
    assert_eq!(value(&effective, "aws"), ("127.0.0.1:4566".into(), "default".into()));
    assert_eq!(effective.config.kafka.port, 5);
    assert_eq!(effective.config.admin.port, 4);
}

#[test]
fn unknown_keys_are_reported_with_line_and_suggestion() {
    let text = problems(&inputs(&[], &[], Some("# a comment\nkafak = \"127.0.0.1:1\"\n\n[limits]\nspeed = 1\n")));
    assert_eq!(
        text,
        "headwater.toml:2: unknown key `kafak`; did you mean `kafka`?\nheadwater.toml:5: unknown key `limits.speed`"
    );
    let text = problems(&inputs(&[], &[], Some("[nothing]\n")));
    assert!(text.contains("headwater.toml:1: `nothing` is an empty table"), "{text}");
}

#[test]
fn broken_toml_names_the_line() {
    let text = problems(&inputs(&[], &[], Some("kafka = \"127.0.0.1:1\"\nadmin = \n")));
    assert!(text.starts_with("headwater.toml:2: "), "{text}");
}

#[test]
fn bad_values_name_their_source() {
    let cases = [
        ("kafka", "9092", "has no port"),
        ("kafka", "127.0.0.1:70000", "not a number from 0 to 65535"),
        ("kafka", "::1:9092", "IPv6 address stands in brackets"),
        ("kafka", "a b:1", "no host name has"),
        ("durability", "maybe", "must be fsync or os"),
        ("log.level", "loud", "is not a level"),
        ("log.format", "xml", "must be text or json"),
        ("insecure_no_auth", "yes", "must be true or false"),
        ("topic.partitions", "0", "must lie between 1 and"),
        ("limits.request_size_max", "1 MB", "is not a size"),
        ("wal.size_max", "99999999999TiB", "is too large"),
        ("worker_threads", "-1", "is not a whole number"),
    ];
    for (key, text, why) in cases {
        let found = problems(&inputs(&[(key, text)], &[], None));
        assert!(found.contains(why) && found.starts_with("--"), "{key} = {text}: {found}");
    }
}

#[test]
fn sizes_take_binary_units() {
    let effective =
        resolve(&inputs(&[("limits.request_size_max", "2 MiB"), ("wal.size_max", "1048576KiB")], &[], None));
    let config = effective.unwrap().config;
    assert_eq!(config.limits.request_bytes_max, 2 << 20);
    assert_eq!(config.engine.wal_size_max, 1 << 30);
}

#[test]
fn an_address_beyond_this_machine_needs_consent() {
    for (key, address) in [("kafka", "192.0.2.7:9092"), ("aws", "0.0.0.0:4566"), ("admin", "broker.example:9600")] {
        let found = problems(&inputs(&[(key, address)], &[], None));
        assert!(found.contains("--insecure-no-auth"), "{found}");
        let consent = [(key, address), ("insecure_no_auth", "true")];
        assert!(resolve(&inputs(&consent, &[], None)).is_ok(), "{key} = {address}");
    }
    for address in ["localhost:1", "[::1]:1", "127.3.2.1:1"] {
        assert!(resolve(&inputs(&[("kafka", address)], &[], None)).is_ok(), "{address}");
    }
}

#[test]
fn a_wildcard_needs_an_address_to_tell_clients() {
    let base = [("kafka", "0.0.0.0:9092"), ("insecure_no_auth", "true")];
    assert!(problems(&inputs(&base, &[], None)).contains("kafka_advertised"));
    let told = [base[0], base[1], ("kafka_advertised", "broker.example:9092")];
    assert!(resolve(&inputs(&told, &[], None)).is_ok());
    let useless = [base[0], base[1], ("kafka_advertised", "0.0.0.0:9092")];
    assert!(problems(&inputs(&useless, &[], None)).contains("not an address that a client can connect to"));
}

#[test]
fn two_listeners_cannot_share_a_port() {
    let found = problems(&inputs(&[("kafka", "127.0.0.1:7000"), ("admin", "127.0.0.1:7000")], &[], None));
    assert!(found.contains("is the same place as"), "{found}");
    assert!(resolve(&inputs(&[("kafka", "127.0.0.1:0"), ("admin", "127.0.0.1:0")], &[], None)).is_ok());
}

#[test]
fn topic_defaults_come_quoted_or_dotted_and_merge_by_name() {
    let file = "[topic]\npartitions = 3\n[topic.defaults]\n\"retention.ms\" = 5\nsegment.bytes = 1048576\n\
                cleanup.policy = [\"compact\", \"delete\"]\n";
    let env = [("HEADWATER_TOPIC_DEFAULTS", "retention.ms=6; segment.ms = 7")];
    let flags = [("topic.defaults.segment.ms", "8")];
    let effective = resolve(&inputs(&flags, &env, Some(file))).unwrap();
    let pairs: Vec<_> =
        effective.config.engine.topic_defaults.overrides().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected = [
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "6"),
        ("segment.bytes", "1048576"),
        ("segment.ms", "8"),
    ];
    assert_eq!(pairs, expected);
    assert_eq!(value(&effective, "topic.defaults.retention.ms").1, "HEADWATER_TOPIC_DEFAULTS");
    assert_eq!(value(&effective, "topic.defaults.segment.bytes").1, "headwater.toml:5");
    assert_eq!(value(&effective, "topic.defaults.segment.ms").1, "--topic-default segment.ms");
    assert_eq!(effective.config.default_partitions, 3);
}

#[test]
fn a_variable_that_is_no_option_is_a_warning() {
    let effective = resolve(&inputs(&[], &[("HEADWATER_KAFAK", "x"), ("HEADWATER_BOOTSTRAP", "y")], None)).unwrap();
    assert_eq!(effective.warnings, ["the environment variable HEADWATER_KAFAK is not an option of the server"]);
}

#[test]
fn every_option_has_its_own_flag_and_variable() {
    let mut names: Vec<String> = OPTIONS.iter().flat_map(|row| [row.flag(), row.env()]).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(OPTIONS.iter().all(|row| !row.help.is_empty() && !row.help.ends_with('.')));
}

#[test]
fn a_topic_default_that_makes_no_sense_names_its_source() {
    let file = "[topic.defaults]\nsegment.bytes = 1048576\nretention.ms = \"soon\"\nretention.mss = 5\n";
    assert_eq!(
        problems(&inputs(&[], &[], Some(file))),
        "headwater.toml:3: `topic.defaults.retention.ms = soon`: Invalid value soon for configuration retention.ms: Not a \
         number of type LONG\n\
         headwater.toml:4: `topic.defaults.retention.mss = 5`: Unknown topic config name: retention.mss"
    );
    let found = problems(&inputs(&[], &[("HEADWATER_TOPIC_DEFAULTS", "retention.ms=1;nonsense=2")], None));
    assert_eq!(found, "HEADWATER_TOPIC_DEFAULTS: `topic.defaults.nonsense = 2`: Unknown topic config name: nonsense");
    let found = problems(&inputs(&[("topic.defaults.retention_ms", "5")], &[], None));
    assert!(found.starts_with("--topic-default retention_ms: "), "{found}");
}
