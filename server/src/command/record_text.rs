//! Records as text or bytes: for `consume`, `replay` and `log dump`.

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use headwater_engine::batch::Record;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::io::{self, Write};

/// How records are written.
#[derive(Debug, Clone, Args)]
pub struct Layout {
    #[arg(long, value_enum, default_value_t = Format::Value)]
    format: Format,
    /// What stands between key and value with --format key-value
    #[arg(long, value_name = "TEXT", default_value = r"\t", value_parser = unescaped)]
    key_separator: Separator,
    /// What stands behind each record with --format value or key-value; \0, \t, \n, \r, \\ and \xHH are single bytes
    #[arg(long, value_name = "TEXT", default_value = r"\n", value_parser = unescaped)]
    delimiter: Separator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The value and the delimiter
    Value,
    /// Key, separator, value and the delimiter
    KeyValue,
    /// One JSON object on a line for each record, with everything that the record has
    Json,
    /// Key and value, each behind its length: four bytes, big-endian, -1 when there is none
    Lengths,
}

/// A few bytes between others. (A list would be taken for an option that may be repeated.)
#[derive(Debug, Clone, PartialEq, Eq)]
struct Separator(Box<[u8]>);

fn unescaped(text: &str) -> Result<Separator, String> {
    let wrong = || r"has a backslash that is not part of \0, \t, \n, \r, \\ or \xHH".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().ok_or_else(wrong)? {
                b'0' => 0,
                b't' => b'\t',
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                b'x' => {
                    let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or_else(wrong);
                    let number = digit()? * 16 + digit()?;
                    u8::try_from(number).map_err(|_| wrong())?
                }
                _ => return Err(wrong()),
            },
            byte => byte,
        });
    }
    Ok(Separator(bytes.into()))
}

impl Layout {
    /// Writes one record. As text, a missing key or value is the same as an empty one. `topic` is named in JSON, when records
    /// of several topics stand together.
    pub fn write(
        &self,
        out: &mut impl Write,
        topic: Option<&str>,
        partition: i32,
        record: Record<'_>,
    ) -> io::Result<()> {
        match self.format {
            Format::Value => out.write_all(record.value.unwrap_or_default())?,
            Format::KeyValue => {
                out.write_all(record.key.unwrap_or_default())?;
                out.write_all(&self.key_separator.0)?;
                out.write_all(record.value.unwrap_or_default())?;
            }
            Format::Json => {
                return write_json_line(out, &JsonRecord { topic, partition: Some(partition), record });
            }
            Format::Lengths => {
                write_with_length(out, record.key)?;
                return write_with_length(out, record.value);
            }
        }
        out.write_all(&self.delimiter.0)
    }
}

fn write_with_length(out: &mut impl Write, bytes: Option<&[u8]>) -> io::Result<()> {
    let Some(bytes) = bytes else { return out.write_all(&(-1_i32).to_be_bytes()) };
    let size = i32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&size.to_be_bytes())?;
    out.write_all(bytes)
}

/// A record as one JSON object. Bytes that are not UTF-8 stand in base64 under a name that says so.
pub struct JsonRecord<'a> {
    pub topic: Option<&'a str>,
    pub partition: Option<i32>,
    pub record: Record<'a>,
}

impl Serialize for JsonRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(topic) = self.topic {
            map.serialize_entry("topic", topic)?;
        }
        if let Some(partition) = self.partition {
            map.serialize_entry("partition", &partition)?;
        }
        map.serialize_entry("offset", &self.record.offset.0)?;
        map.serialize_entry("timestamp", &self.record.timestamp.0)?;
        bytes_entry(&mut map, ["key", "key_base64"], self.record.key)?;
        bytes_entry(&mut map, VALUE, self.record.value)?;
        let headers: Vec<JsonHeader<'_>> = self.record.headers.map(JsonHeader).collect();
        map.serialize_entry("headers", &headers)?;
        map.end()
    }
}

