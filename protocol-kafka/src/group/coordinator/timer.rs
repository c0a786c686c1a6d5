//! One task for the deadlines of all groups.
//!
//! A group has at most one deadline that the queue must know, the earliest. When it moves earlier it is queued again; when it moves
//! later, as with each heartbeat, nothing happens until the old one is due, and the group is then asked anew.

use super::{Inner, Slot};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// A deadline in the queue; ordered by time.
struct Due {
    at: u64,
    slot: Weak<Slot>,
}

impl Due {
    fn counts(&self) -> bool {
        self.slot.upgrade().is_some_and(|slot| slot.armed.load(Ordering::Relaxed) == self.at)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// The queue.
#[derive(Default)]
pub(super) struct Timer {
    due: Mutex<Queue>,
    news: Notify,
}

/// Deadlines, the first one first. Some no longer count: their groups are gone, or have an earlier one.
struct Queue {
    heap: BinaryHeap<Reverse<Due>>,
    /// With so many of them, those that no longer count are dropped.
    full: usize,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { heap: BinaryHeap::new(), full: QUEUED_MIN }
    }
}

impl Queue {
    fn push(&mut self, due: Due) {
        if self.heap.len() >= self.full {
            self.heap.retain(|Reverse(due)| due.counts());
            // So this costs little however many there are.
            self.full = (2 * self.heap.len()).max(QUEUED_MIN);
        }
        self.heap.push(Reverse(due));
    }
}

/// Deadlines that may be queued before those are looked for that no longer count.
const QUEUED_MIN: usize = 1_024;

/// Groups that are looked at before other tasks have their turn.
const TURN: usize = 64;

impl Timer {
    /// Queues a deadline.
    pub(super) fn set(&self, at: u64, slot: &Arc<Slot>) {
        let is_first = {
            let mut due = self.due.lock();
            let is_first = due.heap.peek().is_none_or(|Reverse(first)| at < first.at);
            due.push(Due { at, slot: Arc::downgrade(slot) });
            is_first
        };
        if is_first {
            self.news.notify_one();
        }
    }

    /// Has the task look again.
    pub(super) fn wake(&self) {
        self.news.notify_one();
    }

    /// Takes the first deadline, if it has come.
    fn pop(&self, now: u64) -> Option<Due> {
        let mut due = self.due.lock();
        if due.heap.peek()?.0.at > now {
            return None;
        }
        due.heap.pop().map(|Reverse(due)| due)
    }

    fn next(&self) -> Option<u64> {
        self.due.lock().heap.peek().map(|Reverse(due)| due.at)
    }
}

/// Runs until the coordinator is gone.
pub(super) async fn run(inner: Weak<Inner>, timer: Arc<Timer>) {
    loop {
        let until = {
            let Some(inner) = inner.upgrade() else { return };
            let Some(opened) = inner.opened.get() else {
                // It is about to be there: this task was started on the way.
                drop(inner);
                tokio::task::yield_now().await;
                continue;
            };
            for _ in 0..TURN {
                let now = inner.now(opened);
                let Some(due) = timer.pop(now.ms) else { break };
                if let Some(slot) = due.slot.upgrade() {
                    inner.expire(&slot, due.at);
                }
            }
            timer.next().map(|at| opened.origin + Duration::from_millis(at))
        };
        let due = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = timer.news.notified() => {}
        }
    }
}

impl Inner {
    /// A deadline of a group has come: does what is due, and queues the next one.
    fn expire(self: &Arc<Inner>, slot: &Arc<Slot>, at: u64) {
        let Some(mut held) = slot.lock() else { return };
        if slot.armed.load(Ordering::Relaxed) == at {
            slot.armed.store(u64::MAX, Ordering::Relaxed);
        }
        let _ = self.act(slot, &mut held, |_, held, now, effects| held.group.expire(now, &self.rules, effects));
        if let Some(next) = held.group.next_deadline() {
            self.arm(slot, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::classic::{Group, Moment};
    use crate::group::offsets::Offsets;
    use kafka_protocol::protocol::StrBytes;

    #[test]
    fn deadlines_that_no_longer_count_are_dropped() {
        let timer = Timer::default();
        let slot =
            || Arc::new(Slot::new(StrBytes::new(), 0, Group::new(Moment { ms: 0, wall: 0 }), Offsets::default()));
        let set = |slot: &Arc<Slot>, at| {
            slot.armed.store(at, Ordering::Relaxed);
            timer.set(at, slot);
        };
        let alive: Vec<_> = (0..100).map(|_| slot()).collect();
        for round in 0..100 {
            alive.iter().for_each(|slot| set(slot, 1_000_000 - round));
            // These are gone at once.
            (0..100).for_each(|_| set(&slot(), 2_000_000));
            assert!(timer.due.lock().heap.len() <= QUEUED_MIN);
        }
        assert_eq!(timer.next(), Some(1_000_000 - 99));
        let counts = timer.due.lock().heap.iter().filter(|Reverse(due)| due.counts()).count();
        assert_eq!(counts, alive.len());
    }
}
