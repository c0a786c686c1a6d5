//! A topic's settings: what was set explicitly, over the server's defaults; typed where the engine acts on it.
//!
//! The names are those that clients know. Names that the engine does not act on are kept as they came; whether a name may
//! be set at all is the head's to decide.

use crate::batch::{Codec, Rules, TimestampType, Validation};
use crate::ids::TimestampMs;
use std::collections::BTreeMap;
use std::str::FromStr;

/// What an acknowledgement promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Durable on the medium: survives a power cut.
    #[default]
    Fsync,
    /// In the operating system's hands: survives a kill of the process.
    Os,
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fsync" => Ok(Durability::Fsync),
            "os" => Ok(Durability::Os),
            _ => Err("must be fsync or os".to_owned()),
        }
    }
}

/// Bytes of names and values of all that is set explicitly for one topic. The log holds them in one entry.
pub const SETTINGS_BYTES_MAX: usize = 64 << 10;

/// A value that a setting cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {value} for setting {name}: {why}")]
pub struct InvalidSetting {
    /// The setting.
    pub name: String,
    /// The value given.
    pub value: String,
    /// What it must be.
    pub why: String,
}

/// The settings in force for a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// A segment is closed before it grows over this.
    pub segment_bytes: u64,
    /// A segment is closed when its first record is older than this.
    pub segment_ms: i64,
    /// Bytes kept per partition; negative for no bound.
    pub retention_bytes: i64,
    /// Age of records kept; -1 for no bound.
    pub retention_ms: i64,
    /// The largest batch taken.
    pub batch_size_max: usize,
    /// Whose clock stamps the records.
    pub timestamp_type: TimestampType,
    /// How far behind the clock a record's timestamp may lie.
    pub timestamp_before_max_ms: i64,
    /// How far ahead of the clock a record's timestamp may lie.
    pub timestamp_after_max_ms: i64,
    /// The codec that batches are stored with; none keeps the producer's.
    pub compression: Option<Codec>,
    /// How far compressed batches are checked.
    pub validation: Validation,
    /// What an acknowledgement promises; none follows the server.
    pub durability: Option<Durability>,
    /// Whether old segments are deleted (cleanup.policy names delete).
    pub deletes: bool,
    /// Whether only the last record of each key is kept (cleanup.policy names compact).
    pub compacts: bool,
    /// A partition is compacted when more than this part of it is not compacted yet.
    pub dirty_ratio_min: f64,
    /// Records younger than this are not compacted.
    pub compaction_lag_min_ms: i64,
    /// A partition is compacted, however little there is to gain, once a record waits for longer than this.
    pub compaction_lag_max_ms: i64,
    /// How long a null value is kept after the pass that first found it.
    pub delete_retention_ms: i64,
    /// The largest record in a compressed batch.
    pub inflated_record_size_max: usize,
    overrides: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            retention_bytes: -1,
            retention_ms: 7 * 24 * 3600 * 1000,
            batch_size_max: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: None,
            validation: Validation::Full,
            durability: None,
            deletes: true,
            compacts: false,
            dirty_ratio_min: 0.5,
            compaction_lag_min_ms: 0,
            compaction_lag_max_ms: i64::MAX,
            delete_retention_ms: 24 * 3600 * 1000,
            inflated_record_size_max: 2_147_483_639,
            overrides: BTreeMap::new(),
        }
    }
}

fn number<T: FromStr + PartialOrd>(text: &str, least: T) -> Result<T, String> {
    match text.trim().parse::<T>() {
        Ok(number) if number >= least => Ok(number),
        Ok(_) => Err("too small".to_owned()),
        Err(_) => Err("not a number in range".to_owned()),
    }
}

impl Settings {
    /// The same as `parse` for settings that somebody asks for: what is stored already is taken whatever its size.
    pub fn parse_new(overrides: BTreeMap<String, String>, defaults: &Settings) -> Result<Settings, InvalidSetting> {
        let size = |(name, value): (&String, &String)| name.len() + value.len();
        if overrides.iter().map(size).sum::<usize>() > SETTINGS_BYTES_MAX {
            let largest = overrides.into_iter().max_by_key(|(name, value)| size((name, value)));
            let (name, value) = largest.unwrap_or_default();
            let value = format!("of {} bytes", value.len());
            let why = format!("the settings of one topic may take {SETTINGS_BYTES_MAX} bytes");
            return Err(InvalidSetting { name: name.chars().take(100).collect(), value, why });
        }
        Settings::parse(overrides, defaults)
    }

    /// Explicit settings over `defaults`. Names that the engine does not act on are kept unread.
    pub fn parse(overrides: BTreeMap<String, String>, defaults: &Settings) -> Result<Settings, InvalidSetting> {
        let mut settings = defaults.clone();
        for (name, value) in &overrides {
            settings.apply(name, value).map_err(|why| InvalidSetting {
                name: name.clone(),
                value: value.clone(),
                why,
            })?;
        }
        settings.overrides = overrides;
        Ok(settings)
    }

