//! Waiting for new records without polling: a watcher stands at many partitions and is woken once when enough came.

use crate::partition::Partition;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

#[derive(Default)]
pub(crate) struct Inner {
    /// Bytes published at the watched partitions since the last reset. Other news count as one.
    bytes: AtomicU64,
    /// Bytes that the waiting task asked for; 0 when none waits.
    wanted: AtomicU64,
    /// A watched partition is gone: whoever waits must look.
    alarmed: AtomicBool,
    dirty: Mutex<Vec<u32>>,
    waker: Mutex<Option<Waker>>,
}

/// One watcher's place at one partition.
pub(crate) struct Post {
    watcher: Weak<Inner>,
    token: u32,
    /// Whether the token already stands in the watcher's dirty list.
    is_dirty: Arc<AtomicBool>,
}

/// Tells which of many partitions have new published records. Registered once, it costs nothing while they are idle.
#[derive(Default)]
pub struct Watcher {
    inner: Arc<Inner>,
    flags: Mutex<std::collections::HashMap<u32, Arc<AtomicBool>>>,
}

impl Watcher {
    /// A watcher of nothing yet.
    pub fn new() -> Watcher {
        Watcher::default()
    }

    /// Stands at a partition; `token` comes back from [`Watcher::take_dirty`] when something was published there.
    pub fn watch(&self, partition: &Arc<Partition>, token: u32) {
        let is_dirty = Arc::new(AtomicBool::new(false));
        self.flags.lock().insert(token, is_dirty.clone());
        partition.post(Post { watcher: Arc::downgrade(&self.inner), token, is_dirty });
    }

    /// Leaves a partition.
    pub fn unwatch(&self, partition: &Arc<Partition>, token: u32) {
        self.flags.lock().remove(&token);
        partition.leave(&self.inner);
    }

    /// Takes the tokens of partitions with news since the last call, each once.
    pub fn take_dirty(&self, out: &mut Vec<u32>) {
        let mut dirty = self.inner.dirty.lock();
        let flags = self.flags.lock();
        for token in dirty.drain(..) {
            if let Some(flag) = flags.get(&token) {
                flag.store(false, Ordering::Release);
                out.push(token);
            }
        }
    }

    /// Starts counting bytes anew.
    pub fn reset_bytes(&self) {
        self.inner.bytes.store(0, Ordering::Release);
        self.inner.alarmed.store(false, Ordering::Release);
    }

    /// Resolves when at least `bytes_min` bytes were published since the last reset (other news count as one), or a watched partition is gone.
    pub fn wait(&self, bytes_min: u64) -> WatcherWait<'_> {
        WatcherWait { watcher: self, bytes_min: bytes_min.max(1) }
    }
}

impl Inner {
    fn has(&self, bytes: u64) -> bool {
        self.bytes.load(Ordering::SeqCst) >= bytes || self.alarmed.load(Ordering::SeqCst)
    }
}

impl Post {
    pub(crate) fn is_of(&self, watcher: &Arc<Inner>) -> bool {
        std::ptr::eq(self.watcher.as_ptr(), Arc::as_ptr(watcher))
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.watcher.strong_count() == 0
    }

    /// Notes news. A watcher that has now what its task waits for goes onto `wake`.
    pub(crate) fn notify(&self, bytes: u64, gone: bool, wake: &mut Vec<Waker>) {
        let Some(inner) = self.watcher.upgrade() else { return };
        if !self.is_dirty.swap(true, Ordering::AcqRel) {
            inner.dirty.lock().push(self.token);
        }
        inner.bytes.fetch_add(bytes.max(1), Ordering::SeqCst);
        if gone {
            inner.alarmed.store(true, Ordering::SeqCst);
        }
        let wanted = inner.wanted.load(Ordering::SeqCst);
        if wanted > 0 && inner.has(wanted) {
            inner.wanted.store(0, Ordering::SeqCst);
            wake.extend(inner.waker.lock().take());
        }
    }
}

/// See [`Watcher::wait`].
pub struct WatcherWait<'a> {
    watcher: &'a Watcher,
    bytes_min: u64,
}

impl Future for WatcherWait<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let inner = &self.watcher.inner;
        if inner.has(self.bytes_min) {
            return Poll::Ready(());
        }
        *inner.waker.lock() = Some(context.waker().clone());
        inner.wanted.store(self.bytes_min, Ordering::SeqCst);
        if inner.has(self.bytes_min) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for WatcherWait<'_> {
    fn drop(&mut self) {
        self.watcher.inner.wanted.store(0, Ordering::SeqCst);
    }
}
