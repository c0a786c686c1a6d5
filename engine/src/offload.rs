//! Work that may wait for the medium, done off the socket threads by a few replay threads.

use crossbeam::channel::{Receiver, Sender, unbounded};
use parking_lot::{Condvar, Mutex};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

type Job = Box<dyn FnOnce() + Send>;

/// The threads' queue. How much can wait is bounded by whoever asks: a connection has one request at work, and a
/// request a few dozen jobs.
pub struct Offload {
    sender: Sender<Job>,
    receiver: Receiver<Job>,
}

impl Default for Offload {
    fn default() -> Self {
        let (sender, receiver) = unbounded();
        Offload { sender, receiver }
    }
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
        // Both ends live in this struct: the channel cannot be closed.
        let _ = self.sender.send(Box::new(move || promise.settle(Some(work()))));
        Offloaded(cell)
    }

    /// The end that threads take work from.
    pub fn jobs(&self) -> Receiver<Job> {
        self.receiver.clone()
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
