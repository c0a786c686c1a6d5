//! How the committer tells those who wait that what they asked for is durable.
//!
//! An [`Ack`] counts the parts that one request queued; each part is completed by the committer, or fails when it is
//! dropped uncompleted, so that nobody waits for ever on an engine that stopped.

use parking_lot::{Condvar, Mutex};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

/// The engine stopped before the change was durable: whether it survives is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine has stopped")]
pub struct Stopped;

#[derive(Default)]
struct Inner {
    pending: AtomicU32,
    failed: AtomicBool,
    waker: Mutex<Option<Waker>>,
    done: Condvar,
}

/// Completes when everything registered with it is durable. Register first, then wait.
#[derive(Clone, Default)]
pub struct Ack(Arc<Inner>);

/// One registered part; completing it is the committer's business.
pub(crate) struct AckPart(Option<Arc<Inner>>);

impl Ack {
    pub(crate) fn part(&self) -> AckPart {
        self.0.pending.fetch_add(1, Ordering::Relaxed);
        AckPart(Some(self.0.clone()))
    }

    /// What came of it, if it is known yet.
    pub fn poll_done(&self) -> Option<Result<(), Stopped>> {
        if self.0.pending.load(Ordering::Acquire) > 0 {
            return None;
        }
        Some(if self.0.failed.load(Ordering::Acquire) { Err(Stopped) } else { Ok(()) })
    }

    /// Whether waiting would return at once.
    pub fn is_done(&self) -> bool {
        self.poll_done().is_some()
    }

    /// A future of the outcome.
    pub fn wait(&self) -> AckWait {
        AckWait(self.clone())
    }

    /// Waits for the outcome on this thread.
    pub fn wait_blocking(&self) -> Result<(), Stopped> {
        let mut guard = self.0.waker.lock();
        loop {
            if let Some(outcome) = self.poll_done() {
                return outcome;
            }
            self.0.done.wait(&mut guard);
        }
    }
}

impl AckPart {
    /// Completes it. Who is to be woken now?
    pub(crate) fn done(mut self) -> Option<Waker> {
        self.0.take().and_then(|inner| finish(&inner))
    }

    pub(crate) fn complete(self) {
        self.done().into_iter().for_each(Waker::wake);
    }

    /// The part was never queued: whoever waits need not know of it.
    pub(crate) fn withdraw(self) {
        self.complete();
    }
}

impl Drop for AckPart {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            inner.failed.store(true, Ordering::Release);
            finish(&inner).into_iter().for_each(Waker::wake);
        }
    }
}

/// Who is to be woken, when it was the last part.
fn finish(inner: &Inner) -> Option<Waker> {
    if inner.pending.fetch_sub(1, Ordering::AcqRel) > 1 {
        return None;
    }
    let mut waker = inner.waker.lock();
    inner.done.notify_all();
    waker.take()
}

/// See [`Ack::wait`].
pub struct AckWait(Ack);

impl Future for AckWait {
    type Output = Result<(), Stopped>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(outcome) = self.0.poll_done() {
            return Poll::Ready(outcome);
        }
        *self.0.0.waker.lock() = Some(context.waker().clone());
        // The last part may have finished between the look and the registration.
        match self.0.poll_done() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

/// A value that holds once its ack is done.
pub struct Pending<T> {
    ack: Ack,
    value: Option<T>,
}

impl<T> Pending<T> {
    pub(crate) fn new(ack: Ack, value: T) -> Pending<T> {
        Pending { ack, value: Some(value) }
    }

    /// A value that rests on nothing queued.
    pub(crate) fn ready(value: T) -> Pending<T> {
        Pending::new(Ack::default(), value)
    }

    /// The value, if it holds already. Yields it once.
    pub fn take_done(&mut self) -> Option<Result<T, Stopped>> {
        let outcome = self.ack.poll_done()?;
        let value = self.value.take()?;
        Some(outcome.map(|()| value))
    }
}

impl<T, E: From<Stopped>> Pending<Result<T, E>> {
    /// Waits on this thread.
    pub fn wait_blocking(mut self) -> Result<T, E> {
        match (self.ack.wait_blocking(), self.value.take()) {
            (Ok(()), Some(value)) => value,
            _ => Err(Stopped.into()),
        }
    }
}

impl<T: Unpin, E: From<Stopped> + Unpin> Future for Pending<Result<T, E>> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut wait = self.ack.wait();
        match Pin::new(&mut wait).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(stopped)) => Poll::Ready(Err(stopped.into())),
            Poll::Ready(Ok(())) => Poll::Ready(self.value.take().unwrap_or(Err(Stopped.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_waits_for_every_part() {
        let ack = Ack::default();
        let (first, second) = (ack.part(), ack.part());
        first.complete();
        assert!(!ack.is_done());
        second.complete();
        assert_eq!(ack.wait_blocking(), Ok(()));
    }

    #[test]
    fn dropped_part_fails_the_ack() {
        let ack = Ack::default();
        ack.part().complete();
        drop(ack.part());
        assert_eq!(ack.wait_blocking(), Err(Stopped));
    }
}
