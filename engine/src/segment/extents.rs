//! Ranges of bytes of which something is known.

use std::ops::Range;

/// So many ranges are kept; what is forgotten over that has to be found out again.
const KEPT_MAX: usize = 1024;

/// Ranges that neither overlap nor touch, in order. Who reads on where the last read ended makes one longer.
#[derive(Debug, Default)]
pub struct Extents(Vec<Range<u64>>);

impl Extents {
    /// Whether all of a range is among them.
    pub fn cover(&self, range: &Range<u64>) -> bool {
        let at = self.0.partition_point(|known| known.end < range.end);
        range.is_empty() || self.0.get(at).is_some_and(|known| known.start <= range.start)
    }

    /// Takes in a range.
    pub fn add(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|known| known.end < range.start);
        let behind = self.0.partition_point(|known| known.start <= range.end);
        if let Some(met) = self.0.get(first..behind).filter(|met| !met.is_empty()) {
            range.start = range.start.min(met[0].start);
            range.end = range.end.max(met[met.len() - 1].end);
        }
        self.0.splice(first..behind, [range]);
        let others = (0..self.0.len()).filter(|&at| at != first);
        if self.0.len() > KEPT_MAX
            && let Some(shortest) = others.min_by_key(|&at| self.0[at].end - self.0[at].start)
        {
            self.0.remove(shortest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_know_what_a_set_of_bytes_knows(added in prop::collection::vec((0_u64..64, 0_u64..12), 0..24), asked in (0_u64..64, 0_u64..12)) {
            let mut extents = Extents::default();
            let mut bytes = [false; 80];
            for (start, size) in added {
                extents.add(start..start + size);
                bytes[start as usize..(start + size) as usize].fill(true);
                prop_assert!(extents.0.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
            let asked = asked.0..asked.0 + asked.1;
            let known = bytes[asked.start as usize..asked.end as usize].iter().all(|known| *known);
            prop_assert_eq!(extents.cover(&asked), known);
        }
    }

    #[test]
    fn the_shortest_of_the_others_is_forgotten_when_there_are_too_many() {
        let mut extents = Extents::default();
        for at in 1..=KEPT_MAX as u64 {
            extents.add(10 * at..10 * at + 2 + u64::from(at > 1));
        }
        extents.add(0..1);
        assert_eq!(extents.0.len(), KEPT_MAX);
        assert!(extents.cover(&(0..1)) && !extents.cover(&(10..12)) && extents.cover(&(20..23)));
    }
}
