//! Records as text: for `consume` and `log dump`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headwater_engine::batch::Record;
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::io::{self, Write};

/// A record as one JSON object. Bytes that are not UTF-8 stand in base64 under a name that says so.
pub struct JsonRecord<'a> {
    pub partition: Option<i32>,
    pub record: Record<'a>,
}

impl Serialize for JsonRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(partition) = self.partition {
            map.serialize_entry("partition", &partition)?;
        }
        map.serialize_entry("offset", &self.record.offset.0)?;
        map.serialize_entry("timestamp", &self.record.timestamp.0)?;
        bytes_entry(&mut map, "key", self.record.key)?;
        bytes_entry(&mut map, "value", self.record.value)?;
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
        bytes_entry(&mut map, "name", Some(self.0.0))?;
        bytes_entry(&mut map, "value", self.0.1)?;
        map.end()
    }
}

fn bytes_entry<M: SerializeMap>(map: &mut M, name: &str, bytes: Option<&[u8]>) -> Result<(), M::Error> {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => map.serialize_entry(name, &None::<&str>),
        Some((Ok(text), _)) => map.serialize_entry(name, text),
        Some((Err(_), bytes)) => map.serialize_entry(&format!("{name}_base64"), &STANDARD.encode(bytes)),
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
            write_json_line(&mut out, &JsonRecord { partition: Some(3), record: record.unwrap() }).unwrap();
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
}
