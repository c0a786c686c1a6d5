//! What a consumer says of itself in JoinGroup: the topics that it reads.
//!
//! ```text
//! version i16 | topics: count i32, each a string | user data | what later versions add
//! ```

use crate::codec::Malformed;
use crate::codec::cursor::Cursor;
use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

/// The topics; none when the bytes are not of this form.
pub(crate) fn topics(metadata: &Bytes) -> Option<Vec<StrBytes>> {
    read(metadata.clone()).ok()
}

fn read(metadata: Bytes) -> Result<Vec<StrBytes>, Malformed> {
    let mut cursor = Cursor::new(metadata);
    let version = cursor.i16()?;
    if version < 0 {
        return Err(Malformed(format!("a subscription of version {version}")));
    }
    let count = cursor.array(false, 2)?;
    let topics = (0..count).map(|_| cursor.string(false)).collect::<Result<_, _>>()?;
    cursor.nullable_bytes(false)?;
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn topics_are_read_from_any_version() {
        let bytes = Bytes::from_static(b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0\0\0");
        assert_eq!(topics(&bytes).unwrap(), [StrBytes::from_static_str("a"), StrBytes::from_static_str("bc")]);
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
