//! Precedence: flag, then environment, then file, then default. Every value remembers who set it.

use super::options::{ENV_PREFIX, OPTIONS, OTHER_ENV, OptionRow, find};
use super::{Config, ConfigError, Problem, checks, file, topic_defaults};
use headwater_engine::Settings;
use std::collections::BTreeMap;
use std::fmt;

/// What may set options, gathered, so that resolving is a pure function.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Key and text of each flag that was given.
    pub flags: Vec<(String, String)>,
    /// Variables whose name begins with `HEADWATER_`.
    pub env: Vec<(String, String)>,
    /// The file's name and text.
    pub file: Option<(String, String)>,
}

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Default,
    File { name: String, line: usize },
    Env(String),
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File { name, line } => write!(f, "{name}:{line}"),
            Source::Env(name) => f.write_str(name),
            Source::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// One option's value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    pub key: String,
    pub text: String,
    pub source: Source,
}

/// A configuration that passed every check.
#[derive(Debug)]
pub struct Effective {
    pub config: Config,
    pub values: Vec<Value>,
    /// Things that are probably mistakes but harm nothing.
    pub warnings: Vec<String>,
}

impl Effective {
    /// Who set an option.
    pub fn source(&self, key: &str) -> Option<&Source> {
        self.values.iter().find(|value| value.key == key).map(|value| &value.source)
    }
}

/// Resolves and checks.
pub fn resolve(inputs: &Inputs) -> Result<Effective, ConfigError> {
    let mut problems = Vec::new();
    let mut warnings = Vec::new();
    let mut found: BTreeMap<String, (String, Source)> = BTreeMap::new();
    from_file(inputs, &mut found, &mut problems);
    from_env(inputs, &mut found, &mut problems, &mut warnings);
    for (key, text) in &inputs.flags {
        let flag = match key.strip_prefix(topic_defaults::PREFIX) {
            Some(name) => format!("{} {name}", topic_defaults::FLAG),
            None => find(key).map_or_else(|| key.clone(), OptionRow::flag),
        };
        found.insert(key.clone(), (text.clone(), Source::Flag(flag)));
    }

    let mut config = Config::default();
    let mut values = Vec::new();
    for row in OPTIONS {
        let (text, source) = found.remove(row.key).unwrap_or_else(|| (row.default.to_owned(), Source::Default));
        if let Err(why) = (row.set)(&mut config, &text) {
            problems.push(Problem { at: source.to_string(), message: format!("`{} = {text}` {why}", row.key) });
        }
        values.push(Value { key: row.key.to_owned(), text, source });
    }
    // What is left are topic defaults: everything else was refused where it was read.
    let mut overrides = BTreeMap::new();
    for (key, (text, source)) in found {
        let name = key.strip_prefix(topic_defaults::PREFIX).unwrap_or(&key).to_owned();
        match topic_defaults::check(&name, &text) {
            Ok(value) => {
                overrides.insert(name, value);
            }
            Err(why) => problems.push(Problem { at: source.to_string(), message: format!("`{key} = {text}`: {why}") }),
        }
        values.push(Value { key, text, source });
    }
    if problems.is_empty() {
        match Settings::parse(overrides, &Settings::default()) {
            Ok(settings) => config.engine.topic_defaults = settings,
            Err(error) => problems.push(Problem { at: "topic.defaults".to_owned(), message: error.to_string() }),
        }
    }
    let effective = Effective { config, values, warnings };
    if problems.is_empty() {
        problems = checks::across(&effective);
    }
    if problems.is_empty() { Ok(effective) } else { Err(ConfigError(problems)) }
}

fn from_file(inputs: &Inputs, found: &mut BTreeMap<String, (String, Source)>, problems: &mut Vec<Problem>) {
    let Some((name, text)) = &inputs.file else { return };
    let settings = match file::parse(name, text) {
        Ok(settings) => settings,
        Err(wrong) => {
            problems.extend(wrong);
            return;
        }
    };
    for setting in settings {
        let source = Source::File { name: name.clone(), line: setting.line };
        if find(&setting.key).is_some() || setting.key.starts_with(topic_defaults::PREFIX) {
            found.insert(setting.key, (setting.value, source));
        } else {
            let hint = closest(&setting.key).map(|key| format!("; did you mean `{key}`?")).unwrap_or_default();
            problems.push(Problem { at: source.to_string(), message: format!("unknown key `{}`{hint}", setting.key) });
        }
    }
}

fn from_env(
    inputs: &Inputs,
    found: &mut BTreeMap<String, (String, Source)>,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) {
    for (name, text) in &inputs.env {
        let source = Source::Env(name.clone());
        if let Some(row) = OPTIONS.iter().find(|row| row.env() == *name) {
            found.insert(row.key.to_owned(), (text.clone(), source));
        } else if name == topic_defaults::ENV {
            match topic_defaults::parse_pairs(text) {
                Ok(pairs) => {
                    for (key, value) in pairs {
                        found.insert(format!("{}{key}", topic_defaults::PREFIX), (value, source.clone()));
                    }
                }
                Err(message) => problems.push(Problem { at: name.clone(), message }),
            }
        } else if !OTHER_ENV.contains(&name.as_str()) && name.starts_with(ENV_PREFIX) {
            // Only a warning: the environment is shared with scripts that have names of their own.
            warnings.push(format!("the environment variable {name} is not an option of the server"));
        }
    }
}

fn closest(key: &str) -> Option<&'static str> {
    let distance = |row: &OptionRow| strsim::damerau_levenshtein(row.key, key);
    OPTIONS.iter().map(|row| (distance(row), row.key)).filter(|(far, _)| *far <= 3).min().map(|(_, key)| key)
}
