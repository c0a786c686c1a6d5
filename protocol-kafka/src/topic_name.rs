//! What a topic may be called, in the reference's own words, and which names are Headwater's.

/// UTF-16 units of a name.
const LENGTH_MAX: usize = 249;

/// Names that begin so back other heads' queues and topics, or hold internal state. Kafka clients may read them and may not
/// make them.
const RESERVED: [&str; 3] = ["sqs.", "sns.", "__"];

/// Internal topics of the reference. Their names count as internal whether or not they exist.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Internal topics that Kafka clients do not see.
const HIDDEN: [&str; 2] = ["__view_state", "__catalogue"];

/// Why a topic cannot have this name, in words that follow `Topic name is invalid: `.
pub(crate) fn fault(name: &str) -> Option<String> {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    match name {
        "" => Some("the empty string is not allowed".to_owned()),
        "." | ".." => Some(format!("'{name}' is not allowed")),
        // Counted as Java counts.
        _ if name.encode_utf16().count() > LENGTH_MAX => {
            Some(format!("the length of '{name}' is longer than the max allowed length {LENGTH_MAX}"))
        }
        _ if !name.bytes().all(is_legal) => {
            Some(format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"))
        }
        _ => None,
    }
}

/// As much of a text about a name as goes into an answer: a client may ask about a million partitions of a name that takes
/// megabytes, and each gets a message.
pub(crate) fn told(text: &str) -> &str {
    const TOLD_MAX: usize = 512;
    let end = (0..=TOLD_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Whether the name may not be made through Kafka.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the reference takes the name for an internal topic's.
pub(crate) fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Whether Kafka clients do not see the topic.
pub(crate) fn is_hidden(name: &str) -> bool {
    HIDDEN.contains(&name)
}

/// Two names whose forms are equal collide: metric names cannot tell dots from underscores.
pub(crate) fn collision_form(name: &str) -> String {
    name.replace('.', "_")
}

/// Whether the name can collide with another one at all.
pub(crate) fn can_collide(name: &str) -> bool {
    name.contains(['.', '_'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_the_reference_judges_them() {
        for good in ["a", "A-z_0.9", "...", &"x".repeat(249)] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a\n", &"x".repeat(250)] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}
