//! A connection that is given away to the waiting room while its Fetch waits, and comes back from there.

use super::{Connection, Facts};
use crate::limits::ASKED_AGAIN_BYTES_MAX;
use crate::op::fetch::LongPoll;
use headwater_protocol::net::{Piece, Transport};
use headwater_protocol::waiting_room::{Left, Stay};
use kafka_protocol::messages::ApiKey;
use std::future::Future;
use std::task;
use std::time::Duration;
use tokio::time::Instant;

/// A connection comes back after so long at the latest, and is looked after: its session would be thrown out, or it is idle itself.
const STAY_MAX: Duration = Duration::from_secs(100);

/// Where the connection is, and for what.
pub(super) struct Parked {
    poll: Box<LongPoll>,
    stay: Stay,
    until: Instant,
    facts: Facts,
}

impl<T: Transport> Connection<T> {
    /// Whether the connection may be given away for this request.
    pub(super) fn may_park(&self, request: &[u8]) -> bool {
        request.starts_with(&(ApiKey::Fetch as i16).to_be_bytes())
            && request.len() <= ASKED_AGAIN_BYTES_MAX
            && self.io.is_bare()
    }

    /// Gives the connection away, if nothing else is to be done with it.
    pub(super) fn park(&mut self, mut poll: Box<LongPoll>, facts: Facts) {
        let is_free = self.reader.is_empty()
            && self.ahead.is_none()
            && self.answers.is_empty()
            && self.out.is_empty()
            && self.ending.is_none();
        let ctx = self.ctx.clone();
        let Some(room) = ctx.waiting_room().filter(|_| is_free) else {
            self.current = Some((poll.stay_here(), facts));
            return;
        };
        match self.io.give_away() {
            Ok(socket) => {
                let (visit, pending) = poll.visit();
                let stay = room.enter(socket, visit, pending);
                let until = Instant::now() + STAY_MAX.min(ctx.options.limits.idle_max);
                self.parked = Some(Parked { poll, stay, until, facts });
            }
            Err(error) => self.broke(&error),
        }
    }

    /// Takes the connection back, if its time has come. Says whether it is back.
    pub(super) fn poll_parked(&mut self, cx: &mut task::Context<'_>, now: Instant) -> bool {
        let Some(parked) = &mut self.parked else { return true };
        let is_over = self.ctx.is_draining()
            || now >= parked.until
            || parked.stay.poll_over(cx).is_ready()
            || parked.poll.poll_news(cx).is_ready();
        if !is_over {
            let until = parked.until;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if timer.deadline() > until {
                timer.as_mut().reset(until);
            }
            while timer.as_mut().poll(cx).is_ready() {
                if Instant::now() >= until {
                    // It is looked at once more, as above.
                    cx.waker().wake_by_ref();
                    break;
                }
                timer.as_mut().reset(until);
            }
            return false;
        }
        let Some(Parked { poll, stay, facts, .. }) = self.parked.take() else { return true };
        let Left { stream, unread, unsent, pending, active, was_let_go, visit } = stay.leave();
        if let Err(error) = stream.and_then(|stream| self.io.take_back(stream)) {
            self.broke(&error);
            return true;
        }
        self.active = active;
        self.received = now;
        self.sent = now;
        self.reader.put_back(&unread);
        self.out.push(Piece::Bytes(unsent.into()));
        self.charge_answers();
        if let Some((running, started)) = poll.back(visit, pending, was_let_go) {
            self.current = Some((running, Facts { started, ..facts }));
        }
        true
    }
}
