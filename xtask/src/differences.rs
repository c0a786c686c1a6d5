//! `docs/differences.md`: where Headwater means to answer otherwise than Apache Kafka, from the golden cases, which carry the
//! reason beside what they do not compare.

use crate::workspace::{Workspace, read};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const CASES: &str = "tests/golden/kafka";
const FRAMES: &str = "tests/golden/known_frames.json";

/// A reason that begins so is about the case and names no difference.
const OF_THE_CASE: &str = "compared";

/// How many steps a row names.
const SHOWN_MAX: usize = 4;

/// An operation's differences for one reason: the fields of its answer, and the steps that show them.
#[derive(Default)]
struct Row {
    fields: BTreeSet<String>,
    when: BTreeSet<String>,
}

/// The page.
pub fn page(workspace: &Workspace) -> Result<String> {
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for file in workspace.files()?.iter().filter(|file| file.starts_with(CASES)) {
        let case: Value = serde_json::from_str(&read(&workspace.root.join(file))?)
            .with_context(|| format!("reading {}", file.display()))?;
        for step in case["steps"].as_array().into_iter().flatten() {
            collect(step, &mut rows);
        }
    }
    let mut page = String::from(
        "# Differences from Apache Kafka 4.4\n\n\
         Generated from the golden cases (`tests/golden`) by `cargo xtask docs`. Apart from what is here, and from ids, hosts \
         and times, the answers to the requests of those cases are equal. What is not served at all is in \
         [operations.md](operations.md).\n\n\
         ## Answers\n\
         | Operation | Fields | When | Why |\n| --- | --- | --- | --- |\n",
    );
    for ((api, reason), row) in &rows {
        let fields: Vec<String> = row.fields.iter().map(|field| format!("`{field}`")).collect();
        writeln!(page, "| {api} | {} | {} | {reason} |", fields.join(", "), shown(&row.when))?;
    }
    page += "\n## Frames that no client means to send\n| Frame | Difference |\n| --- | --- |\n";
    let frames: Value = serde_json::from_str(&read(&workspace.root.join(FRAMES))?).context(FRAMES)?;
    for known in frames.as_array().into_iter().flatten() {
        writeln!(page, "| {} | {} |", text(&known["frames"]), text(&known["reason"]))?;
    }
    Ok(page)
}

/// The first few.
fn shown(when: &BTreeSet<String>) -> String {
    let mut shown: Vec<String> = when.iter().take(SHOWN_MAX).cloned().collect();
    if when.len() > SHOWN_MAX {
        shown.push(format!("{} more", when.len() - SHOWN_MAX));
    }
    shown.join("; ")
}

fn collect(step: &Value, rows: &mut BTreeMap<(String, String), Row>) {
    for (field, reason) in step["not_compared"].as_object().into_iter().flatten() {
        if text(reason).starts_with(OF_THE_CASE) {
            continue;
        }
        let row = rows.entry((text(&step["api"]).to_owned(), text(reason).to_owned())).or_default();
        row.fields.insert(field.clone());
        let about = text(&step["about"]);
        if !about.is_empty() {
            row.when.insert(about.to_owned());
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_gathered_by_operation_and_reason() {
        let mut rows = BTreeMap::new();
        for about in ["one", "two"] {
            let not_compared = json!({ "List.A": "it is so", "List.B": "it is so", "C": "compared above" });
            collect(&json!({ "api": "X", "about": about, "not_compared": not_compared }), &mut rows);
        }
        assert_eq!(rows.len(), 1);
        let row = &rows[&("X".to_owned(), "it is so".to_owned())];
        assert_eq!((row.fields.len(), row.when.len()), (2, 2));
    }
}
