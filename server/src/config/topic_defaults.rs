//! `[topic.defaults]`: Kafka topic settings that hold where a topic does not say otherwise. The names are Kafka's, so
//! they are not rows of the options table.

use headwater_engine::Settings;
use std::collections::BTreeMap;

/// The table's name in the file, and the prefix of its keys everywhere.
pub const PREFIX: &str = "topic.defaults.";
/// The environment variable: `retention.ms=86400000;compression.type=zstd`.
pub const ENV: &str = "HEADWATER_TOPIC_DEFAULTS";
/// The flag, which may be repeated: `--topic-default retention.ms=86400000`.
pub const FLAG: &str = "topic-default";

/// Reads one `NAME=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

/// Reads the environment's form: pairs with semicolons between them.
pub fn parse_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    text.split(';').map(str::trim).filter(|pair| !pair.is_empty()).map(parse_pair).collect()
}

/// Checks one setting alone and gives its value the form that the engine reads. A name that Kafka does not have is refused:
/// it would be kept and do nothing.
pub fn check(name: &str, value: &str) -> Result<String, String> {
    let value = headwater_protocol_kafka::check_topic_setting(name, value)?;
    let alone = BTreeMap::from([(name.to_owned(), value.clone())]);
    Settings::parse(alone, &Settings::default()).map(|_| value).map_err(|error| error.why)
}
