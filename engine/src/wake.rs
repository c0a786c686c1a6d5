//! Waking many tasks at the price of one.
//!
//! A round of the committer may end the wait of a hundred tasks. Waking a task from a thread that is none of its runtime's costs a
//! system call, and where CPUs are few the woken thread pushes the committer aside, for one task each time. So a task of
//! the runtime's own, [`WakeTogether`], takes all of them at once and wakes them from inside, where that is next to free.

use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Where the committer leaves those that are to be woken.
#[derive(Default)]
pub(crate) struct Wakers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waker>,
    /// How to wake the task that wakes the others, where there is one. While anybody waits, it was woken and is about to look.
    courier: Option<Waker>,
}

impl Wakers {
    /// Wakes them all, sooner or later by the same thread.
    pub(crate) fn wake(&self, wakers: &mut Vec<Waker>) {
        if wakers.len() > 1 {
            let mut state = self.state.lock();
            if let Some(courier) = state.courier.clone() {
                let is_first = state.waiting.is_empty();
                state.waiting.append(wakers);
                drop(state);
                if is_first {
                    courier.wake();
                }
                return;
            }
        }
        wakers.drain(..).for_each(Waker::wake);
    }
}

/// Never ends. A runtime in which many tasks wait for one engine polls it as a task of its own; without it, or when it is dropped, tasks
/// are woken one by one.
pub struct WakeTogether {
    wakers: Arc<Wakers>,
    taken: Vec<Waker>,
}

impl WakeTogether {
    pub(crate) fn new(wakers: Arc<Wakers>) -> WakeTogether {
        WakeTogether { wakers, taken: Vec::new() }
    }
}

impl Future for WakeTogether {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.wakers.state.lock();
        std::mem::swap(&mut state.waiting, &mut this.taken);
        state.courier = Some(context.waker().clone());
        drop(state);
        this.taken.drain(..).for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for WakeTogether {
    fn drop(&mut self) {
        let left = std::mem::take(&mut *self.wakers.state.lock()).waiting;
        left.into_iter().for_each(Waker::wake);
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

    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), count.into())
    }

    fn woken(count: &Count) -> usize {
        count.0.load(Ordering::Relaxed)
    }

    #[test]
    fn courier_is_woken_once_and_wakes_all() {
        let wakers = Arc::new(Wakers::default());
        let mut together = WakeTogether::new(wakers.clone());
        let (courier, courier_waker) = counted();
        let poll = |together: &mut WakeTogether| {
            let _pending = Pin::new(together).poll(&mut Context::from_waker(&courier_waker));
        };
        let (task, waker) = counted();
        poll(&mut together);
        wakers.wake(&mut vec![waker.clone(), waker.clone()]);
        wakers.wake(&mut vec![waker.clone(), waker.clone()]);
        assert_eq!((woken(&courier), woken(&task)), (1, 0));
        poll(&mut together);
        assert_eq!(woken(&task), 4);
        // A single one is woken at once.
        wakers.wake(&mut vec![waker.clone()]);
        assert_eq!((woken(&courier), woken(&task)), (1, 5));
    }

    #[test]
    fn without_a_courier_all_are_woken_at_once() {
        let wakers = Arc::new(Wakers::default());
        let (task, waker) = counted();
        wakers.wake(&mut vec![waker.clone(), waker.clone()]);
        assert_eq!(woken(&task), 2);
        let mut together = WakeTogether::new(wakers.clone());
        let (_, courier) = counted();
        let _pending = Pin::new(&mut together).poll(&mut Context::from_waker(&courier));
        wakers.wake(&mut vec![waker.clone(), waker.clone()]);
        drop(together);
        assert_eq!(woken(&task), 4, "what it had not woken yet, it wakes when it goes");
        wakers.wake(&mut vec![waker.clone(), waker]);
        assert_eq!(woken(&task), 6);
    }
}
