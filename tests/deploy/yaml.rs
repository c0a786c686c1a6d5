//! Reads the YAML that the files under deploy/ are written in: block maps and lists, plain and quoted scalars on one line, folded
//! text (`>-`). Whatever else YAML has (anchors, tags, flow forms with entries) is an error, so a file that this reads has one
//! meaning for everybody. Every scalar becomes a string.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// A line that says something: its number, indentation and text.
#[derive(Clone, Copy, Debug)]
struct Line<'a> {
    number: usize,
    indent: usize,
    text: &'a str,
}

/// A whole document.
pub fn parse(text: &str) -> Result<Value> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start_matches(' ');
        let number = index + 1;
        ensure!(!trimmed.starts_with('\t'), "line {number}: a tab in the indentation");
        ensure!(trimmed == trimmed.trim_end(), "line {number}: spaces at the end");
        if !trimmed.is_empty() && !trimmed.starts_with('#') {
            lines.push(Line { number, indent: line.len() - trimmed.len(), text: trimmed });
        }
    }
    let mut reader = Reader { lines, next: 0 };
    let indent = reader.peek().context("an empty document")?.indent;
    let value = reader.block(indent)?;
    match reader.peek() {
        None => Ok(value),
        Some(line) => bail!("line {}: is indented as nothing before it", line.number),
    }
}

struct Reader<'a> {
    lines: Vec<Line<'a>>,
    next: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<Line<'a>> {
        self.lines.get(self.next).copied()
    }

    /// The map or list whose lines have this indentation.
    fn block(&mut self, indent: usize) -> Result<Value> {
        match self.peek() {
            Some(line) if is_item(line.text) => self.list(indent),
            _ => self.map(indent),
        }
    }

    fn list(&mut self, indent: usize) -> Result<Value> {
        let mut items = Vec::new();
        while let Some(line) = self.peek().filter(|line| line.indent == indent && is_item(line.text)) {
            let rest = line.text[1..].trim_start();
            ensure!(!rest.is_empty(), "line {}: an empty item", line.number);
            if entry(rest).is_some() {
                // A map that begins on the item's own line: read as if the dash were a space.
                let indent = indent + line.text.len() - rest.len();
                self.lines[self.next] = Line { indent, text: rest, ..line };
                items.push(self.map(indent)?);
            } else {
                self.next += 1;
                items.push(scalar(rest, line.number)?);
            }
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, indent: usize) -> Result<Value> {
        let mut map = Map::new();
        while let Some(line) = self.peek().filter(|line| line.indent == indent) {
            let at = line.number;
            let (key, rest) = entry(line.text).with_context(|| format!("line {at}: is no `key: value`"))?;
            self.next += 1;
            let value = match rest {
                "" => self.nested(indent)?,
                ">-" => self.folded(indent)?,
                _ => scalar(rest, at)?,
            };
            ensure!(map.insert(key.to_owned(), value).is_none(), "line {at}: {key} for the second time");
        }
        Ok(Value::Object(map))
    }

    /// What belongs to a key whose line ends with it.
    fn nested(&mut self, indent: usize) -> Result<Value> {
        match self.peek() {
            Some(line) if line.indent > indent => {
                let value = self.block(line.indent)?;
                let left = self.peek().is_none_or(|next| next.indent <= indent);
                ensure!(left, "line {}: a wrong indentation", self.peek().map_or(0, |next| next.number));
                Ok(value)
            }
            _ => Ok(Value::Null),
        }
    }

    /// Lines that are one, with spaces between them.
    fn folded(&mut self, indent: usize) -> Result<Value> {
        let mut words = Vec::new();
        while let Some(line) = self.peek().filter(|line| line.indent > indent) {
            words.push(line.text);
            self.next += 1;
        }
        ensure!(!words.is_empty(), "folded text without lines");
        Ok(Value::String(words.join(" ")))
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// `key: value` or `key:`, the key a plain word.
fn entry(text: &str) -> Option<(&str, &str)> {
    let (key, rest) = text.split_once(':')?;
    let is_plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    (is_plain && (rest.is_empty() || rest.starts_with(' '))).then(|| (key, rest.trim_start()))
}

fn scalar(text: &str, number: usize) -> Result<Value> {
    for quote in ['"', '\''] {
        if let Some(rest) = text.strip_prefix(quote) {
            let inner = rest.strip_suffix(quote).with_context(|| format!("line {number}: an open quote"))?;
            ensure!(!inner.contains(quote) && !inner.contains('\\'), "line {number}: quotes within quotes");
            return Ok(Value::String(inner.to_owned()));
        }
    }
    let special = text.starts_with(['&', '*', '!', '|', '>', '%', '@', '`', '[', ']', '{', '}', ',', '?', '#']);
    ensure!(!special && !text.contains(" #") && !text.contains(": "), "line {number}: `{text}` needs quotes");
    Ok(Value::String(text.to_owned()))
}

#[test]
fn maps_lists_and_folded_text_are_read() {
    let text = "a: 1\nb:\n  - c: x\n    d: 'e: f'\n\n  - \"g\"\n# no\nh: >-\n  one\n  two\ni:\n";
    let expected = serde_json::json!({
        "a": "1", "b": [{ "c": "x", "d": "e: f" }, "g"], "h": "one two", "i": null
    });
    assert_eq!(parse(text).unwrap(), expected);
}

#[test]
fn what_could_mean_something_else_is_refused() {
    for text in
        ["a: b: c", "a: [1]", "a: &x 1", "a: \"b", "a: 1\na: 2", "a:\n   b: 1\n  c: 2", "\ta: 1", "a: 1 # b", "x"]
    {
        assert!(parse(text).is_err(), "{text:?}");
    }
}
