//! The request header.

use super::Malformed;
use super::cursor::Cursor;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

/// What every request begins with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<StrBytes>,
}

/// Reads the header; the cursor then stands at the body. An unknown key is malformed: its header has no known form.
pub(crate) fn read(cursor: &mut Cursor) -> Result<Header, Malformed> {
    let key = cursor.i16()?;
    let version = cursor.i16()?;
    let correlation_id = cursor.i32()?;
    let key = ApiKey::try_from(key).map_err(|()| Malformed(format!("unknown API key {key}")))?;
    // The client id stays in the old encoding, so that a broker can read it before it knows the version.
    let client_id = cursor.client_id()?;
    if key.request_header_version(version) >= 2 {
        cursor.skip_tags()?;
    }
    Ok(Header { key, version, correlation_id, client_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::RequestHeader;
    use kafka_protocol::protocol::encode_request_header_into_buffer;

    fn encoded(key: ApiKey, version: i16, client_id: Option<&'static str>) -> Bytes {
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(-7)
            .with_client_id(client_id.map(StrBytes::from_static_str));
        let mut out = BytesMut::new();
        encode_request_header_into_buffer(&mut out, &header).unwrap();
        out.freeze()
    }

    #[test]
    fn headers_of_both_kinds_are_read_as_the_crate_writes_them() {
        for (key, version) in
            [(ApiKey::Produce, 3), (ApiKey::Produce, 9), (ApiKey::Fetch, 18), (ApiKey::ApiVersions, 99)]
        {
            for client_id in [None, Some(""), Some("héllo")] {
                let mut cursor = Cursor::new(encoded(key, version, client_id));
                let header = read(&mut cursor).unwrap();
                let client_id = client_id.map(StrBytes::from_static_str);
                assert_eq!(header, Header { key, version, correlation_id: -7, client_id });
                assert!(cursor.rest().is_empty());
            }
        }
    }

    #[test]
    fn any_bytes_will_do_for_a_client_id() {
        let client_id = |bytes: &[u8]| {
            let frame = [&[0, 1, 0, 4, 0, 0, 0, 1], bytes].concat();
            read(&mut Cursor::new(frame.into())).unwrap().client_id
        };
        assert_eq!(client_id(&[0, 2, 0xc3, 0x28]).as_deref(), Some("\u{fffd}("));
        assert_eq!(client_id(&[0xff, 0xfe]), None);
    }

    #[test]
    fn a_cut_header_and_an_unknown_key_are_malformed() {
        let whole = encoded(ApiKey::Fetch, 18, Some("client"));
        for end in 0..whole.len() {
            assert!(read(&mut Cursor::new(whole.slice(..end))).is_err(), "{end} bytes");
        }
        let mut unknown = whole.to_vec();
        unknown[..2].copy_from_slice(&4i16.to_be_bytes());
        assert!(read(&mut Cursor::new(unknown.into())).is_err(), "key 4 is gone");
    }
}
