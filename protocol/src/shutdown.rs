//! The way to stop: first no new requests, then no connections.

use tokio::sync::watch;

/// How far a shutdown has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Serving.
    Running,
    /// Requests in flight are finished, nothing new is taken.
    Draining,
    /// Connections are dropped as they are.
    Stopped,
}

/// Starts a shutdown. Dropping it stops at once.
pub struct Trigger(watch::Sender<Phase>);

/// Hears of a shutdown.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<Phase>);

impl Trigger {
    /// A trigger and one who hears of it.
    pub fn new() -> (Trigger, Shutdown) {
        let (sender, receiver) = watch::channel(Phase::Running);
        (Trigger(sender), Shutdown(receiver))
    }

    /// Goes to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let further = phase > *now;
            if further {
                *now = phase;
            }
            further
        });
    }

    /// Another one who hears of it.
    pub fn subscribe(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }
}

impl Shutdown {
    /// Where it is now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until it has come to `phase`.
    pub async fn reached(&mut self, phase: Phase) {
        // An error says that the trigger is gone, which is a stop.
        let _ = self.0.wait_for(|now| *now >= phase).await;
    }
}
