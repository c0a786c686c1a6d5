//! Bytes ↔ JSON by a layout of `schema.rs`. Reading is strict: every byte must be accounted for, and tagged fields that the
//! layout does not know appear by their number, so that equal JSON means equal content on the wire.
//!
//! `{"$raw": HEX}` in the place of any value writes those bytes: how a value is written that cannot be.
//!
//! Bytes are hex text, UUIDs are in Kafka's own base64 form, and a field's name is the definition's.

use crate::schema::{Field, Kind, Message};
use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

/// Writes `value` at `version`. Fields that are missing get their default; those that the version lacks are left out.
pub fn encode(message: &Message, version: i16, value: &Value) -> Result<Vec<u8>> {
    let mut writer = Writer { out: Vec::new(), version, flexible: message.flexible.contains(version) };
    writer.fields(&message.fields, value)?;
    Ok(writer.out)
}

/// Reads a whole message at `version`.
pub fn decode(message: &Message, version: i16, bytes: &[u8]) -> Result<Value> {
    let mut reader = Reader { rest: bytes, version, flexible: message.flexible.contains(version) };
    let value = reader.fields(&message.fields)?;
    if !reader.rest.is_empty() {
        bail!("{} bytes behind the message", reader.rest.len());
    }
    Ok(value)
}

/// What of `value` (read at a later version) would be there at `version`.
pub fn project(fields: &[Field], version: i16, value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| project(fields, version, item)).collect(),
        Value::Object(object) => {
            let mut kept = Map::new();
            for (name, value) in object {
                let Some(field) = fields.iter().find(|f| f.name == *name) else {
                    kept.insert(name.clone(), value.clone());
                    continue;
                };
                if field.versions.contains(version) {
                    kept.insert(name.clone(), project(nested(&field.kind), version, value));
                }
            }
            Value::Object(kept)
        }
        plain => plain.clone(),
    }
}

/// The fields of a struct or of an array of structs.
pub fn nested(kind: &Kind) -> &[Field] {
    match kind {
        Kind::Struct(fields) => fields,
        Kind::Array(element) => nested(element),
        _ => &[],
    }
}

struct Writer {
    out: Vec<u8>,
    version: i16,
    flexible: bool,
}

