//! Records of `__consumer_offsets`, read from a Fetch answer: what a coordinator keeps of groups is in Kafka's own form, and
//! other tools read it.

use crate::batch;
use crate::codec;
use crate::schema::{self, Api};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The answer with its batches as lists of the records of one group, keys and values by their layouts.
pub fn read(answer: &Value, group: &str) -> Result<Value> {
    let layouts = schema::parse(include_str!("coordinator.txt"))?;
    read_in(answer, group, &layouts)
}

fn read_in(value: &Value, group: &str, layouts: &BTreeMap<String, Api>) -> Result<Value> {
    Ok(match value {
        Value::Array(items) => items.iter().map(|item| read_in(item, group, layouts)).collect::<Result<_>>()?,
        Value::Object(object) => {
            let mut read = serde_json::Map::new();
            for (name, value) in object {
                let value = match value.as_str() {
                    Some(batches) if name == "Records" => records(batches, group, layouts)?,
                    _ => read_in(value, group, layouts)?,
                };
                read.insert(name.clone(), value);
            }
            Value::Object(read)
        }
        plain => plain.clone(),
    })
}

fn records(batches: &str, group: &str, layouts: &BTreeMap<String, Api>) -> Result<Value> {
    let mut kept = Vec::new();
    for record in batch::read(&codec::from_hex(batches)?)? {
        let key = record.key.context("a record without a key")?;
        let version = version(&key)?;
        let (name, api) = layouts
            .iter()
            .find(|(_, api)| api.request.versions.contains(version))
            .with_context(|| format!("a key of version {version}"))?;
        let key = codec::decode(&api.request, version, &key[2..])?;
        if key["Group"] != group {
            continue;
        }
        let value = match record.value {
            None => Value::Null,
            Some(value) => {
                let version = self::version(&value)?;
                if !api.response.versions.contains(version) {
                    bail!("a value of version {version}");
                }
                json!({ "Version": version, "Value": codec::decode(&api.response, version, &value[2..])? })
            }
        };
        kept.push(json!({ "Kind": name, "KeyVersion": version, "Key": key, "Value": value }));
    }
    Ok(kept.into())
}

fn version(bytes: &[u8]) -> Result<i16> {
    let (version, _) = bytes.split_first_chunk::<2>().context("no version")?;
    Ok(i16::from_be_bytes(*version))
}
