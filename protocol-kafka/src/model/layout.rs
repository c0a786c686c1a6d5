//! Layouts of messages as tables of fields: a table gives the struct, its defaults, and how it is read and written at each
//! version.
//!
//! ```text
//! layout! {
//!     /// What it is.
//!     struct Name {
//!         /// What the field is.
//!         field: Type [versions] = default,      without a default, the type's own
//!     }
//! }
//! request!(Name, 2);                             a request; flexible from version 2 on
//! answer!(Name, 2);                              an answer
//! ```
//!
//! A field that a version lacks has its default after reading, and is left out in writing. Tagged fields are passed over in
//! reading, and none are written.

use crate::codec::cursor::Cursor;
use crate::codec::{Malformed, Unencodable};
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// How a message is written.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) version: i16,
    /// Lengths are varints, and structs end in tagged fields.
    pub(crate) compact: bool,
}

/// Something that a field may hold.
pub(crate) trait Field: Sized {
    /// Reads it.
    fn read(from: &mut Cursor, form: Form) -> Result<Self, Malformed>;
    /// Writes it onto the end of `to`.
    fn write(&self, to: &mut BytesMut, form: Form) -> Result<(), Unencodable>;
}

/// Elements that are made room for before the first is read. More are made room for as they come.
const ROOM_MAX: usize = 256;

macro_rules! plain {
    ($($kind:ty, $read:ident, $write:ident;)*) => {
        $(impl Field for $kind {
            fn read(from: &mut Cursor, _: Form) -> Result<$kind, Malformed> {
                from.$read()
            }

            fn write(&self, to: &mut BytesMut, _: Form) -> Result<(), Unencodable> {
                to.$write(*self);
                Ok(())
            }
        })*
    };
}

plain! {
    i8, i8, put_i8;
    i16, i16, put_i16;
    u16, u16, put_u16;
    i32, i32, put_i32;
    i64, i64, put_i64;
}

impl Field for bool {
    fn read(from: &mut Cursor, _: Form) -> Result<bool, Malformed> {
        Ok(from.i8()? != 0)
    }

    fn write(&self, to: &mut BytesMut, _: Form) -> Result<(), Unencodable> {
        to.put_u8(u8::from(*self));
        Ok(())
    }
}

impl Field for Uuid {
    fn read(from: &mut Cursor, _: Form) -> Result<Uuid, Malformed> {
        from.uuid()
    }

    fn write(&self, to: &mut BytesMut, _: Form) -> Result<(), Unencodable> {
        to.put_slice(self.as_bytes());
        Ok(())
    }
}

impl Field for BrokerId {
    fn read(from: &mut Cursor, _: Form) -> Result<BrokerId, Malformed> {
        from.i32().map(BrokerId)
    }

    fn write(&self, to: &mut BytesMut, form: Form) -> Result<(), Unencodable> {
        self.0.write(to, form)
    }
}

impl Field for StrBytes {
    fn read(from: &mut Cursor, form: Form) -> Result<StrBytes, Malformed> {
        from.string(form.compact)
    }

    fn write(&self, to: &mut BytesMut, form: Form) -> Result<(), Unencodable> {
        write_text(Some(self), to, form)
    }
}

impl Field for Option<StrBytes> {
    fn read(from: &mut Cursor, form: Form) -> Result<Option<StrBytes>, Malformed> {
        from.nullable_string(form.compact)
    }

    fn write(&self, to: &mut BytesMut, form: Form) -> Result<(), Unencodable> {
        write_text(self.as_ref(), to, form)
    }
}

impl Field for TopicName {
    fn read(from: &mut Cursor, form: Form) -> Result<TopicName, Malformed> {
        from.string(form.compact).map(TopicName)
    }

