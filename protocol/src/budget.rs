//! Memory for requests: a number of bytes that all connections of a listener share.
//!
//! A connection takes bytes as they arrive, not as they are announced, so that a client that announces much and sends nothing
//! costs nothing. Several half-read requests could then hold everything and wait for each other; so one connection at a time
//! may overdraw.
//!
//! Small requests have an eighth of the budget beside it to themselves, so that whoever holds large ones open, on purpose or over
//! a slow line, stops nobody who asks for little.
//!
//! A budget for answers is another one, so that a request never waits for what requests hold, itself included. What is made is paid for
//! there before it is, with one charge; what waits to be sent is paid for at once, whether or not it fits. It goes when its client
//! reads, or is cut off because it does not; while it alone exceeds the budget, nobody overdraws.

use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A request that takes no more than this, all in all, is small.
pub const SMALL_MAX: u64 = 32 << 10;

/// The shared bytes.
pub struct Budget {
    max: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    /// Of these, what small requests take.
    used_small: u64,
    /// Of these, what answers take that wait to be sent.
    used_answers: u64,
    /// Whether some charge overdraws.
    overdrawn: bool,
    /// Whom to wake at the next release. Everybody is woken at once: waiting is rare.
    waiting: Vec<Waker>,
}

impl State {
    fn take(&mut self, more: u64, kind: Kind) {
        self.used = self.used.saturating_add(more);
        if let Some(part) = self.part(kind) {
            *part = part.saturating_add(more);
        }
    }

    fn give_back(&mut self, bytes: u64, kind: Kind) {
        self.used = self.used.saturating_sub(bytes);
        if let Some(part) = self.part(kind) {
            *part = part.saturating_sub(bytes);
        }
    }

    fn part(&mut self, kind: Kind) -> Option<&mut u64> {
        match kind {
            Kind::Small => Some(&mut self.used_small),
            Kind::Large => None,
            Kind::Answers => Some(&mut self.used_answers),
        }
    }
}

/// What memory is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A small request.
    Small,
    /// Any other request.
    Large,
    /// Answers that wait to be sent.
    Answers,
}

impl Budget {
    /// A budget of `max` bytes.
    pub fn new(max: u64) -> Arc<Budget> {
        Arc::new(Budget { max, state: Mutex::default() })
    }

    /// Bytes taken now.
    pub fn used(&self) -> u64 {
        self.state.lock().used
    }

    /// Whether so many more fit now.
    pub fn has_room(&self, more: u64) -> bool {
        self.state.lock().used.saturating_add(more) <= self.max
    }

    /// The bytes that there are.
    pub fn max(&self) -> u64 {
        self.max
    }
}

/// Bytes taken from a budget; given back when it drops.
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
    kind: Kind,
    overdraws: bool,
}

impl Charge {
    fn of(budget: &Arc<Budget>, bytes: u64, kind: Kind) -> Charge {
        Charge { budget: budget.clone(), bytes, kind, overdraws: false }
    }

    /// Takes nothing yet.
    pub fn new(budget: &Arc<Budget>) -> Charge {
        Charge::of(budget, 0, Kind::Large)
    }

    /// Takes nothing yet; for answers that wait to be sent.
    pub fn for_answers(budget: &Arc<Budget>) -> Charge {
        Charge::of(budget, 0, Kind::Answers)
    }

    /// Takes nothing yet, and never more than `most`.
    pub fn up_to(budget: &Arc<Budget>, most: u64) -> Charge {
        let kind = if most <= SMALL_MAX { Kind::Small } else { Kind::Large };
        Charge::of(budget, 0, kind)
    }

    /// Parts with `bytes` of what it took.
    pub fn split_off(&mut self, bytes: u64) -> Charge {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let mut part = Charge::of(&self.budget, bytes, self.kind);
        if self.bytes == 0 && bytes > 0 {
            // Whoever has the bytes has overdrawn.
            part.overdraws = std::mem::take(&mut self.overdraws);
        }
        part
    }

    /// Bytes taken by this charge.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `more` bytes, or registers the task for when some are given back.
    pub fn poll_grow(&mut self, cx: &mut Context<'_>, more: u64) -> Poll<()> {
        if more == 0 {
            return Poll::Ready(());
        }
        let mut state = self.budget.state.lock();
        let max = self.budget.max;
        let fits = state.used.saturating_add(more) <= max
            || self.kind == Kind::Small && state.used_small.saturating_add(more) <= max / 8;
        if !fits && !self.overdraws {
            if state.overdrawn || state.used_answers > max {
                if !state.waiting.last().is_some_and(|last| last.will_wake(cx.waker())) {
                    state.waiting.push(cx.waker().clone());
                }
                return Poll::Pending;
            }
            state.overdrawn = true;
            self.overdraws = true;
        }
        state.take(more, self.kind);
        self.bytes = self.bytes.saturating_add(more);
        Poll::Ready(())
    }

