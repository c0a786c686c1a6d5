//! The settings of a topic, as Kafka names them: one table for what CreateTopics accepts, what DescribeConfigs shows, and
//! `docs/configuration.md`.
//!
//! The engine acts on some names (its `Settings` has a typed field for each); the others are checked, kept and shown, so that
//! tools which set or read them go on working.

mod rows;
mod value;

pub use rows::SETTINGS;
pub use value::Kind;

use crate::limits::TOPIC_SETTINGS_BYTES_MAX;
use crate::map;
use headwater_engine::Settings;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One name.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name on the wire.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The reference's value when neither the topic nor the server sets one. See [`default_of`].
    pub default: &'static str,
    /// The broker's setting that gives topics their default.
    pub synonym: Option<Synonym>,
    /// How much it matters to whoever runs a topic.
    pub importance: Importance,
    /// What Headwater does with it.
    pub effect: Effect,
    /// What it is for.
    pub documentation: &'static str,
}

/// A broker's setting behind a topic's.
#[derive(Clone, Copy, Debug)]
pub struct Synonym {
    /// The name on the wire.
    pub name: &'static str,
    /// Whether it has a value of its own when nobody sets it.
    pub has_default: bool,
}

/// How much a setting matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// Know it.
    High,
    /// Know that it is there.
    Medium,
    /// Look it up.
    Low,
}

/// What Headwater does with a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It acts.
    Acts,
    /// It is checked, kept and shown; Headwater has nothing that it could steer.
    Kept,
}

/// The setting of that name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// Checks what a new topic wants to set, as the reference does: first that no value is null, then that every name is known,
/// then each value, then values against each other. What is kept has each name once, its value in the form in which it is
/// shown; the last one wins.
pub fn check<'a>(given: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Result<BTreeMap<String, String>, String> {
    let mut wanted: BTreeMap<&str, &str> = BTreeMap::new();
    let mut unknown = None;
    for (name, value) in given {
        let value = value.ok_or_else(|| format!("Null value not supported for topic configs: {name}"))?;
        if find(name).is_none() {
            unknown.get_or_insert(name);
        }
        wanted.insert(name, value);
    }
    if let Some(name) = unknown {
        return Err(format!("Unknown topic config name: {name}"));
    }
    let mut kept = BTreeMap::new();
    for setting in SETTINGS {
        if let Some(value) = wanted.get(setting.name) {
            let text = setting.kind.canonical(setting.name, value)?;
            // The reference takes any negative number for no limit; the engine has one way to say it.
            let text = if setting.name == "retention.bytes" && text.starts_with('-') { "-1".to_owned() } else { text };
            kept.insert(setting.name.to_owned(), text);
        }
    }
    check_together(&kept)?;
    let bytes: usize = kept.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > TOPIC_SETTINGS_BYTES_MAX {
        return Err(format!("The settings of one topic may take {TOPIC_SETTINGS_BYTES_MAX} bytes, these take {bytes}"));
    }
    Ok(kept)
}

/// Checks one setting, as a new topic would have it, and gives its value the form in which it is kept.
pub fn check_topic_setting(name: &str, value: &str) -> Result<String, String> {
    let kept = check([(name, Some(value))].into_iter())?;
    kept.into_values().next().ok_or_else(|| format!("Unknown topic config name: {name}"))
}

fn check_together(kept: &BTreeMap<String, String>) -> Result<(), String> {
    let number = |name| {
        let text = kept.get(name).map(String::as_str).or_else(|| find(name).map(|s| s.default));
        text.and_then(|text| text.parse::<i64>().ok()).unwrap_or_default()
    };
    let (least, most) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
    if least > most {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({least}) > max.compaction.lag.ms ({most})"
        ));
    }
    if kept.get("remote.storage.enable").is_some_and(|value| value == "true") {
        return Err(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log \
                    storage."
                .to_owned(),
        );
    }
    Ok(())
}

/// The value of a setting and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The value, as text.
    pub text: String,
    /// Who set it.
    pub source: Source,
}

/// Where a value comes from; the numbers are DescribeConfigs' own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The topic itself.
    Topic = 1,
    /// The server's configuration.
    Server = 4,
    /// Nobody.
    Default = 5,
}

/// What `setting` is for a topic with these settings, on a server with those defaults.
pub fn value(setting: &Setting, settings: &Settings, defaults: &Settings) -> Value {
    match settings.overrides().get(setting.name) {
        Some(text) => Value { text: shown(setting, text), source: Source::Topic },
        None => server_value(setting, defaults),
    }
}

