//! A fetch that waits in the waiting room (`headwater_protocol::waiting_room`), with its whole connection.
//!
//! That is for who asked the same before and got nothing: it will probably go on so. The room answers and is asked again until there is
//! news; this here listens for them, and takes the fetch up again where the room left it.

use super::again::Asked;
use super::{Terms, asked_again, in_session};
use crate::call::{Call, Running};
use crate::codec::fetch::Part;
use crate::connection::Session;
use crate::context::Context;
use crate::limits::ASKED_AGAIN_BYTES_MAX;
use headwater_engine::FileRange;
use headwater_protocol::waiting_room::{Pending, Visit};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// A shorter wait is not worth the way.
const WAIT_MIN: Duration = Duration::from_millis(50);

/// Where the id stands in a request, behind its size, key and version, ...
const ID_IN_REQUEST: usize = 8;
/// ... and in an answer.
const ID_IN_ANSWER: usize = 4;

/// See the module.
pub struct LongPoll {
    ctx: Arc<Context>,
    call: Call,
    /// Until it is in the room.
    visit: Visit,
    pending: Pending,
    what: What,
    news: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What is asked.
pub(super) enum What {
    /// Partitions that each question names.
    Again(Box<Asked>),
    /// What a session knows, which expects this epoch next.
    Session(Arc<Session>, i32, Terms),
}

/// A question that may wait in the room, as it came.
pub(super) struct Framed {
    frame: Vec<u8>,
    counter: Option<usize>,
}

impl Framed {
    /// Of a request that was read just now. Its frame is there if the connection can be given away.
    pub(super) fn of(call: &Call, terms: Terms, session: Option<(i32, i32)>) -> Option<Framed> {
        let fits = (1..=ASKED_AGAIN_BYTES_MAX).contains(&call.frame.len());
        // The room is left at the first news: they must be enough.
        if !fits || terms.wait < WAIT_MIN || terms.bytes_min > 1 {
            return None;
        }
        let mut frame = (call.frame.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(&call.frame);
        let counter = match session {
            None => None,
            Some((id, epoch)) => {
                let at = frame.len() - call.body.len() + epoch_place(call.version)?;
                let is_there = |at: usize, value: i32| frame.get(at..at + 4) == Some(&value.to_be_bytes()[..]);
                (is_there(at - 4, id) && is_there(at, epoch)).then_some(())?;
                Some(at)
            }
        };
        Some(Framed { frame, counter })
    }
}

/// Where a session's epoch stands in the body of a request.
fn epoch_place(version: i16) -> Option<usize> {
    match version {
        ..7 => None,
        // The replica's id, the wait, the least and the most bytes, the isolation level, the session's id.
        7..15 => Some(4 + 4 + 4 + 4 + 1 + 4),
        15.. => Some(4 + 4 + 4 + 1 + 4),
    }
}

impl LongPoll {
    /// Of a request that has to wait for news.
    pub(super) fn new(
        ctx: &Arc<Context>,
        call: Call,
        question: Framed,
        answer: Vec<Part<FileRange>>,
        (since, due, wait): (Instant, Instant, Duration),
        what: What,
    ) -> LongPoll {
        let watcher = match &what {
            What::Again(asked) => asked.partitions.watcher(),
            What::Session(session, ..) => session.state.lock().partitions.watcher(),
        };
        let mut bytes = Vec::new();
        for part in answer {
            if let Part::Bytes(part) = part {
                bytes.extend_from_slice(&part);
            }
        }
        let Framed { mut frame, counter } = question;
        if let (Some(at), What::Session(_, epoch, _)) = (counter, &what)
            && let Some(slot) = frame.get_mut(at..at + 4)
        {
            slot.copy_from_slice(&epoch.to_be_bytes());
        }
        let mut visit = Visit::new(&frame, &bytes);
        visit.ids = (ID_IN_REQUEST, ID_IN_ANSWER);
        visit.counter = counter;
        visit.wait = wait;
        visit.operation = (call.operation, call.version);
        let pending = Pending { id: call.correlation_id, since, due };
        let news = Box::pin(async move { watcher.wait(1).await });
        LongPoll { ctx: ctx.clone(), call, visit, pending, what, news }
    }

    /// What the room is to know.
    pub(crate) fn visit(&mut self) -> (Visit, Pending) {
        (std::mem::take(&mut self.visit), self.pending)
    }

    /// Ready when there are news.
    pub(crate) fn poll_news(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        self.news.as_mut().poll(cx)
    }

    /// Goes on where the room left it, if a question waits. It may wait there again, unless the client had something else to say.
    pub(crate) fn back(
        mut self: Box<Self>,
        visit: Visit,
        pending: Option<Pending>,
        was_let_go: bool,
    ) -> Option<(Running, Instant)> {
        if let What::Session(session, epoch, _) = &mut self.what
            && let Some(count) = visit.count().filter(|count| *count != *epoch)
        {
            session.went_on(&self.ctx.engine, *epoch, count);
            *epoch = count;
        }
        let Some(pending) = pending else {
            self.rest();
            return None;
        };
        self.call.correlation_id = pending.id;
        let question = (!was_let_go).then_some(Framed { frame: visit.question().to_vec(), counter: visit.counter });
        Some((self.run(pending, question), pending.since))
    }

    /// Goes on without the room.
    pub(crate) fn stay_here(self: Box<Self>) -> Running {
        let pending = self.pending;
        self.run(pending, None)
    }

    fn run(self: Box<Self>, pending: Pending, question: Option<Framed>) -> Running {
        let LongPoll { ctx, call, what, .. } = *self;
        let due = (pending.since, pending.due);
        match what {
            What::Again(asked) => Box::pin(async move { asked_again(&ctx, call, asked, due, question).await }),
            What::Session(session, epoch, terms) => {
                Box::pin(async move { in_session(&ctx, call, (session, epoch), terms, due, question).await })
            }
        }
    }

    /// Nothing waits: what is known is kept for the next question.
    fn rest(self) {
        let mut kept = self.call.last_fetch.lock();
        match self.what {
            What::Again(asked) => kept.asked = asked.kept(),
            What::Session(session, ..) => kept.idle_session = Some(session.id),
        }
    }
}
