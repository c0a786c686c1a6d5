//! Numbers that must not mix, each with its own type.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        number!($(#[$doc])* $name($inner), "{}");
    };
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

number!(
    /// A record's place in its partition. Logical: it counts records, not bytes.
    Offset(i64)
);
number!(
    /// A byte's place in a file.
    FilePosition(u64)
);
number!(
    /// A partition of any topic. Never reused, not even after its topic is gone.
    PartitionId(u64)
);
number!(
    /// A segment file. Never reused. Shown as in the file's name.
    FileId(u64), "{:016x}"
);
number!(
    /// A leader epoch: the node epoch that a partition took over at its first append of a run.
    Epoch(i32)
);
number!(
    /// Milliseconds since 1970, UTC.
    TimestampMs(i64)
);
number!(
    /// An idempotent producer. Never reused.
    ProducerId(i64)
);
number!(
    /// A WAL block's number. Grows by one for ever, across restarts.
    Sequence(u64)
);

impl FileId {
    /// Bits below the incarnation.
    const BITS: u32 = 40;
    /// Incarnations end here: a file id has no room for more.
    pub const INCARNATION_END: u64 = 1 << (u64::BITS - FileId::BITS);

    /// The first that a run gives away.
    pub const fn first_of(incarnation: u64) -> FileId {
        FileId(incarnation << FileId::BITS)
    }

    /// The run that gave it away.
    pub const fn incarnation(self) -> u64 {
        self.0 >> FileId::BITS
    }
}

/// A topic's identity: a random UUID, in network byte order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl Offset {
    /// The offset `count` records further on.
    #[must_use]
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}
