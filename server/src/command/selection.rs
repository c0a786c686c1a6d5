//! Topics and partitions as a person names them: `orders`, `orders:0`, `orders:0,2,5-7`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A topic, and which of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub topic: String,
    /// Empty for all of them.
    ranges: Vec<RangeInclusive<i32>>,
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Selection, String> {
        let (topic, partitions) = match text.split_once(':') {
            Some((topic, partitions)) => (topic, Some(partitions)),
            None => (text, None),
        };
        if topic.is_empty() {
            return Err("names no topic: write TOPIC or TOPIC:PARTITIONS, such as orders:0,2,5-7".to_owned());
        }
        let ranges = match partitions {
            Some(list) => list.split(',').map(range).collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        Ok(Selection { topic: topic.to_owned(), ranges })
    }
}

fn range(text: &str) -> Result<RangeInclusive<i32>, String> {
    let wrong = || format!("`{text}` is neither a partition nor a range of them, such as 0 or 5-7");
    let number = |text: &str| text.parse::<i32>().ok().filter(|number| *number >= 0).ok_or_else(wrong);
    let range = match text.split_once('-') {
        Some((first, last)) => number(first)?..=number(last)?,
        None => number(text).map(|only| only..=only)?,
    };
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}

impl Selection {
    /// The partitions, of a topic that has `existing`; an error names one that is not there.
    pub fn of(&self, existing: &[i32]) -> Result<Vec<i32>, String> {
        if self.ranges.is_empty() {
            return Ok(existing.to_vec());
        }
        let mut chosen = BTreeSet::new();
        for range in &self.ranges {
            let found: Vec<i32> = existing.iter().copied().filter(|number| range.contains(number)).collect();
            let wanted = i64::from(*range.end()) - i64::from(*range.start()) + 1;
            if i64::try_from(found.len()).is_ok_and(|found| found < wanted) {
                let (topic, count) = (&self.topic, existing.len());
                let missing = range.clone().find(|number| !found.contains(number)).unwrap_or(*range.end());
                return Err(format!("topic {topic} has {count} partitions; there is none with number {missing}"));
            }
            chosen.extend(found);
        }
        Ok(chosen.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_read_as_people_write_them() {
        let of = |text: &str, count: i32| text.parse::<Selection>().unwrap().of(&(0..count).collect::<Vec<_>>());
        assert_eq!(of("orders", 3), Ok(vec![0, 1, 2]));
        assert_eq!(of("orders:1", 3), Ok(vec![1]));
        assert_eq!(of("orders:5-7,0,2,6", 8), Ok(vec![0, 2, 5, 6, 7]));
        let missing = |number: i32| Err(format!("topic orders has 3 partitions; there is none with number {number}"));
        assert_eq!(of("orders:3", 3), missing(3));
        assert_eq!(of("orders:1-2147483647", 3), missing(3));
        for text in ["", ":0", "orders:", "orders:a", "orders:-1", "orders:2-1", "orders:1,", "orders:99999999999"] {
            assert!(text.parse::<Selection>().is_err(), "{text}");
        }
    }
}
