//! Java's hash of a string, because the reference places groups by it.

/// `String.hashCode`: over UTF-16 units.
pub(crate) fn hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The partition of `__consumer_offsets` that a group belongs to.
pub(crate) fn partition_of(group: &str, partitions: usize) -> usize {
    // `abs` of the smallest number is 0 there.
    let hash = hash(group).checked_abs().unwrap_or(0);
    usize::try_from(hash).unwrap_or(0).checked_rem(partitions).unwrap_or(0)
}

/// Where a small `HashMap` puts a key: it is walked in this order.
pub(crate) fn bucket(key: &str) -> u32 {
    let hash = hash(key) as u32;
    (hash ^ (hash >> 16)) & 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_hash_as_in_java() {
        assert_eq!(hash(""), 0);
        assert_eq!(hash("Aa"), hash("BB"));
        assert_eq!(hash("hello world"), 1_794_106_052);
        assert_eq!(hash("polygenelubricants"), i32::MIN);
        assert_eq!(hash("\u{1f600}"), 1_772_899);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        assert_eq!(partition_of("grpdump1", 4), 0, "where the reference put it");
    }
}