/// A list rather than an object: a name may come more than once.
struct JsonHeader<'a>((&'a [u8], Option<&'a [u8]>));

impl Serialize for JsonHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        bytes_entry(&mut map, ["name", "name_base64"], Some(self.0.0))?;
        bytes_entry(&mut map, VALUE, self.0.1)?;
        map.end()
    }
}

const VALUE: [&str; 2] = ["value", "value_base64"];

/// One name is for text, one for other bytes.
fn bytes_entry<M: SerializeMap>(map: &mut M, names: [&str; 2], bytes: Option<&[u8]>) -> Result<(), M::Error> {
    let [as_text, as_base64] = names;
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => map.serialize_entry(as_text, &None::<&str>),
        Some((Ok(text), _)) => map.serialize_entry(as_text, text),
        Some((Err(_), bytes)) => map.serialize_entry(as_base64, &Shown(Base64Display::new(bytes, &STANDARD))),
    }
}

/// What can be printed, as a string.
struct Shown<T>(T);

impl<T: std::fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Writes one JSON object and a line end.
pub fn write_json_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_engine::TimestampMs;
    use headwater_engine::batch::{BatchBuilder, records_of};

    #[test]
    fn bytes_that_are_no_text_are_told_apart() {
        let mut builder = BatchBuilder::new();
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"a", Some(b"1")), (b"a", None)];
        builder.push(TimestampMs(7), Some(b"\xff"), Some("\u{e9}".as_bytes()), &headers).unwrap();
        builder.push(TimestampMs(8), None, None, &[]).unwrap();
        let records = records_of(&builder.finish().unwrap(), 1 << 20).unwrap();
        let mut out = Vec::new();
        for record in &records {
            write_json_line(&mut out, &JsonRecord { topic: None, partition: Some(3), record: record.unwrap() })
                .unwrap();
        }
        let expected = concat!(
            r#"{"partition":3,"offset":0,"timestamp":7,"key_base64":"/w==","value":"é","#,
            r#""headers":[{"name":"a","value":"1"},{"name":"a","value":null}]}"#,
            "\n",
            r#"{"partition":3,"offset":1,"timestamp":8,"key":null,"value":null,"headers":[]}"#,
            "\n",
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn records_are_laid_out_as_asked() {
        let mut builder = BatchBuilder::new();
        builder.push(TimestampMs(7), Some(b"k"), Some(b"ab"), &[]).unwrap();
        builder.push(TimestampMs(8), None, None, &[]).unwrap();
        let records = records_of(&builder.finish().unwrap(), 1 << 20).unwrap();
        let written = |format, key_separator: &str, delimiter: &str| {
            let (key_separator, delimiter) = (unescaped(key_separator).unwrap(), unescaped(delimiter).unwrap());
            let layout = Layout { format, key_separator, delimiter };
            let mut out = Vec::new();
            for record in &records {
                layout.write(&mut out, Some("t"), 3, record.unwrap()).unwrap();
            }
            out
        };
        assert_eq!(written(Format::Value, "", r"\n"), b"ab\n\n");
        assert_eq!(written(Format::KeyValue, r"\t", r"\x00|"), b"k\tab\0|\t\0|");
        assert_eq!(written(Format::Lengths, "", ""), b"\0\0\0\x01k\0\0\0\x02ab\xff\xff\xff\xff\xff\xff\xff\xff");
        let json = String::from_utf8(written(Format::Json, "", "")).unwrap();
        assert!(json.starts_with(r#"{"topic":"t","partition":3,"offset":0,"#), "{json}");
    }

    #[test]
    fn escapes_are_bytes() {
        assert_eq!(unescaped(r"a\0\t\n\r\\\xfF\u{e9}").map_err(|_| ()), Err(()));
        assert_eq!(unescaped("é\\xfF\\\\").unwrap().0.as_ref(), b"\xc3\xa9\xff\\");
        for text in ["\\", "\\q", "\\x1", "\\xg0"] {
            assert!(unescaped(text).is_err(), "{text}");
        }
    }
}
