//! Values of settings: what a text may be for each kind, and the form in which it is shown again. The messages are those of
//! the reference, word for word, because operators search for them.

/// What kind of value a setting takes. The lower bounds are all that the reference checks where no upper one is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Bool,
    /// A 32-bit number.
    Int {
        /// The smallest value.
        min: i32,
        /// The largest value.
        max: i32,
    },
    /// 1 to 9, or -1 for the codec's own default.
    GzipLevel,
    /// A 64-bit number.
    Long {
        /// The smallest value.
        min: i64,
    },
    /// A fraction between 0 and 1.
    Ratio,
    /// Any text.
    Text,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// Any of some words, or none, with commas between.
    Words(&'static [&'static str]),
    /// `partition:broker` pairs with commas between, `*`, or nothing.
    Replicas,
    /// Anything, with commas between.
    List,
}

impl Kind {
    /// The kind's number in DescribeConfigs.
    pub fn code(self) -> i8 {
        match self {
            Kind::Bool => 1,
            Kind::Text | Kind::Choice(_) => 2,
            Kind::Int { .. } | Kind::GzipLevel => 3,
            Kind::Long { .. } => 5,
            Kind::Ratio => 6,
            Kind::Words(_) | Kind::Replicas | Kind::List => 7,
        }
    }

    /// Whether it is a list.
    pub fn is_list(self) -> bool {
        self.code() == 7
    }

    /// The kind in words, for `docs/configuration.md`.
    pub fn in_words(self) -> String {
        match self {
            Kind::Bool => "`true` or `false`".to_owned(),
            Kind::Int { min, max: i32::MAX } => format!("integer, at least {min}"),
            Kind::Int { min, max } => format!("integer, {min} to {max}"),
            Kind::GzipLevel => "integer, 1 to 9, or -1".to_owned(),
            Kind::Long { min: i64::MIN } => "integer".to_owned(),
            Kind::Long { min } => format!("integer, at least {min}"),
            Kind::Ratio => "number, 0 to 1".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::Choice(words) => quoted(words, ", "),
            Kind::Words(words) => format!("list of {}", quoted(words, ", ")),
            Kind::Replicas => "list of `partition:broker`, or `*`".to_owned(),
            Kind::List => "list".to_owned(),
        }
    }

    /// `text` in the form in which it is kept and shown, or why it cannot be a value of the setting `name`.
    pub fn canonical(self, name: &str, text: &str) -> Result<String, String> {
        let trimmed = java_trim(text);
        let invalid = |value: &str, why: &str| Err(format!("Invalid value {value} for configuration {name}: {why}"));
        match self {
            Kind::Text => Ok(trimmed.to_owned()),
            Kind::Bool if trimmed.eq_ignore_ascii_case("true") => Ok("true".to_owned()),
            Kind::Bool if trimmed.eq_ignore_ascii_case("false") => Ok("false".to_owned()),
            Kind::Bool => invalid(text, "Expected value to be either true or false"),
            Kind::Int { min, max } => match trimmed.parse::<i32>() {
                Err(_) => invalid(text, "Not a number of type INT"),
                Ok(n) if n < min => invalid(&n.to_string(), &format!("Value must be at least {min}")),
                Ok(n) if n > max => invalid(&n.to_string(), &format!("Value must be no more than {max}")),
                Ok(n) => Ok(n.to_string()),
            },
            Kind::GzipLevel => match trimmed.parse::<i32>() {
                Err(_) => invalid(text, "Not a number of type INT"),
                Ok(n @ (-1 | 1..=9)) => Ok(n.to_string()),
                Ok(n) => invalid(&n.to_string(), "Value must be between 1 and 9 or equal to -1"),
            },
            Kind::Long { min } => match trimmed.parse::<i64>() {
                Err(_) => invalid(text, "Not a number of type LONG"),
                Ok(n) if n < min => invalid(&n.to_string(), &format!("Value must be at least {min}")),
                Ok(n) => Ok(n.to_string()),
            },
            Kind::Ratio => match parse_double(trimmed) {
                None => invalid(text, "Not a number of type DOUBLE"),
                Some(n) if n < 0.0 => invalid(&show_double(n), "Value must be at least 0"),
                Some(n) if n > 1.0 => invalid(&show_double(n), "Value must be no more than 1"),
                Some(n) => Ok(show_double(n)),
            },
            Kind::Choice(words) if words.contains(&trimmed) => Ok(trimmed.to_owned()),
            Kind::Choice(words) => invalid(trimmed, &format!("String must be one of: {}", words.join(", "))),
            Kind::Words(words) => {
                let mut kept: Vec<&str> = Vec::new();
                for word in split(trimmed) {
                    if word.is_empty() {
                        return Err(format!("Configuration '{name}' values must not be empty."));
                    }
                    if !words.contains(&word) {
                        return invalid(word, &format!("String must be one of: {}", words.join(", ")));
                    }
                    if !kept.contains(&word) {
                        kept.push(word);
                    }
                }
                Ok(kept.join(","))
            }
            Kind::Replicas => {
                let items = split(trimmed);
                if items == ["*"] || items.iter().all(|item| is_replica(item)) {
                    return Ok(items.join(","));
                }
                let form = "[partitionId]:[brokerId],[partitionId]:[brokerId],...";
                let why =
                    format!("{name} must be the literal '*' or a list of replicas in the following format: {form}");
                invalid(&format!("[{}]", items.join(", ")), &why)
            }
            Kind::List => Ok(split(trimmed).join(",")),
        }
    }
}