/// What `setting` is for a topic that does not set it.
pub fn server_value(setting: &Setting, defaults: &Settings) -> Value {
    let default = default_of(setting);
    let text = match defaults.overrides().get(setting.name) {
        Some(text) => shown(setting, text),
        None => map::setting(setting.name, defaults).unwrap_or_else(|| default.clone()),
    };
    let source = if text == default { Source::Default } else { Source::Server };
    Value { text, source }
}

/// What was kept has been checked, so it has a form in which it is shown; if it had none, it would be shown as it is.
fn shown(setting: &Setting, text: &str) -> String {
    setting.kind.canonical(setting.name, text).unwrap_or_else(|_| text.to_owned())
}

/// What `setting` is when nobody sets it: the reference's default, unless the engine has another.
pub fn default_of(setting: &Setting) -> String {
    map::setting(setting.name, &Settings::default()).unwrap_or_else(|| setting.default.to_owned())
}

/// Whether records may be deleted on request: the cleanup policy names `delete`, or nothing.
pub fn may_delete_records(settings: &Settings, defaults: &Settings) -> bool {
    let policy = find("cleanup.policy").map(|setting| value(setting, settings, defaults).text).unwrap_or_default();
    policy.is_empty() || policy.split(',').any(|word| word == "delete")
}

/// The topic settings of `docs/configuration.md`, as a table.
pub fn topic_settings_page() -> String {
    let mut page = String::from(
        "| Name | Default | Values | Broker setting | Importance | Effect | What it is for |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for setting in SETTINGS {
        let effect = match setting.effect {
            Effect::Acts => "acts",
            Effect::Kept => "kept and shown",
        };
        let default = Some(default_of(setting)).filter(|text| !text.is_empty());
        let default = default.map_or("empty".to_owned(), |text| format!("`{text}`"));
        let synonym = setting.synonym.map_or(String::new(), |s| format!("`{}`", s.name));
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {default} | {} | {synonym} | {:?} | {effect} | {} |",
            setting.name,
            setting.kind.in_words(),
            setting.importance,
            setting.documentation
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_that_its_setting_takes() {
        for setting in SETTINGS {
            let text = default_of(setting);
            assert_eq!(setting.kind.canonical(setting.name, &text), Ok(text), "{}", setting.name);
            assert_eq!(setting.kind.canonical(setting.name, setting.default).as_deref(), Ok(setting.default));
        }
    }

    #[test]
    fn the_engine_and_the_reference_agree_on_defaults() {
        for setting in SETTINGS {
            assert_eq!(default_of(setting), setting.default, "{}", setting.name);
        }
    }

    #[test]
    fn what_is_checked_is_what_the_engine_takes() {
        for setting in SETTINGS.iter().filter(|setting| setting.effect == Effect::Acts) {
            let kept = check([(setting.name, Some(setting.default))].into_iter()).expect("a default");
            Settings::parse(kept, &Settings::default()).expect(setting.name);
        }
        let kept = check([("retention.bytes", Some(" -3"))].into_iter()).expect("any negative number");
        let settings = Settings::parse(kept, &Settings::default()).expect("what was kept");
        assert_eq!(settings.retention_bytes, -1);
    }

    #[test]
    fn what_the_server_sets_is_shown_as_the_servers() {
        let set = |pairs: &[(&str, &str)]| {
            let kept = check(pairs.iter().map(|(name, value)| (*name, Some(*value)))).expect("good values");
            Settings::parse(kept, &Settings::default()).expect("what was kept")
        };
        let defaults = set(&[("retention.ms", "5"), ("preallocate", "TRUE"), ("cleanup.policy", "")]);
        let topic = Settings::parse(BTreeMap::new(), &defaults).expect("nothing");
        let shown = |name, settings: &Settings| value(find(name).expect(name), settings, &defaults);
        let of = |text: &str, source| Value { text: text.to_owned(), source };
        assert_eq!(shown("retention.ms", &topic), of("5", Source::Server));
        assert_eq!(shown("preallocate", &topic), of("true", Source::Server));
        assert_eq!(shown("flush.ms", &topic), of("9223372036854775807", Source::Default));
        assert!(may_delete_records(&topic, &defaults));
        let compacted = set(&[("cleanup.policy", "compact"), ("retention.ms", "604800000")]);
        assert_eq!(shown("retention.ms", &compacted), of("604800000", Source::Topic));
        assert!(!may_delete_records(&compacted, &defaults));
    }

    #[test]
    fn names_are_there_once_and_the_page_has_a_line_for_each() {
        let mut names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(topic_settings_page().lines().count(), names.len() + 2);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 37 + 2);
    }
}
