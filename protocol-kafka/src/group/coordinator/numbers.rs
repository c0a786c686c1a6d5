//! What is counted of groups, and how far they are behind, for the metrics.

use super::super::State;
use super::super::classic::Effects;
use super::{Inner, Slot};
use crate::limits::GROUP_LAGS_MAX;
use headwater_protocol::metrics::Family;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Counts since the start.
#[derive(Default)]
pub(super) struct Counters {
    rebalances: AtomicU64,
    expired_members: AtomicU64,
    commits: AtomicU64,
    expired_offsets: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, effects: &Effects) {
        if effects.is_stabilized {
            self.rebalances.fetch_add(1, Relaxed);
        }
        if effects.expired > 0 {
            self.expired_members.fetch_add(effects.expired, Relaxed);
        }
    }

    pub(super) fn committed(&self) {
        self.commits.fetch_add(1, Relaxed);
    }

    pub(super) fn expired_offsets(&self, count: usize) {
        self.expired_offsets.fetch_add(count as u64, Relaxed);
    }
}

impl super::Coordinator {
    /// What there is to show now, for as long as the coordinator lives.
    pub(crate) fn families(&self) -> headwater_protocol::metrics::More {
        let inner = Arc::downgrade(&self.0);
        Box::new(move || inner.upgrade().map(|inner| inner.families()).unwrap_or_default())
    }
}

/// The values of a family: labels, and the number.
type Values = Vec<(Vec<(&'static str, String)>, u64)>;

impl Inner {
    fn families(&self) -> Vec<Family> {
        let mut states = BTreeMap::from(State::ALL.map(|state| (state, 0)));
        let mut lags = Values::new();
        let mut left_out = 0;
        for slot in self.slots() {
            let Some(state) = self.look(&slot, &mut lags, &mut left_out) else { continue };
            *states.entry(state).or_default() += 1;
        }
        let states = states.into_iter().map(|(state, count)| (vec![("state", state.name().to_owned())], count));
        let counter = |name, help, count: &AtomicU64| Family {
            name,
            help,
            is_counter: true,
            values: vec![(Vec::new(), count.load(Relaxed))],
        };
        let gauge = |name, help, values| Family { name, help, is_counter: false, values };
        vec![
            gauge("groups", "Consumer groups, by state", states.collect()),
            counter("group_rebalances", "Rebalances of groups that came to their end", &self.counters.rebalances),
            counter("group_members_expired", "Members whose session ended", &self.counters.expired_members),
            counter("offset_commits", "Offset commits taken", &self.counters.commits),
            counter("offsets_expired", "Committed offsets that expired", &self.counters.expired_offsets),
            gauge("group_lag", "Records behind the committed offset, by group, topic and partition", lags),
            gauge(
                "group_lag_left_out",
                "Partitions whose lag is not shown, because there are too many",
                vec![(Vec::new(), left_out)],
            ),
        ]
    }

    /// All groups at hand.
    fn slots(&self) -> impl Iterator<Item = Arc<Slot>> {
        let shards = self.opened.get().map(|opened| &*opened.shards).unwrap_or_default();
        shards.iter().flat_map(|shard| shard.groups.read().values().cloned().collect::<Vec<_>>())
    }

    /// A group's state; its lags go onto `lags`, as long as there is room.
    fn look(&self, slot: &Slot, lags: &mut Values, left_out: &mut u64) -> Option<State> {
        let mut held = slot.lock()?;
        self.settle(slot, &mut held);
        for (name, partitions) in held.offsets.iter() {
            if lags.len() >= GROUP_LAGS_MAX {
                *left_out += partitions.len() as u64;
                continue;
            }
            let Some(topic) = self.engine.topic(name) else { continue };
            for (index, committed) in partitions {
                if lags.len() >= GROUP_LAGS_MAX {
                    *left_out += 1;
                    continue;
                }
                let Some(partition) = crate::topics::partition(&topic, *index) else { continue };
                let lag = partition.bounds().high_watermark.0.saturating_sub(committed.offset).max(0);
                let labels =
                    vec![("group", slot.id.to_string()), ("topic", name.to_string()), ("partition", index.to_string())];
                lags.push((labels, u64::try_from(lag).unwrap_or(0)));
            }
        }
        Some(held.group.state())
    }
}
