//! What a consumer says of itself in JoinGroup: the topics that it reads.
//!
//! ```text
//! version i16 | topics: count i32, each a string | user data | what later versions add
//! ```

use crate::codec::Malformed;
use crate::codec::cursor::Cursor;
use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use std::collections::HashSet;

/// Adds the topics to `all`, up to `most` in all. None when the bytes are not of this form, or when there are more.
pub(crate) fn add_topics(metadata: &Bytes, all: &mut HashSet<StrBytes>, most: usize) -> Option<()> {
    read(metadata.clone(), all, most).ok()
}

fn read(metadata: Bytes, all: &mut HashSet<StrBytes>, most: usize) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(metadata);
    let version = cursor.i16()?;
    if version < 0 {
        return Err(Malformed(format!("a subscription of version {version}")));
    }
    let count = cursor.array(false, 2)?;
    if count > most {
        return Err(Malformed(format!("{count} topics")));
    }
    for _ in 0..count {
        all.insert(cursor.string(false)?);
    }
    if all.len() > most {
        return Err(Malformed(format!("{} topics", all.len())));
    }
    cursor.nullable_bytes(false)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topics(metadata: &Bytes) -> Option<Vec<String>> {
        let mut all = HashSet::new();
        add_topics(metadata, &mut all, 2)?;
        let mut topics: Vec<String> = all.iter().map(|name| name.to_string()).collect();
        topics.sort();
        Some(topics)
    }

    #[test]
    fn topics_are_read_from_any_version() {
        let bytes = Bytes::from_static(b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\0");
        assert_eq!(topics(&bytes).unwrap(), ["a", "bc"]);
        let three = Bytes::from_static(b"\0\0\0\0\0\x03\0\x01a\0\x01b\0\x01c\xff\xff\xff\xff");
        assert_eq!(topics(&three), None, "more than are taken in");
        assert_eq!(topics(&Bytes::from_static(b"\xff\xff\0\0\0\0")), None);
        assert_eq!(topics(&Bytes::from_static(b"\0\0\x7f\xff\xff\xff")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = topics(&Bytes::from(bytes));
        }
    }
}
