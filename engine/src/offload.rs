//! Work that may wait for the medium, done off the socket threads by a few replay threads.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

type Job = Box<dyn FnOnce() + Send>;

/// So many bytes may be to be read that nobody waits for. What finds no place is not read.
const SPARE_BYTES_MAX: usize = 128 << 20;

/// The threads' queue. How much can wait of what somebody asked for is bounded by whoever asks: a connection has one request at work, and a
/// request a few dozen jobs.
#[derive(Clone, Default)]
pub struct Offload(Arc<(Mutex<Waiting>, Condvar)>);

#[derive(Default)]
struct Waiting {
    asked: VecDeque<Job>,
    /// What nobody waits for, and how many bytes each is about.
    spare: VecDeque<(usize, Job)>,
    spare_bytes: usize,
    /// Threads that are at such work.
    at_spare: usize,
    is_closed: bool,
}

struct Slot<T> {
    value: Option<T>,
    is_gone: bool,
    waker: Option<Waker>,
}

struct Promise<T>(Arc<(Mutex<Slot<T>>, Condvar)>);

/// The outcome of offloaded work. It never comes when the work panicked or the engine closed: then the future resolves to
/// an error.
pub struct Offloaded<T>(Arc<(Mutex<Slot<T>>, Condvar)>);

/// The work was never finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was abandoned")]
pub struct Abandoned;

impl<T> Promise<T> {
    fn settle(&self, value: Option<T>) {
        let waker = {
            let mut slot = self.0.0.lock();
            if slot.value.is_none() {
                slot.value = value;
            }
            slot.is_gone = true;
            self.0.1.notify_all();
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        self.settle(None);
    }
}

impl Offload {
    /// Queues work.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Offloaded<T> {
        let slot = Slot { value: None, is_gone: false, waker: None };
        let cell = Arc::new((Mutex::new(slot), Condvar::new()));
        let promise = Promise(cell.clone());
        let job: Job = Box::new(move || promise.settle(Some(work())));
        let mut waiting = self.0.0.lock();
        // Else it is dropped, which tells whoever waits.
        if !waiting.is_closed {
            waiting.asked.push_back(job);
            self.0.1.notify_one();
        }
        drop(waiting);
        Offloaded(cell)
    }

    /// Queues work on so many bytes that nobody waits for. False when there is no room for it.
    pub fn run_spare(&self, bytes: usize, work: impl FnOnce() + Send + 'static) -> bool {
        let mut waiting = self.0.0.lock();
        let fits = waiting.spare_bytes == 0 || waiting.spare_bytes.saturating_add(bytes) <= SPARE_BYTES_MAX;
        let has_room = fits && !waiting.is_closed;
        if has_room {
            waiting.spare_bytes += bytes;
            waiting.spare.push_back((bytes, Box::new(work)));
            self.0.1.notify_one();
        }
        has_room
    }

    /// Whether there is work that somebody waits for and no thread has begun.
    pub fn is_asked(&self) -> bool {
        !self.0.0.lock().asked.is_empty()
    }

    /// Does what is to be done next; waits for it. At most `spare_threads_max` threads do what nobody waits for. False when there will be nothing any more.
    pub fn work(&self, spare_threads_max: usize) -> bool {
        let mut waiting = self.0.0.lock();
        while !waiting.is_closed {
            if let Some(job) = waiting.asked.pop_front() {
                drop(waiting);
                run(job);
                return true;
            }
            if waiting.at_spare < spare_threads_max
                && let Some((bytes, job)) = waiting.spare.pop_front()
            {
                waiting.spare_bytes -= bytes;
                waiting.at_spare += 1;
                drop(waiting);
                run(job);
                self.0.0.lock().at_spare -= 1;
                return true;
            }
            // Not a channel, which yields the processor before it sleeps: who works beside on the same one has a whole turn then.
            self.0.1.wait(&mut waiting);
        }
        false
    }