    fn apply(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "segment.bytes" => self.segment_bytes = number(value, 1)?,
            "segment.ms" => self.segment_ms = number(value, 1)?,
            "retention.bytes" => self.retention_bytes = number(value, i64::MIN)?,
            "retention.ms" => self.retention_ms = number(value, -1)?,
            "max.message.bytes" => self.batch_size_max = number(value, 0)?,
            "max.decompressed.message.bytes" => self.inflated_record_size_max = number(value, 1)?,
            "message.timestamp.type" => {
                self.timestamp_type = match value {
                    "CreateTime" => TimestampType::CreateTime,
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => return Err("must be CreateTime or LogAppendTime".to_owned()),
                }
            }
            "message.timestamp.before.max.ms" => self.timestamp_before_max_ms = number(value, 0)?,
            "message.timestamp.after.max.ms" => self.timestamp_after_max_ms = number(value, 0)?,
            "compression.type" => {
                self.compression = match value {
                    "producer" => None,
                    "uncompressed" => Some(Codec::None),
                    "gzip" => Some(Codec::Gzip),
                    "snappy" => Some(Codec::Snappy),
                    "lz4" => Some(Codec::Lz4),
                    "zstd" => Some(Codec::Zstd),
                    _ => return Err("must be producer, uncompressed, gzip, snappy, lz4 or zstd".to_owned()),
                }
            }
            "cleanup.policy" => {
                let names = |policy| value.split(',').any(|part| part.trim() == policy);
                (self.deletes, self.compacts) = (names("delete"), names("compact"));
            }
            "min.cleanable.dirty.ratio" => {
                // Not a number passes, as it does in the reference; nothing is more than that.
                self.dirty_ratio_min = value.trim().parse().map_err(|_| "not a number")?;
                if self.dirty_ratio_min < 0.0 || self.dirty_ratio_min > 1.0 {
                    return Err("must be between 0 and 1".to_owned());
                }
            }
            "min.compaction.lag.ms" => self.compaction_lag_min_ms = number(value, 0)?,
            "max.compaction.lag.ms" => self.compaction_lag_max_ms = number(value, 1)?,
            "delete.retention.ms" => self.delete_retention_ms = number(value, 0)?,
            "batch.validation" => {
                self.validation = match value {
                    "full" => Validation::Full,
                    "header" => Validation::Header,
                    _ => return Err("must be full or header".to_owned()),
                }
            }
            "headwater.durability" => self.durability = Some(value.parse()?),
            _ => {}
        }
        Ok(())
    }

    /// What was set explicitly, as it was given.
    pub fn overrides(&self) -> &BTreeMap<String, String> {
        &self.overrides
    }

    /// A segment is closed when its first record is older than this. The last segment is never compacted, so a record that
    /// must be compacted after a while must not stay in it for longer.
    pub fn roll_ms(&self) -> i64 {
        if self.compacts { self.segment_ms.min(self.compaction_lag_max_ms) } else { self.segment_ms }
    }

    /// The rules that a batch for this topic is checked by.
    pub fn rules(&self, now: TimestampMs) -> Rules {
        Rules {
            batch_size_max: self.batch_size_max,
            timestamp_type: self.timestamp_type,
            timestamp_before_max_ms: self.timestamp_before_max_ms,
            timestamp_after_max_ms: self.timestamp_after_max_ms,
            validation: self.validation,
            compression: self.compression,
            inflated_record_size_max: self.inflated_record_size_max,
            key_required: self.compacts,
            ..Rules::new(now)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, InvalidSetting> {
        let overrides = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::parse(overrides, &Settings::default())
    }

    #[test]
    fn a_policy_is_any_of_two_words() {
        for (policy, deletes, compacts) in [
            ("delete", true, false),
            ("compact", false, true),
            ("compact,delete", true, true),
            (" delete , compact ", true, true),
            ("", false, false),
        ] {
            let settings = parse(&[("cleanup.policy", policy)]).expect(policy);
            assert_eq!((settings.deletes, settings.compacts), (deletes, compacts), "{policy}");
            assert_eq!(settings.rules(TimestampMs(0)).key_required, compacts, "{policy}");
        }
    }

    #[test]
    fn a_record_that_must_be_compacted_does_not_stay_in_the_active_segment() {
        let lag = ("max.compaction.lag.ms", "5000");
        assert_eq!(parse(&[lag]).expect("good").roll_ms(), 7 * 24 * 3600 * 1000);
        assert_eq!(parse(&[lag, ("cleanup.policy", "compact")]).expect("good").roll_ms(), 5_000);
        let both = [lag, ("cleanup.policy", "compact"), ("segment.ms", "100")];
        assert_eq!(parse(&both).expect("good").roll_ms(), 100);
    }

    #[test]
    fn a_ratio_lies_between_nothing_and_all() {
        for (text, is_good) in
            [("0", true), ("1.0", true), ("NaN", true), ("-0.1", false), ("1.1", false), ("x", false)]
        {
            assert_eq!(parse(&[("min.cleanable.dirty.ratio", text)]).is_ok(), is_good, "{text}");
        }
    }
}