    fn write(&self, to: &mut BytesMut, form: Form) -> Result<(), Unencodable> {
        self.0.write(to, form)
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(from: &mut Cursor, form: Form) -> Result<Vec<T>, Malformed> {
        Option::<Vec<T>>::read(from, form)?.ok_or_else(|| Malformed("an array is null".to_owned()))
    }

    fn write(&self, to: &mut BytesMut, form: Form) -> Result<(), Unencodable> {
        write_array(Some(self), to, form)
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    fn read(from: &mut Cursor, form: Form) -> Result<Option<Vec<T>>, Malformed> {
        let Some(count) = from.nullable_array(form.compact, 1)? else { return Ok(None) };
        let mut all = Vec::with_capacity(count.min(ROOM_MAX));
        for _ in 0..count {
            all.push(T::read(from, form)?);
        }
        Ok(Some(all))
    }

    fn write(&self, to: &mut BytesMut, form: Form) -> Result<(), Unencodable> {
        write_array(self.as_deref(), to, form)
    }
}

fn write_array<T: Field>(all: Option<&[T]>, to: &mut BytesMut, form: Form) -> Result<(), Unencodable> {
    write_length(all.map(<[T]>::len), to, form)?;
    all.unwrap_or_default().iter().try_for_each(|one| one.write(to, form))
}

fn write_text(text: Option<&StrBytes>, to: &mut BytesMut, form: Form) -> Result<(), Unencodable> {
    if form.compact {
        write_length(text.map(|text| text.len()), to, form)?;
    } else {
        let length = text.map_or(Ok(-1), |text| i16::try_from(text.len()));
        to.put_i16(length.map_err(|_| Unencodable("a text of more than 32 KiB".to_owned()))?);
    }
    to.put_slice(text.map_or(&[], |text| text.as_bytes()));
    Ok(())
}

fn write_length(length: Option<usize>, to: &mut BytesMut, form: Form) -> Result<(), Unencodable> {
    let length = length.map_or(Ok(-1), i32::try_from).map_err(|_| Unencodable("a length above 2 GiB".to_owned()))?;
    if !form.compact {
        to.put_i32(length);
        return Ok(());
    }
    // One more than it is; 0 is null.
    let mut rest = (length + 1).unsigned_abs();
    while rest >= 0x80 {
        to.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    to.put_u8(rest as u8);
    Ok(())
}

/// See the module.
macro_rules! layout {
    ($(
        $(#[$about:meta])*
        struct $name:ident {
            $( $(#[$of:meta])* $field:ident: $kind:ty [$versions:expr] $(= $default:expr)?, )*
        }
    )*) => {
        $(
            $(#[$about])*
            #[derive(Clone, Debug, PartialEq)]
            pub(crate) struct $name {
                $( $(#[$of])* pub(crate) $field: $kind, )*
            }

            impl Default for $name {
                fn default() -> $name {
                    $name { $( $field: $crate::model::layout::default_of!($kind $(, $default)?), )* }
                }
            }

            impl $crate::model::layout::Field for $name {
                fn read(
                    from: &mut $crate::codec::cursor::Cursor,
                    form: $crate::model::layout::Form,
                ) -> Result<$name, $crate::codec::Malformed> {
                    let mut message = $name::default();
                    $( if ($versions).contains(&form.version) {
                        message.$field = $crate::model::layout::Field::read(from, form)?;
                    } )*
                    if form.compact {
                        from.skip_tags()?;
                    }
                    Ok(message)
                }

                fn write(
                    &self,
                    to: &mut bytes::BytesMut,
                    form: $crate::model::layout::Form,
                ) -> Result<(), $crate::codec::Unencodable> {
                    $( if ($versions).contains(&form.version) {
                        $crate::model::layout::Field::write(&self.$field, to, form)?;
                    } )*
                    if form.compact {
                        bytes::BufMut::put_u8(to, 0);
                    }
                    Ok(())
                }
            }
        )*
    };
}

macro_rules! default_of {
    ($kind:ty) => {
        <$kind>::default()
    };
    ($kind:ty, $default:expr) => {
        $default
    };
}

/// See the module.
macro_rules! request {
    ($name:ident, $flexible:expr) => {
        impl $crate::codec::FromWire for $name {
            fn from_wire(body: &bytes::Bytes, version: i16) -> Result<$name, $crate::codec::Malformed> {
                let form = $crate::model::layout::Form { version, compact: version >= $flexible };
                let mut cursor = $crate::codec::cursor::Cursor::new(body.clone());
                $crate::model::layout::Field::read(&mut cursor, form)
            }
        }
    };
}

/// See the module.
macro_rules! answer {
    ($name:ident, $flexible:expr) => {
        impl $crate::codec::ToWire for $name {
            fn header_version(version: i16) -> i16 {
                i16::from(version >= $flexible)
            }

            fn to_wire(&self, out: &mut bytes::BytesMut, version: i16) -> Result<(), $crate::codec::Unencodable> {
                let form = $crate::model::layout::Form { version, compact: version >= $flexible };
                $crate::model::layout::Field::write(self, out, form)
            }
        }
    };
}

pub(crate) use {answer, default_of, layout, request};

#[cfg(test)]
mod tests {
    use crate::codec::cursor::Cursor;
    use crate::codec::{FromWire, ToWire, encode_answer};
    use crate::model::api_versions::ApiVersionsRequest;
    use crate::model::describe_log_dirs as own;
    use crate::model::layout::{Field, Form};
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::describe_log_dirs_response as theirs;
    use kafka_protocol::messages::{self, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    /// What is described here is written as the crate writes it, in the versions that it knows; and reads back.
    #[test]
    fn a_layout_is_the_same_as_the_crates() {
        let long = StrBytes::from_string("x".repeat(300));
        for version in 1..=5 {
            let partition =
                own::DescribeLogDirsPartition { partition_index: 7, partition_size: 1 << 40, ..Default::default() };
            let topic = own::DescribeLogDirsTopic { name: TopicName(text("a")), partitions: vec![partition; 200] };
            let mut result =
                own::DescribeLogDirsResult { log_dir: long.clone(), topics: vec![topic], ..Default::default() };
            (result.total_bytes, result.usable_bytes) = (9, 8);
            let message = own::DescribeLogDirsResponse { error_code: 3, results: vec![result], ..Default::default() };

            let partition =
                theirs::DescribeLogDirsPartition::default().with_partition_index(7).with_partition_size(1 << 40);
            let topic = theirs::DescribeLogDirsTopic::default()
                .with_name(TopicName(text("a")))
                .with_partitions(vec![partition; 200]);
            let mut result =
                theirs::DescribeLogDirsResult::default().with_log_dir(long.clone()).with_topics(vec![topic]);
            if version >= 4 {
                result = result.with_total_bytes(9).with_usable_bytes(8);
            }
            let mut crates = messages::DescribeLogDirsResponse::default().with_results(vec![result]);
            if version >= 3 {
                crates.error_code = 3;
            }
            let bytes = encode_answer(5, version, &message).expect("an answer that fits");
            if version <= 4 {
                assert_eq!(
                    bytes,
                    encode_answer(5, version, &crates).expect("an answer that fits"),
                    "version {version}"
                );
            }

            let mut body = BytesMut::new();
            message.to_wire(&mut body, version).expect("an answer that fits");
            let form = Form { version, compact: version >= 2 };
            let mut cursor = Cursor::new(body.freeze());
            let read = own::DescribeLogDirsResponse::read(&mut cursor, form).expect("what was written");
            assert!(cursor.rest().is_empty());
            assert_eq!(read.results[0].topics, message.results[0].topics);
            assert_eq!(read.error_code, if version >= 3 { 3 } else { 0 });
            assert_eq!(read.results[0].total_bytes, if version >= 4 { 9 } else { -1 });
        }
    }

    #[test]
    fn a_request_reads_as_the_crate_wrote_it() {
        for version in 0..=4 {
            let mut crates = messages::ApiVersionsRequest::default();
            if version >= 3 {
                crates = crates.with_client_software_name(text("n")).with_client_software_version(text("v"));
                crates = crates.with_unknown_tagged_field(9, Bytes::from_static(b"later"));
            }
            let mut body = BytesMut::new();
            crates.encode(&mut body, version).expect("a request that fits");
            let read = ApiVersionsRequest::from_wire(&body.freeze(), version).expect("a good request");
            assert_eq!(read.client_software_name, crates.client_software_name);
            assert_eq!(read.client_software_version, crates.client_software_version);
            assert_eq!((read.cluster_id, read.node_id), (None, -1));
        }
    }

    proptest! {
        /// Bytes from a client never panic, and never make room for what they only announce.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), version in 0i16..=5) {
            let _ = ApiVersionsRequest::from_wire(&Bytes::from(bytes.clone()), version);
            let form = Form { version, compact: version >= 2 };
            let _ = own::DescribeLogDirsResponse::read(&mut Cursor::new(bytes.into()), form);
        }
    }
}
