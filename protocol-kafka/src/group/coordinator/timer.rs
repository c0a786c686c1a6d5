//! One task for the deadlines of all groups.
//!
//! A group has at most one deadline that the queue must know, the earliest. When it moves earlier it is queued again; when it moves
//! later, as with each heartbeat, nothing happens until the old one is due, and the group is then asked anew.

use super::{Inner, Slot};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A deadline in the queue; ordered by time.
struct Due {
    at: u64,
    slot: Weak<Slot>,
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
    due: Mutex<BinaryHeap<Reverse<Due>>>,
    news: Notify,
}

/// Groups that are looked at before other tasks have their turn.
const TURN: usize = 64;

impl Timer {
    /// Queues a deadline.
    pub(super) fn set(&self, at: u64, slot: &Arc<Slot>) {
        let is_first = {
            let mut due = self.due.lock();
            let is_first = due.peek().is_none_or(|Reverse(first)| at < first.at);
            due.push(Reverse(Due { at, slot: Arc::downgrade(slot) }));
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
        if due.peek()?.0.at > now {
            return None;
        }
        due.pop().map(|Reverse(due)| due)
    }

    fn next(&self) -> Option<u64> {
        self.due.lock().peek().map(|Reverse(due)| due.at)
    }
}

/// Runs until the coordinator is gone.
pub(super) async fn run(inner: Weak<Inner>, timer: Arc<Timer>) {
    let mut retention = None;
    loop {
        let until = {
            let Some(inner) = inner.upgrade() else { return };
            let Some(opened) = inner.opened.get() else {
                // It is about to be there: this task was started on the way.
                drop(inner);
                tokio::task::yield_now().await;
                continue;
            };
            let interval = inner.options.retention_check_interval;
            let mut check_at = *retention.get_or_insert_with(|| Instant::now() + interval);
            for _ in 0..TURN {
                let now = inner.now(opened);
                let Some(due) = timer.pop(now.ms) else { break };
                if let Some(slot) = due.slot.upgrade() {
                    inner.expire(&slot, due.at);
                }
            }
            if Instant::now() >= check_at {
                inner.clean_up().await;
                check_at = Instant::now() + interval;
                retention = Some(check_at);
            }
            match timer.next() {
                Some(at) => check_at.min(opened.origin + Duration::from_millis(at)),
                None => check_at,
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = timer.news.notified() => {}
        }
    }
}

impl Inner {
    /// A deadline of a group has come: does what is due, and queues the next one.
    fn expire(self: &Arc<Inner>, slot: &Arc<Slot>, at: u64) {
        let Some(mut held) = slot.lock() else { return };
        if held.armed == at {
            held.armed = u64::MAX;
        }
        let _ = self.act(slot, &mut held, |_, held, now, effects| held.group.expire(now, &self.rules, effects));
        if let Some(next) = held.group.next_deadline() {
            self.arm(slot, &mut held, next);
        }
    }
}
