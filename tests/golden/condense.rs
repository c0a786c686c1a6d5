//! Turns Apache Kafka's published message definitions (`common/message/*.json` in its client library) into the short form
//! of `messages.txt`. Needed again only when a newer Kafka becomes the reference.

use anyhow::{Context, Result};
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// The short form of every request and response that a broker's client listener serves, by API key.
#[allow(clippy::disallowed_methods, reason = "a tool, outside the engine")]
pub fn condense(folder: &Path) -> Result<String> {
    let mut messages = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let text = String::from_utf8(std::fs::read(entry?.path())?)?;
        let bare: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let message: Value = serde_json::from_str(&bare)?;
        if let Some(key) = message["apiKey"].as_i64() {
            messages.push((key, text_of(&message, "type").to_owned(), message));
        }
    }
    messages.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let served: Vec<i64> = messages
        .iter()
        .filter(|(_, _, m)| m["listeners"].as_array().is_some_and(|l| l.iter().any(|x| x == "broker")))
        .map(|(key, _, _)| *key)
        .collect();
    let mut out = String::from(
        "# Message layouts of Apache Kafka 4.4, condensed from its published definitions (Apache License 2.0).\n\
         # Made by `cargo run -p headwater-tests --example golden-record -- condense FOLDER`; the form is told in schema.rs.\n",
    );
    for (key, half, message) in &messages {
        if !served.contains(key) {
            continue;
        }
        let name = text_of(message, "name");
        let api = name.strip_suffix("Request").or(name.strip_suffix("Response")).unwrap_or(name);
        let versions = text_of(message, "validVersions");
        writeln!(out, "{key} {api} {half} {versions} flexible {}", text_of(message, "flexibleVersions"))?;
        fields(&mut out, &message["fields"], &message["commonStructs"], 2)?;
    }
    Ok(out)
}

fn text_of<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("none")
}

fn fields(out: &mut String, list: &Value, common: &Value, indent: usize) -> Result<()> {
    for field in list.as_array().context("a message without fields")? {
        let kind = field["type"].as_str().context("a field without a type")?.trim();
        let (prefix, element) = kind.strip_prefix("[]").map_or(("", kind), |e| ("[]", e));
        let is_struct = element.starts_with(char::is_uppercase);
        let shown = if is_struct { "struct" } else { element };
        // A tagged field is first of all tagged; some definitions leave its plain versions out.
        let versions = field["versions"].as_str().context("a field without versions")?;
        // Two or three definitions begin a name in lower case; nothing but the look depends on it.
        let name = text_of(field, "name");
        let (initial, rest) = name.split_at(1);
        write!(out, "{:indent$}{}{rest} {prefix}{shown} {versions}", "", initial.to_uppercase())?;
        if let Some(nullable) = field["nullableVersions"].as_str() {
            write!(out, " null {nullable}")?;
        }
        if let (Some(tag), Some(tagged)) = (field["tag"].as_u64(), field["taggedVersions"].as_str()) {
            write!(out, " tag {tag} {tagged}")?;
        }
        match &field["default"] {
            Value::Null => {}
            Value::String(text) => write!(out, " default={}", text.trim())?,
            other => write!(out, " default={other}")?,
        }
        if field["entityType"] == "brokerId" {
            write!(out, " broker")?;
        }
        out.push('\n');
        if is_struct {
            let shared = || common.as_array()?.iter().find(|s| s["name"] == *element).map(|s| &s["fields"]);
            let nested =
                if field["fields"].is_array() { &field["fields"] } else { shared().context("an unknown struct")? };
            fields(out, nested, common, indent + 2)?;
        }
    }
    Ok(())
}
