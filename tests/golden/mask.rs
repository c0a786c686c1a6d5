//! What differs from run to run (ids, hosts, epochs, times) and how it is named in the cases: `<id:orders>`,
//! `<member:a>`, `<node>`, `<epoch>`. Masks are put over answers, and requests may use the names in turn.

use crate::batch;
use crate::codec::{nested, to_hex, uuid_text};
use crate::scenario::versioned;
use crate::schema::Field;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What was learnt in this run.
#[derive(Default)]
pub struct Masks {
    /// Topic ids by topic name, as far as answers told both.
    ids: BTreeMap<String, String>,
    /// Member ids by the names that the steps gave them.
    members: BTreeMap<String, String>,
    /// Names of all member ids, those too that a later one took the name from: with `{v}`, and the version that it stands for.
    member_names: BTreeMap<String, (String, i16)>,
    /// Ids of fetch sessions by the connections that got them.
    sessions: BTreeMap<String, i64>,
    /// The version that is being played.
    version: i16,
    /// The folder of the logs, as far as an answer told it.
    folder: Option<String>,
    node: Option<i64>,
    cluster: Option<String>,
    /// The leader epoch of everything in this run: no case moves a leader.
    epoch: Option<i64>,
}

const EPOCHS: [&str; 3] = ["LeaderEpoch", "CurrentLeaderEpoch", "Epoch"];

impl Masks {
    pub fn new(node: i64) -> Masks {
        Masks { node: Some(node), ..Masks::default() }
    }

    /// The same in a cluster of this id, for requests that name it.
    pub fn in_cluster(self, id: Option<&str>) -> Masks {
        Masks { cluster: id.map(str::to_owned), ..self }
    }

    /// Takes topic ids over that were asked for apart.
    pub fn learn(&mut self, ids: BTreeMap<String, String>) {
        self.ids.extend(ids);
    }

    /// Takes the member id over that an answer gave out.
    pub fn learn_member(&mut self, name: &str, version: i16, id: &str) {
        self.members.insert(versioned(name, version), id.to_owned());
        self.member_names.insert(id.to_owned(), (name.to_owned(), version));
    }

    /// Takes over the id of the fetch session that a connection got.
    pub fn learn_session(&mut self, connection: &str, id: i64) {
        self.sessions.insert(connection.to_owned(), id);
    }

    /// Replaces what this run chose by names.
    pub fn cover(&mut self, fields: &[Field], version: i16, answer: &Value) -> Value {
        self.version = version;
        self.cover_fields(fields, answer)
    }

    fn cover_fields(&mut self, fields: &[Field], answer: &Value) -> Value {
        match answer {
            Value::Array(items) => items.iter().map(|item| self.cover_fields(fields, item)).collect(),
            Value::Object(object) => {
                if let Some(id) = object.get("TopicId").and_then(Value::as_str) {
                    let name = ["Name", "TopicName", "Topic"]
                        .iter()
                        .find_map(|n| object.get(*n)?.as_str().filter(|t| !t.is_empty()));
                    if let Some(name) = name.filter(|_| id != uuid_text(&[0; 16])) {
                        self.ids.insert(name.to_owned(), id.to_owned());
                    }
                }
                let mut covered = Map::new();
                for (name, value) in object {
                    let field = fields.iter().find(|f| f.name == *name);
                    let value = match field {
                        Some(field) if field.broker => self.cover_node(value),
                        _ => self.cover_plain(name, value),
                    };
                    covered.insert(name.clone(), self.cover_fields(field.map_or(&[], |f| nested(&f.kind)), &value));
                }
                Value::Object(covered)
            }
            plain => plain.clone(),
        }
    }

