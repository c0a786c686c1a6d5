//! The configuration file: TOML flattened to `key = value` pairs that remember their line.

use super::Problem;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One setting of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Setting {
    /// Dotted: `limits.connections_max`.
    pub key: String,
    pub value: String,
    pub line: usize,
}

/// Reads a file's text. `name` is how messages call the file.
pub fn parse(name: &str, text: &str) -> Result<Vec<Setting>, Vec<Problem>> {
    let table = DeTable::parse(text).map_err(|error| {
        let at = match error.span() {
            Some(span) => format!("{name}:{}", line_at(text, span.start)),
            None => name.to_owned(),
        };
        vec![Problem { at, message: error.message().to_owned() }]
    })?;
    let (mut settings, mut problems) = (Vec::new(), Vec::new());
    flatten("", table.get_ref(), &mut |key, at, value| {
        let line = line_at(text, at);
        match scalar(value) {
            Ok(value) => settings.push(Setting { key, value, line }),
            Err(why) => problems.push(Problem { at: format!("{name}:{line}"), message: format!("`{key}` {why}") }),
        }
    });
    settings.sort_by_key(|setting| setting.line);
    if problems.is_empty() { Ok(settings) } else { Err(problems) }
}

fn flatten(prefix: &str, table: &DeTable<'_>, out: &mut impl FnMut(String, usize, &DeValue<'_>)) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        match value.get_ref() {
            // An empty table still is a key, and a wrong one must be reported.
            DeValue::Table(inner) if !inner.is_empty() => flatten(&path, inner, out),
            other => out(path, key.span().start, other),
        }
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map(|n| n.to_string()).map_err(|_| "is too large")
        }
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(switch) => Ok(switch.to_string()),
        DeValue::Array(items) => {
            let items: Result<Vec<String>, _> = items.iter().map(|item| plain(item)).collect();
            items.map(|items| items.join(","))
        }
        DeValue::Table(_) => Err("is an empty table"),
        DeValue::Datetime(_) => Err("cannot be a date"),
    }
}

fn plain(item: &Spanned<DeValue<'_>>) -> Result<String, &'static str> {
    match item.get_ref() {
        DeValue::String(text) if !text.contains(',') => Ok(text.to_string()),
        _ => Err("must be a list of strings without commas"),
    }
}

fn line_at(text: &str, position: usize) -> usize {
    text.bytes().take(position).filter(|byte| *byte == b'\n').count() + 1
}
