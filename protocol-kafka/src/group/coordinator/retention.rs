//! Offsets that nobody needs any more, and groups that have none left.
//!
//! As in the reference: a group's offsets live as long as it has members, and `offsets.retention.minutes` longer. Where the
//! members' subscriptions are known, offsets of other topics live that long after their commit, and so do those of a group that
//! never had members. Old clients may say when an offset expires.

use super::super::State;
use super::super::classic::Group;
use super::super::records::Committed;
use super::commits::TURN;
use super::{Inner, Slot};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// From which time on an offset's age counts; none when it does not age.
fn ages_from(group: &Group, committed: &Committed) -> Option<i64> {
    if group.protocol_type().is_none() {
        return Some(committed.commit_time);
    }
    match group.state() {
        State::Empty => Some(group.state_time().unwrap_or(committed.commit_time)),
        State::Stable if group.is_of_consumers() && group.subscribed().is_some() => Some(committed.commit_time),
        _ => None,
    }
}

/// Whether an offset has expired at this time.
fn is_expired(group: &Group, committed: &Committed, now: i64, retention_ms: i64) -> bool {
    let Some(from) = ages_from(group, committed) else { return false };
    match committed.expire_time {
        Some(at) => now >= at,
        None => now.saturating_sub(from) >= retention_ms,
    }
}

/// Goes through all groups, again and again, until the coordinator is gone.
pub(super) async fn run(inner: Weak<Inner>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.clean_up().await;
    }
}

impl Inner {
    async fn clean_up(self: &Arc<Inner>) {
        let Some(opened) = self.opened.get() else { return };
        for shard in &opened.shards {
            let slots: Vec<Arc<Slot>> = shard.groups.read().values().cloned().collect();
            for slots in slots.chunks(TURN) {
                slots.iter().for_each(|slot| self.clean_up_one(slot));
                tokio::task::yield_now().await;
            }
        }
    }

    fn clean_up_one(self: &Arc<Inner>, slot: &Arc<Slot>) {
        let Some(mut held) = slot.lock() else { return };
        held.offsets.settle();
        let retention_ms = self.options.offsets_retention_ms;
        let _ = self.act(slot, &mut held, |slot, held, now, _| {
            let (mut gone, mut expired) = (Vec::new(), 0);
            for (topic, partitions) in held.offsets.iter() {
                let is_read = held.group.is_subscribed(topic);
                let there = self.engine.topic(topic);
                for (partition, committed) in partitions {
                    let is_old = !is_read && is_expired(&held.group, committed, now.wall, retention_ms);
                    // What could not be dropped when its topic was deleted goes now. A commit that is on its way is not looked
                    // at, and must not be followed by the end of what was there before it.
                    if (is_old || there.as_ref().is_none_or(|topic| !committed.is_of(topic)))
                        && !held.offsets.is_changing(topic, *partition)
                    {
                        gone.push((topic.clone(), *partition));
                        expired += usize::from(is_old);
                    }
                }
            }
            let ends = held.group.is_unused() && gone.len() == held.offsets.count();
            if gone.is_empty() && !ends {
                return;
            }
            match self.queue_gone(slot, held, now, gone, ends) {
                Ok(_) => {
                    self.counters.expired_offsets(expired);
                    if ends {
                        self.forget(slot, held);
                    }
                }
                Err(error) => tracing::warn!(group = &*slot.id, %error, "expired offsets stay until the next look"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::classic::{Effects, Moment, Rules};
    use crate::group::records::GroupRecord;
    use kafka_protocol::protocol::StrBytes;

    const RULES: Rules = Rules { initial_delay_ms: 0, members_max: 10, pending_max: 10, bytes_max: usize::MAX };

    fn committed(commit_time: i64, expire_time: Option<i64>) -> Committed {
        let metadata = StrBytes::new();
        Committed { offset: 1, leader_epoch: -1, metadata, commit_time, expire_time, topic_id: None }
    }

    fn group(protocol_type: &'static str, state_time: i64) -> Group {
        let record = GroupRecord { protocol_type: protocol_type.into(), state_time, ..GroupRecord::default() };
        Group::restore(record, Moment { ms: 0, wall: 0 }, &RULES, &mut Effects::default())
    }

    #[test]
    fn offsets_of_simple_consumers_age_from_their_commit() {
        let group = group("", 500);
        assert!(!is_expired(&group, &committed(100, None), 199, 100));
        assert!(is_expired(&group, &committed(100, None), 200, 100));
    }

    #[test]
    fn offsets_of_an_empty_group_age_from_the_time_when_it_became_empty() {
        assert!(!is_expired(&group("consumer", 500), &committed(100, None), 599, 100));
        assert!(is_expired(&group("consumer", 500), &committed(100, None), 600, 100));
        assert!(is_expired(&group("consumer", -1), &committed(100, None), 200, 100), "the time is not known");
    }

    #[test]
    fn a_time_that_the_client_gave_counts_alone() {
        let group = group("", 0);
        assert!(!is_expired(&group, &committed(0, Some(1_000)), 999, 10));
        assert!(is_expired(&group, &committed(0, Some(1_000)), 1_000, 10_000));
    }
}
