//! As much of PromQL's grammar as is needed to see which metrics and labels a query names: words, strings, numbers, braces. It
//! does not know what a query means.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;

/// Words of the language that stand where a metric could.
const WORDS: &[&str] = &["and", "or", "unless", "bool", "offset", "group_left", "group_right", "inf", "nan"];
/// Words whose parentheses hold labels.
const LABEL_LISTS: &[&str] = &["by", "without", "on", "ignoring"];
/// The functions and aggregations that our queries use; another one is a misspelling until it is listed here.
const FUNCTIONS: &[&str] = &[
    "changes",
    "deriv",
    "histogram_quantile",
    "increase",
    "label_values",
    "predict_linear",
    "rate",
    "sum",
    "time",
    "topk",
];

/// A label, how it is compared, and with what.
pub type Matcher = (String, String, String);

/// What a query names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Each metric with its matchers.
    pub selectors: Vec<(String, Vec<Matcher>)>,
    /// Labels that results are grouped or joined by.
    pub grouped: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(String),
}

/// Reads a query.
pub fn parse(query: &str) -> Result<Query> {
    let tokens = tokens(query)?;
    let mut found = Query::default();
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Word(word) if LABEL_LISTS.contains(&word.as_str()) => {
                let (labels, end) = list(&tokens, at, "(", ")").with_context(|| format!("after `{word}`"))?;
                found.grouped.extend(labels.into_iter().map(|(label, ..)| label));
                at = end;
            }
            Token::Word(word) if WORDS.contains(&word.to_ascii_lowercase().as_str()) => {}
            // A number, or a duration between brackets.
            Token::Word(word) if word.starts_with(|c: char| c.is_ascii_digit() || c == '$') => {}
            Token::Word(word) => match tokens.get(at) {
                Some(Token::Sign(sign)) if sign == "(" => {
                    ensure!(FUNCTIONS.contains(&word.as_str()), "`{word}` is no function that is known here");
                }
                // `sum by (label) (...)`.
                Some(Token::Word(next)) if LABEL_LISTS.contains(&next.as_str()) => {
                    ensure!(FUNCTIONS.contains(&word.as_str()), "`{word}` is no function that is known here");
                }
                Some(Token::Sign(sign)) if sign == "{" => {
                    let (matchers, end) = list(&tokens, at, "{", "}").with_context(|| word.clone())?;
                    found.selectors.push((word.clone(), matchers));
                    at = end;
                }
                _ => found.selectors.push((word.clone(), Vec::new())),
            },
            Token::Text(text) => ensure!(false, "\"{text}\" stands alone"),
            Token::Sign(sign) => match sign.as_str() {
                "(" | "[" => open.push(sign.clone()),
                ")" => ensure!(open.pop().as_deref() == Some("("), "a `)` too many"),
                "]" => ensure!(open.pop().as_deref() == Some("["), "a `]` too many"),
                "{" | "}" | "\\" => ensure!(false, "a `{sign}` out of place"),
                _ => {}
            },
        }
    }
    ensure!(open.is_empty(), "{} is open at the end", open.join(" "));
    Ok(found)
}

/// Labels between brackets, with their matchers if they have any, and where the list ends.
fn list(tokens: &[Token], start: usize, open: &str, close: &str) -> Result<(Vec<Matcher>, usize)> {
    let is = |at: usize, sign: &str| matches!(tokens.get(at), Some(Token::Sign(found)) if found == sign);
    ensure!(is(start, open), "no `{open}`");
    let (mut labels, mut at) = (Vec::new(), start + 1);
    while !is(at, close) {
        let Some(Token::Word(label)) = tokens.get(at) else { anyhow::bail!("no label where one should be") };
        let (mut operator, mut value) = (String::new(), String::new());
        at += 1;
        if open == "{" {
            match (tokens.get(at), tokens.get(at + 1)) {
                (Some(Token::Sign(sign)), Some(Token::Text(text)))
                    if ["=", "!=", "=~", "!~"].contains(&sign.as_str()) =>
                {
                    (operator, value) = (sign.clone(), text.clone());
                }
                _ => anyhow::bail!("{label} is compared with nothing"),
            }
            at += 2;
        }
        labels.push((label.clone(), operator, value));
        if is(at, ",") {
            at += 1;
        } else {
            ensure!(is(at, close), "no `{close}`");
        }
    }
    Ok((labels, at + 1))
}

fn tokens(query: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let in_word = |c: char| c.is_ascii_alphanumeric() || "_:$.".contains(c);
        let (token, length) = if first == '"' {
            let end = rest[1..].find('"').context("an open quote")?;
            (Token::Text(rest[1..=end].to_owned()), end + 2)
        } else if in_word(first) {
            let end = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
            (Token::Word(rest[..end].to_owned()), end)
        } else {
            let two = ["!=", "=~", "!~", "==", ">=", "<="].iter().find(|sign| rest.starts_with(**sign));
            let length = two.map_or(first.len_utf8(), |sign| sign.len());
            (Token::Sign(rest[..length].to_owned()), length)
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

#[test]
fn metrics_matchers_and_groupings_are_found() {
    let text =
        r#"histogram_quantile(0.99, sum by (api, le) (rate(a_bucket{x=~"$x",y="z"}[5m]))) > 1e-3 and b offset 5m"#;
    let query = parse(text).unwrap();
    let matcher = |label: &str, operator: &str, value: &str| (label.into(), operator.into(), value.into());
    let expected =
        vec![("a_bucket".to_owned(), vec![matcher("x", "=~", "$x"), matcher("y", "=", "z")]), ("b".to_owned(), vec![])];
    assert_eq!(query.selectors, expected);
    assert_eq!(query.grouped.into_iter().collect::<Vec<_>>(), ["api", "le"]);
}

#[test]
fn broken_queries_are_refused() {
    for text in ["rate(a[5m]", "a{b}", "a{b=\"c}", "sum by (a", "ratio(a)", "a}", "a)", "a{=\"b\"}"] {
        assert!(parse(text).is_err(), "{text}");
    }
}
