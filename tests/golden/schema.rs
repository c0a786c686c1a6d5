//! Kafka's message layouts, as data: which field is in which version, and how it is written.
//!
//! `messages.txt` holds the layouts of every request and response of a Kafka 4.4 client listener, condensed from the
//! message definitions that Apache Kafka publishes (see `condense.rs`). One line per field, nested fields indented:
//!
//! ```text
//! 3 Metadata response 0-13 flexible 9+
//!   Brokers []struct 0+
//!     NodeId int32 0+ broker
//! ```
//!
//! The golden tests read and write messages with these layouts alone. They share nothing with the codec under test.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;

/// A closed or open range of versions; empty when `first > last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub first: i16,
    pub last: i16,
}

impl Versions {
    pub const NONE: Versions = Versions { first: 1, last: 0 };

    /// Reads `none`, `3`, `3+` or `3-7`.
    pub fn parse(text: &str) -> Result<Versions> {
        let number = |t: &str| t.parse::<i16>().with_context(|| format!("not a version range: {text}"));
        Ok(match text.split_once('-') {
            _ if text == "none" => Versions::NONE,
            Some((first, last)) => Versions { first: number(first)?, last: number(last)? },
            None => match text.strip_suffix('+') {
                Some(first) => Versions { first: number(first)?, last: i16::MAX },
                None => Versions { first: number(text)?, last: number(text)? },
            },
        })
    }

    pub fn contains(&self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            v if v.first > v.last => f.write_str("none"),
            v if v.last == i16::MAX => write!(f, "{}+", v.first),
            v if v.first == v.last => write!(f, "{}", v.first),
            v => write!(f, "{}-{}", v.first, v.last),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    String,
    Uuid,
    Bytes,
    Struct(Vec<Field>),
    Array(Box<Kind>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    pub versions: Versions,
    pub nullable: Versions,
    /// A tagged field: its tag and the versions in which it is one.
    pub tag: Option<(u32, Versions)>,
    pub default: Option<String>,
    /// Whether the number is a broker's id.
    pub broker: bool,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub versions: Versions,
    pub flexible: Versions,
    pub fields: Vec<Field>,
}

/// A request with its response.
#[derive(Clone, Debug)]
pub struct Api {
    pub key: i16,
    pub request: Message,
    pub response: Message,
}

/// All layouts, by the API's name (`Metadata`, not `MetadataRequest`).
pub fn apis() -> Result<BTreeMap<String, Api>> {
    parse(include_str!("messages.txt"))
}

/// Layouts in the form of `messages.txt`.
pub fn parse(text: &str) -> Result<BTreeMap<String, Api>> {
    let lines: Vec<&str> = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let mut halves: BTreeMap<String, (i16, BTreeMap<String, Message>)> = BTreeMap::new();
    let mut rest = lines.as_slice();
    while let [head, tail @ ..] = rest {
        let words: Vec<&str> = head.split(' ').collect();
        let [key, name, half, versions, "flexible", flexible] = words.as_slice() else {
            bail!("not a message's head: {head}");
        };
        rest = tail;
        let fields = parse_fields(&mut rest, 2)?;
        let message = Message { versions: Versions::parse(versions)?, flexible: Versions::parse(flexible)?, fields };
        let entry = halves.entry((*name).to_owned()).or_insert((key.parse()?, BTreeMap::new()));
        entry.1.insert((*half).to_owned(), message);
    }
    let mut apis = BTreeMap::new();
    for (name, (key, mut half)) in halves {
        let request = half.remove("request").with_context(|| format!("{name} has no request"))?;
        let response = half.remove("response").with_context(|| format!("{name} has no response"))?;
        apis.insert(name, Api { key, request, response });
    }
    Ok(apis)
}

fn parse_fields(rest: &mut &[&str], indent: usize) -> Result<Vec<Field>> {
    let mut fields = Vec::new();
    while let [line, tail @ ..] = *rest {
        if line.len() - line.trim_start().len() < indent {
            break;
        }
        *rest = tail;
        fields.push(parse_field(line.trim_start(), rest, indent).with_context(|| format!("in line {line}"))?);
    }
    Ok(fields)
}

fn parse_field(line: &str, rest: &mut &[&str], indent: usize) -> Result<Field> {
    let mut words = line.split(' ');
    let mut word = || words.next();
    let (Some(name), Some(kind), Some(versions)) = (word(), word(), word()) else { bail!("too few words") };
    let mut field = Field {
        name: name.to_owned(),
        kind: Kind::Bool,
        versions: Versions::parse(versions)?,
        nullable: Versions::NONE,
        tag: None,
        default: None,
        broker: false,
    };
    while let Some(next) = word() {
        match next {
            "null" => field.nullable = Versions::parse(word().context("null without versions")?)?,
            "tag" => {
                let tag = word().context("tag without a number")?.parse()?;
                field.tag = Some((tag, Versions::parse(word().context("tag without versions")?)?));
            }
            "broker" => field.broker = true,
            other => match other.strip_prefix("default=") {
                Some(value) => field.default = Some(value.to_owned()),
                None => bail!("unknown word {other}"),
            },
        }
    }
    let (element, is_array) = match kind.strip_prefix("[]") {
        Some(element) => (element, true),
        None => (kind, false),
    };
    let element = match element {
        "bool" => Kind::Bool,
        "int8" => Kind::Int8,
        "int16" => Kind::Int16,
        "uint16" => Kind::Uint16,
        "int32" => Kind::Int32,
        "uint32" => Kind::Uint32,
        "int64" => Kind::Int64,
        "float64" => Kind::Float64,
        "string" => Kind::String,
        "uuid" => Kind::Uuid,
        "bytes" | "records" => Kind::Bytes,
        "struct" => Kind::Struct(parse_fields(rest, indent + 2)?),
        other => bail!("unknown type {other}"),
    };
    field.kind = if is_array { Kind::Array(Box::new(element)) } else { element };
    Ok(field)
}