    /// Takes `more` bytes, when they are there.
    pub async fn grow(&mut self, more: u64) {
        std::future::poll_fn(|cx| self.poll_grow(cx, more)).await;
    }

    /// Takes `more` bytes although they may not be there: for memory that is already in use. New requests then wait.
    pub fn grow_at_once(&mut self, more: u64) {
        self.budget.state.lock().take(more, self.kind);
        self.bytes = self.bytes.saturating_add(more);
    }

    /// Gives everything back but `keep` bytes.
    pub fn shrink_to(&mut self, keep: u64) {
        let back = self.bytes.saturating_sub(keep);
        if back == 0 {
            return;
        }
        self.bytes -= back;
        let waiting = {
            let mut state = self.budget.state.lock();
            state.give_back(back, self.kind);
            if self.overdraws && self.bytes == 0 {
                self.overdraws = false;
                state.overdrawn = false;
            }
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_charge_overdraws_and_the_others_wait_until_bytes_come_back() {
        let budget = Budget::new(100);
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let [mut a, mut b, mut c] = [(); 3].map(|()| Charge::new(&budget));
        assert!(a.poll_grow(&mut cx, 60).is_ready());
        assert!(b.poll_grow(&mut cx, 40).is_ready());
        assert!(a.poll_grow(&mut cx, 30).is_ready(), "the first to exceed the budget overdraws");
        assert!(b.poll_grow(&mut cx, 30).is_pending(), "the second waits");
        assert!(a.poll_grow(&mut cx, 30).is_ready(), "the one that overdraws goes on");
        assert!(c.poll_grow(&mut cx, 1).is_pending());
        assert_eq!(budget.used(), 160);
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        drop(a);
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "who waits is woken, once for both");
        assert!(b.poll_grow(&mut cx, 30).is_ready());
        drop((b, c));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn small_requests_get_on_while_large_ones_hold_everything() {
        let budget = Budget::new(8 * SMALL_MAX);
        let mut cx = Context::from_waker(Waker::noop());
        let [mut a, mut b, mut c] = [(); 3].map(|()| Charge::up_to(&budget, SMALL_MAX + 1));
        assert!(a.poll_grow(&mut cx, 8 * SMALL_MAX).is_ready());
        assert!(b.poll_grow(&mut cx, 1).is_ready(), "one overdraws");
        assert!(c.poll_grow(&mut cx, 1).is_pending());
        let [mut small, mut other] = [(); 2].map(|()| Charge::up_to(&budget, SMALL_MAX));
        assert!(small.poll_grow(&mut cx, SMALL_MAX).is_ready());
        assert!(other.poll_grow(&mut cx, 1).is_pending(), "what is kept for them is taken");
        let kept = small.split_off(SMALL_MAX - 1);
        drop(small);
        assert!(other.poll_grow(&mut cx, 1).is_ready());
        drop((a, b, c, kept, other));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn nobody_adds_to_answers_that_take_more_than_there_is() {
        let budget = Budget::new(10);
        let mut cx = Context::from_waker(Waker::noop());
        let [mut answer, mut next] = [Charge::for_answers(&budget), Charge::new(&budget)];
        answer.grow_at_once(100);
        assert!(next.poll_grow(&mut cx, 1).is_pending());
        answer.shrink_to(10);
        assert!(next.poll_grow(&mut cx, 1).is_ready(), "one overdraws");
        assert!(next.poll_grow(&mut cx, 100).is_ready(), "and goes on to do so");
    }

    #[test]
    fn whoever_has_overdrawn_lets_others_when_it_has_nothing_any_more() {
        let budget = Budget::new(10);
        let mut cx = Context::from_waker(Waker::noop());
        let [mut full, mut nothing, mut frame, mut next] = [(); 4].map(|()| Charge::new(&budget));
        assert!(full.poll_grow(&mut cx, 10).is_ready());
        // No bytes overdraw nothing.
        assert!(nothing.poll_grow(&mut cx, 0).is_ready());
        drop(nothing);
        assert!(frame.poll_grow(&mut cx, 10).is_ready());
        assert!(next.poll_grow(&mut cx, 1).is_pending());
        // A frame's charge goes on as another one.
        let mut rest = frame.split_off(10);
        drop(frame);
        assert!(next.poll_grow(&mut cx, 1).is_pending());
        rest.shrink_to(0);
        assert!(next.poll_grow(&mut cx, 1).is_ready());
    }

    #[test]
    fn an_empty_budget_admits_one_request_of_any_size() {
        let budget = Budget::new(10);
        let mut cx = Context::from_waker(Waker::noop());
        let mut large = Charge::new(&budget);
        assert!(large.poll_grow(&mut cx, 1_000).is_ready());
        large.shrink_to(5);
        assert_eq!(budget.used(), 5);
    }
}