    fn cover_node(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| self.cover_node(item)).collect(),
            id if id.as_i64().is_some() && id.as_i64() == self.node => json!("<node>"),
            other => other.clone(),
        }
    }

    fn cover_plain(&mut self, name: &str, value: &Value) -> Value {
        let number = value.as_i64().filter(|n| *n >= 0);
        match name {
            "TopicId" => self.cover_id(value),
            "ClusterId" if value.as_str().is_some_and(|id| !id.is_empty()) => json!("<cluster>"),
            "Host" if value != "" => json!("<host>"),
            "Port" => json!("<port>"),
            "TotalBytes" | "UsableBytes" if number.is_some() => json!("<bytes>"),
            "LogDir" if value != "" => {
                self.folder = value.as_str().map(str::to_owned);
                json!("<folder>")
            }
            "MemberId" | "Leader" if self.member_name(value).is_some() => json!(self.member_name(value)),
            "LogAppendTimeMs" | "CommitTimestamp" | "ExpireTimestamp" | "CurrentStateTimestamp" if number.is_some() => {
                json!("<now>")
            }
            "ProducerId" if number.is_some() => json!("<producer>"),
            "SessionId" if number.is_some_and(|id| id > 0) => json!("<session>"),
            "Records" if value.is_string() => json!(batch::without_epochs(value.as_str().unwrap_or_default())),
            _ if EPOCHS.contains(&name) && number.is_some() => match *self.epoch.get_or_insert(number.unwrap_or(0)) {
                epoch if Some(epoch) == number => json!("<epoch>"),
                _ => value.clone(),
            },
            _ => value.clone(),
        }
    }

    fn member_name(&self, id: &Value) -> Option<String> {
        let (name, version) = self.member_names.get(id.as_str()?)?;
        if *version == self.version {
            return Some(format!("<member:{name}>"));
        }
        Some(format!("<member:{}>", versioned(name, *version)))
    }

    fn cover_id(&self, value: &Value) -> Value {
        let id = value.as_str().unwrap_or_default();
        if id == uuid_text(&[0; 16]) {
            return json!("<no id>");
        }
        self.ids.iter().find(|(_, known)| *known == id).map_or(value.clone(), |(name, _)| json!(format!("<id:{name}>")))
    }

    /// Fills a request in: versions, the names of ids, node and epoch, and `$batch`.
    pub fn fill(&self, request: &Value, version: i16) -> Result<Value> {
        Ok(match request {
            Value::Array(items) => items.iter().map(|i| self.fill(i, version)).collect::<Result<Vec<_>>>()?.into(),
            Value::Object(object) => {
                let mut filled = Map::new();
                for (name, value) in object {
                    filled.insert(name.clone(), self.fill(value, version)?);
                }
                match filled.contains_key("$batch") {
                    true => json!(to_hex(&batch::build(&Value::Object(filled))?)),
                    false => Value::Object(filled),
                }
            }
            Value::String(text) => self.fill_text(&versioned(text, version))?,
            plain => plain.clone(),
        })
    }

    fn fill_text(&self, text: &str) -> Result<Value> {
        let Some(name) = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')) else {
            return Ok(json!(text));
        };
        if let Some(topic) = name.strip_prefix("id:") {
            return Ok(json!(self.ids.get(topic).with_context(|| format!("no answer told the id of {topic}"))?));
        }
        if let Some(member) = name.strip_prefix("member:") {
            return Ok(json!(self.members.get(member).with_context(|| format!("no answer told the id of {member}"))?));
        }
        if let Some(connection) = name.strip_prefix("session:") {
            return Ok(json!(self.sessions.get(connection).with_context(|| format!("{connection} got no session"))?));
        }
        let epoch = || self.epoch.context("no answer told an epoch");
        Ok(match name {
            "folder" => json!(self.folder.as_ref().context("no answer told the folder")?),
            "no id" => json!(uuid_text(&[0; 16])),
            "node" => json!(self.node.context("the node's id is unknown")?),
            "cluster" => json!(self.cluster.as_deref().context("the cluster's id is unknown")?),
            "epoch" => json!(epoch()?),
            "epoch+1" => json!(epoch()? + 1),
            other => bail!("unknown name <{other}>"),
        })
    }

    /// Puts `{v}` back where the request's own names had it.
    pub fn restore(request: &Value, version: i16, answer: &Value) -> Value {
        let mut names = Vec::new();
        templates(request, &mut names);
        names.sort_by_key(|n| std::cmp::Reverse(n.len()));
        put_back(answer, &names, version)
    }
}

fn templates(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|i| templates(i, out)),
        Value::Object(object) => object.values().for_each(|i| templates(i, out)),
        Value::String(text) if text.contains("{v") => {
            let name = text.strip_prefix("<id:").and_then(|t| t.strip_suffix('>')).unwrap_or(text);
            out.push(name.to_owned());
        }
        _ => {}
    }
}

fn put_back(value: &Value, names: &[String], version: i16) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|i| put_back(i, names, version)).collect(),
        Value::Object(object) => object.iter().map(|(k, v)| (k.clone(), put_back(v, names, version))).collect(),
        Value::String(text) => {
            json!(names.iter().fold(text.clone(), |t, name| t.replace(&versioned(name, version), name)))
        }
        plain => plain.clone(),
    }
}