fn quoted(words: &[&str], between: &str) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(between)
}

/// Java's `trim` takes away everything up to the space, and nothing beyond ASCII.
fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// The items of a list; none when there is no text.
fn split(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(java_trim).collect() }
}

/// An empty item passes too, as it does in the reference.
fn is_replica(item: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    item.is_empty() || item.split_once(':').is_some_and(|(p, b)| is_number(p) && is_number(b))
}

/// A number as Java reads it: a type suffix may follow, and `NaN` and `Infinity` have exactly one spelling. Hexadecimal
/// fractions are left out.
fn parse_double(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, "NaN" | "Infinity") {
        return text.parse().ok();
    }
    let digits = text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text);
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if is_plain { digits.parse().ok() } else { None }
}

/// A number as Java shows it: with a point, and with an exponent when it is small or large.
fn show_double(number: f64) -> String {
    let size = number.abs();
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
    } else if number != 0.0 && !(1e-3..1e7).contains(&size) {
        let text = format!("{number:E}");
        match text.split_once('E') {
            Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
            _ => text,
        }
    } else {
        format!("{number:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_java_shows_them() {
        let cases = [
            ("1", "1.0"),
            (".5", "0.5"),
            ("0.25f", "0.25"),
            ("0.00001", "1.0E-5"),
            ("1.5e-4", "1.5E-4"),
            ("NaN", "NaN"),
        ];
        for (text, shown) in cases {
            assert_eq!(Kind::Ratio.canonical("r", text).as_deref(), Ok(shown), "{text}");
        }
        for text in ["inf", "nan", "1_0", "", "f", "0x1"] {
            let why = format!("Invalid value {text} for configuration r: Not a number of type DOUBLE");
            assert_eq!(Kind::Ratio.canonical("r", text), Err(why));
        }
        let why = "Invalid value 5.0 for configuration r: Value must be no more than 1";
        assert_eq!(Kind::Ratio.canonical("r", "5."), Err(why.to_owned()));
    }

    #[test]
    fn lists_are_trimmed_and_words_kept_once() {
        let words = Kind::Words(&["compact", "delete"]);
        assert_eq!(words.canonical("w", " compact , delete,compact").as_deref(), Ok("compact,delete"));
        assert_eq!(words.canonical("w", " ").as_deref(), Ok(""));
        assert!(words.canonical("w", "delete,").is_err());
        assert_eq!(Kind::Replicas.canonical("r", "0:1 , 1:2").as_deref(), Ok("0:1,1:2"));
        assert_eq!(Kind::Replicas.canonical("r", "0:1,").as_deref(), Ok("0:1,"));
        assert!(Kind::Replicas.canonical("r", "*,0:1").is_err());
    }

    #[test]
    fn integers_keep_no_sign_and_no_space() {
        assert_eq!(Kind::Long { min: -1 }.canonical("n", " +5 ").as_deref(), Ok("5"));
        let why = "Invalid value 9223372036854775808 for configuration n: Not a number of type LONG";
        assert_eq!(Kind::Long { min: -1 }.canonical("n", "9223372036854775808"), Err(why.to_owned()));
    }
}