impl Writer {
    fn fields(&mut self, fields: &[Field], value: &Value) -> Result<()> {
        if let Some(unknown) = value.as_object().and_then(|o| o.keys().find(|k| !fields.iter().any(|f| f.name == **k)))
        {
            bail!("there is no field {unknown}");
        }
        let is_tagged = |f: &Field, version| f.tag.is_some_and(|(_, versions)| versions.contains(version));
        let version = self.version;
        for field in fields.iter().filter(|f| f.versions.contains(version) && !is_tagged(f, version)) {
            let default = default_of(field, version);
            let given = value.get(&field.name).unwrap_or(&default);
            self.value(&field.kind, field.nullable.contains(version), given)
                .with_context(|| format!("field {}", field.name))?;
        }
        if self.flexible {
            let mut tagged: Vec<(u32, &Field, &Value)> = Vec::new();
            for field in fields.iter().filter(|f| is_tagged(f, version)) {
                if let (Some((tag, _)), Some(given)) = (field.tag, value.get(&field.name)) {
                    tagged.push((tag, field, given));
                }
            }
            tagged.sort_by_key(|(tag, _, _)| *tag);
            self.varint(u32::try_from(tagged.len())?);
            for (tag, field, given) in tagged {
                let mut inner = Writer { out: Vec::new(), version, flexible: true };
                inner.value(&field.kind, field.nullable.contains(version), given)?;
                self.varint(tag);
                self.varint(u32::try_from(inner.out.len())?);
                self.out.extend(inner.out);
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: &Kind, nullable: bool, value: &Value) -> Result<()> {
        if let Some(bytes) = value.get("$raw").and_then(Value::as_str) {
            self.out.extend(from_hex(bytes)?);
            return Ok(());
        }
        let number = || value.as_i64().with_context(|| format!("not a number: {value}"));
        match kind {
            Kind::Bool => self.out.push(u8::from(value.as_bool().context("not a bool")?)),
            Kind::Int8 => self.out.extend(i8::try_from(number()?)?.to_be_bytes()),
            Kind::Int16 => self.out.extend(i16::try_from(number()?)?.to_be_bytes()),
            Kind::Uint16 => self.out.extend(u16::try_from(number()?)?.to_be_bytes()),
            Kind::Int32 => self.out.extend(i32::try_from(number()?)?.to_be_bytes()),
            Kind::Uint32 => self.out.extend(u32::try_from(number()?)?.to_be_bytes()),
            Kind::Int64 => self.out.extend(number()?.to_be_bytes()),
            Kind::Float64 => self.out.extend(value.as_f64().context("not a number")?.to_be_bytes()),
            Kind::Uuid => self.out.extend(uuid_bytes(value.as_str().context("not a UUID")?)?),
            _ if value.is_null() && !nullable => bail!("null is not allowed at version {}", self.version),
            Kind::Struct(_) if value.is_null() => self.out.push(0xff),
            Kind::Struct(fields) => {
                if nullable {
                    self.out.push(1);
                }
                self.fields(fields, value)?;
            }
            _ if value.is_null() => self.length(kind, None)?,
            Kind::String => {
                let text = value.as_str().context("not a string")?;
                self.length(kind, Some(text.len()))?;
                self.out.extend(text.as_bytes());
            }
            Kind::Bytes => {
                let bytes = from_hex(value.as_str().context("bytes are written as hex")?)?;
                self.length(kind, Some(bytes.len()))?;
                self.out.extend(bytes);
            }
            Kind::Array(element) => {
                let items = value.as_array().context("not a list")?;
                self.length(kind, Some(items.len()))?;
                for item in items {
                    self.value(element, false, item)?;
                }
            }
        }
        Ok(())
    }

    fn length(&mut self, kind: &Kind, length: Option<usize>) -> Result<()> {
        if self.flexible {
            self.varint(length.map_or(Ok(0), |l| u32::try_from(l + 1))?);
        } else if *kind == Kind::String {
            self.out.extend(length.map_or(Ok(-1), i16::try_from)?.to_be_bytes());
        } else {
            self.out.extend(length.map_or(Ok(-1), i32::try_from)?.to_be_bytes());
        }
        Ok(())
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

fn default_of(field: &Field, version: i16) -> Value {
    let text = field.default.as_deref();
    match &field.kind {
        _ if text == Some("null") && field.nullable.contains(version) => Value::Null,
        Kind::Bool => json!(text == Some("true")),
        Kind::String => json!(text.filter(|t| *t != "null").unwrap_or_default()),
        Kind::Bytes => json!(""),
        Kind::Uuid => json!(uuid_text(&[0; 16])),
        Kind::Array(_) => json!([]),
        Kind::Struct(_) => json!({}),
        _ => {
            let text = text.unwrap_or("0");
            let number = text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| i64::from_str_radix(hex, 16));
            json!(number.unwrap_or_default())
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
}

impl<'a> Reader<'a> {
    fn fields(&mut self, fields: &[Field]) -> Result<Value> {
        let mut object = Map::new();
        let version = self.version;
        let is_tagged = |f: &Field| f.tag.is_some_and(|(_, versions)| versions.contains(version));
        for field in fields.iter().filter(|f| f.versions.contains(version) && !is_tagged(f)) {
            let value = self
                .value(&field.kind, field.nullable.contains(version))
                .with_context(|| format!("field {}", field.name))?;
            object.insert(field.name.clone(), value);
        }
        if self.flexible {
            for _ in 0..self.varint()? {
                let tag = self.varint()?;
                let size = self.varint()? as usize;
                let mut inner = Reader { rest: self.take(size)?, version, flexible: true };
                match fields.iter().find(|f| is_tagged(f) && f.tag.is_some_and(|(t, _)| t == tag)) {
                    Some(field) => {
                        let value = inner.value(&field.kind, field.nullable.contains(version))?;
                        if !inner.rest.is_empty() {
                            bail!("tagged field {} is too long", field.name);
                        }
                        object.insert(field.name.clone(), value);
                    }
                    None => {
                        object.insert(format!("tag {tag}"), json!(to_hex(inner.rest)));
                    }
                }
            }
        }
        Ok(Value::Object(object))
    }

    fn value(&mut self, kind: &Kind, nullable: bool) -> Result<Value> {
        Ok(match kind {
            Kind::Bool => json!(self.take(1)? != [0]),
            Kind::Int8 => json!(i8::from_be_bytes(self.array()?)),
            Kind::Int16 => json!(i16::from_be_bytes(self.array()?)),
            Kind::Uint16 => json!(u16::from_be_bytes(self.array()?)),
            Kind::Int32 => json!(i32::from_be_bytes(self.array()?)),
            Kind::Uint32 => json!(u32::from_be_bytes(self.array()?)),
            Kind::Int64 => json!(i64::from_be_bytes(self.array()?)),
            Kind::Float64 => json!(f64::from_be_bytes(self.array()?)),
            Kind::Uuid => json!(uuid_text(&self.array()?)),
            Kind::Struct(_) if nullable && self.take(1)? == [0xff] => Value::Null,
            Kind::Struct(fields) => self.fields(fields)?,
            _ => {
                let Some(length) = self.length(kind)? else {
                    if !nullable {
                        bail!("null where version {} allows none", self.version);
                    }
                    return Ok(Value::Null);
                };
                match kind {
                    Kind::String => json!(std::str::from_utf8(self.take(length)?)?),
                    Kind::Array(element) => {
                        (0..length).map(|_| self.value(element, false)).collect::<Result<Vec<_>>>()?.into()
                    }
                    _ => json!(to_hex(self.take(length)?)),
                }
            }
        })
    }

    fn length(&mut self, kind: &Kind) -> Result<Option<usize>> {
        if self.flexible {
            return Ok(self.varint()?.checked_sub(1).map(|l| l as usize));
        }
        let length = match kind {
            Kind::String => i32::from(i16::from_be_bytes(self.array()?)),
            _ => i32::from_be_bytes(self.array()?),
        };
        Ok(usize::try_from(length).ok())
    }

    fn varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.array::<1>()?[0];
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a varint without an end")
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).context("the message ends too early")?;
        self.rest = rest;
        Ok(taken)
    }
}

pub fn uuid_text(bytes: &[u8; 16]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn uuid_bytes(text: &str) -> Result<[u8; 16]> {
    let bytes = URL_SAFE_NO_PAD.decode(text).with_context(|| format!("not a UUID: {text}"))?;
    bytes.try_into().map_err(|_| anyhow::anyhow!("not 16 bytes: {text}"))
}

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn from_hex(text: &str) -> Result<Vec<u8>> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).context("not hex")).collect::<Result<_>>()?;
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |n, d| n * 16 + d) as u8).collect())
}