    /// Nothing is done any more: whoever waits for work that has not begun is told.
    pub fn close(&self) {
        let mut waiting = self.0.0.lock();
        waiting.is_closed = true;
        let (asked, spare) = (std::mem::take(&mut waiting.asked), std::mem::take(&mut waiting.spare));
        self.0.1.notify_all();
        drop(waiting);
        drop((asked, spare));
    }

    /// Does what somebody waits for on this thread, until there is no more of it.
    pub fn work_off(&self) {
        loop {
            let Some(job) = self.0.0.lock().asked.pop_front() else { return };
            run(job);
        }
    }
}

/// Whoever waits for work that panicked is told by the promise's drop; the thread goes on with other work.
fn run(job: Job) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
        tracing::error!("work on a replay thread panicked");
    }
}

impl<T> Offloaded<T> {
    /// Waits on this thread.
    pub fn wait_blocking(self) -> Result<T, Abandoned> {
        let mut slot = self.0.0.lock();
        while !slot.is_gone {
            self.0.1.wait(&mut slot);
        }
        slot.value.take().ok_or(Abandoned)
    }
}

impl<T> Future for Offloaded<T> {
    type Output = Result<T, Abandoned>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.0.lock();
        if slot.is_gone {
            return Poll::Ready(slot.value.take().ok_or(Abandoned));
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn what_nobody_waits_for_comes_last_and_is_bounded() {
        let offload = Offload::default();
        let done = Arc::new(Mutex::new(Vec::new()));
        let note = |what: usize| {
            let done = done.clone();
            move || done.lock().push(what)
        };
        let queued = (0..5).map(|number| offload.run_spare(SPARE_BYTES_MAX / 3, note(number)));
        assert!(queued.eq([true, true, true, false, false]));
        let asked = offload.run(note(1000));
        assert!(offload.is_asked());
        (0..4).for_each(|_| assert!(offload.work(1)));
        assert_eq!(asked.wait_blocking(), Ok(()));
        assert_eq!(*done.lock(), [1000, 0, 1, 2]);
        // One is taken whatever its size, when it is the only one.
        assert!(offload.run_spare(SPARE_BYTES_MAX + 1, note(5)) && !offload.run_spare(1, note(6)));
    }

    #[test]
    fn a_thread_is_left_for_what_somebody_waits_for() {
        let offload = Offload::default();
        let (begun, wait_begun) = mpsc::channel();
        let (end, wait_end) = mpsc::channel::<()>();
        offload.run_spare(1, move || {
            begun.send(()).unwrap();
            wait_end.recv().unwrap();
        });
        offload.run_spare(1, || panic!("one at a time"));
        let other = offload.clone();
        let thread = std::thread::Builder::new().name("other".to_owned()).spawn(move || other.work(1)).unwrap();
        wait_begun.recv().unwrap();
        let asked = offload.run(|| 7);
        offload.work(1);
        assert_eq!((asked.wait_blocking(), offload.0.0.lock().spare.len()), (Ok(7), 1));
        end.send(()).unwrap();
        thread.join().unwrap();
        // A panic ends nobody, and gives the place back.
        offload.work(1);
        let waiting = offload.0.0.lock();
        assert_eq!((waiting.at_spare, waiting.spare_bytes), (0, 0));
    }

    #[test]
    fn who_waits_is_told_when_nothing_is_done_any_more() {
        let offload = Offload::default();
        let other = offload.clone();
        let thread =
            std::thread::Builder::new().name("other".to_owned()).spawn(move || while other.work(1) {}).unwrap();
        assert_eq!(offload.run(|| 7).wait_blocking(), Ok(7));
        let before = Offload::default();
        let asked = before.run(|| ());
        before.close();
        assert_eq!(asked.wait_blocking(), Err(Abandoned));
        offload.close();
        thread.join().unwrap();
        assert_eq!(offload.run(|| ()).wait_blocking(), Err(Abandoned));
        assert!(!offload.work(1));
    }
}
