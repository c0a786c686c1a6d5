//! Licence expressions of crates (SPDX, and the older `MIT/Apache-2.0`), held against the list of those that may be
//! linked into an Apache-2.0 program and shipped with nothing but a notice.

const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether the expression can be met by allowed licences alone. One that cannot be read is not allowed.
pub fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest) == Some(true) && rest.is_empty()
}

/// `a OR b`
fn any(rest: &mut &[&str]) -> Option<bool> {
    let mut met = all(rest)?;
    while take(rest, "OR") {
        met |= all(rest)?;
    }
    Some(met)
}

/// `a AND b`, which binds tighter.
fn all(rest: &mut &[&str]) -> Option<bool> {
    let mut met = term(rest)?;
    while take(rest, "AND") {
        met &= term(rest)?;
    }
    Some(met)
}

/// A name, a name with an exception (which only ever permits more), or an expression in parentheses.
fn term(rest: &mut &[&str]) -> Option<bool> {
    if take(rest, "(") {
        let met = any(rest)?;
        return take(rest, ")").then_some(met);
    }
    let (name, tail) = rest.split_first()?;
    *rest = tail;
    if take(rest, "WITH") {
        *rest = rest.split_first()?.1;
    }
    Some(ALLOWED.contains(name))
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    match rest.split_first() {
        Some((first, tail)) if *first == word => {
            *rest = tail;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions_of_real_crates_are_read() {
        for expression in ["MIT", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0", "MIT OR LGPL-2.1-or-later"] {
            assert!(allowed(expression), "{expression}");
        }
        assert!(allowed("Apache-2.0 WITH LLVM-exception OR MIT"));
    }

    #[test]
    fn what_is_not_on_the_list_is_refused() {
        for expression in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND AGPL-3.0", "", "MIT OR", "(MIT"] {
            assert!(!allowed(expression), "{expression}");
        }
    }
}
