//! One connection: frames in, requests in order, answers out in the same order.
//!
//! ```text
//!             frame            Outcome::Done
//!   reader ----------> current ------------> answers ----> outbox ----> transport
//!   (one ahead)           |                     ^
//!                         +--Outcome::Queued----+   Produce: the batches are queued, the wait for the medium is left
//! ```
//!
//! A connection is one task and one state machine, polled whenever anything happens. It handles one request at a time; but
//! when a Produce has queued its batches, the next Produce may start while the medium still works on them, so a client that
//! sends ahead fills whole commit rounds. Any other request waits until those before it are answered. Answers that are ready
//! together leave in one write. After a millisecond of work other connections have their turn.
//!
//! A connection whose client asks for records again and again where there are none is given away to the waiting room (`parked.rs`), until there
//! are, or until the client has something else to say.
//!
//! One frame is read ahead, even while a fetch waits for records: that is how a client's leaving is noticed. Everything has a
//! bound (`Limits`): when answers wait, no more requests are read; when the client does not read them, the connection ends.

mod parked;
mod reader;
mod sessions;
mod spares;
mod watched;

pub(crate) use sessions::{Begun, FetchSessions, Session, SessionState};
pub(crate) use spares::Spares;
pub(crate) use watched::{PartitionPlan, Position, Wanted, WatchedPartitions};

use crate::call::{Call, Close, Outcome, Reply, Running, Waiting};
use crate::codec::{Malformed, cursor::Cursor, header};
use crate::context::Context;
use crate::op::fetch::LastFetch;
use crate::options::Options;
use crate::table;
use bytes::Bytes;
use headwater_engine::Engine;
use headwater_protocol::budget::Charge;
use headwater_protocol::metrics::{Ended, Metrics};
use headwater_protocol::net::{Outbox, Piece, Tcp, Transport};
use headwater_protocol::{Phase, Shutdown, listener};
use kafka_protocol::messages::ApiKey;
use parked::Parked;
use reader::{Frame, FrameReader, ReadEnd};
use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep};

/// A connection that has worked for so long lets the others have their turn, however many requests it has sent ahead.
const TURN: Duration = Duration::from_millis(1);

/// Serves Kafka on `listener` until the shutdown. `metrics` come from `metrics()`.
pub async fn serve(
    listener: TcpListener,
    engine: Engine,
    mut options: Options,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    if options.advertised_port == 0 {
        options.advertised_port = listener.local_addr()?.port();
    }
    let ctx = Context::new(engine, options).with_metrics(metrics.clone()).with_shutdown(shutdown.clone());
    let ctx = Arc::new(ctx);
    metrics.show_more(ctx.groups.families());
    // Members that were there before a restart have their sessions from now on.
    if let Err(error) = ctx.groups.open(false).await {
        tracing::warn!(?error, "consumer groups are not loaded yet");
    }
    let limits = ctx.options.limits.clone();
    listener::serve(listener, &limits, metrics, shutdown, move |stream, shutdown| {
        serve_connection(Tcp::new(stream), ctx.clone(), shutdown)
    })
    .await;
    Ok(())
}

/// Serves one connection over any transport.
pub async fn serve_connection<T: Transport>(io: T, ctx: Arc<Context>, mut shutdown: Shutdown) -> Ended {
    let mut connection = Connection::new(io, ctx);
    tokio::select! {
        biased;
        ended = std::future::poll_fn(|cx| connection.poll(cx)) => return ended,
        () = shutdown.reached(Phase::Draining) => {}
    }
    connection.ending.get_or_insert(Ended::Shutdown);
    tokio::select! {
        biased;
        ended = std::future::poll_fn(|cx| connection.poll(cx)) => ended,
        () = shutdown.reached(Phase::Stopped) => Ended::Shutdown,
    }
}

/// The state of a connection.
struct Connection<T> {
    io: T,
    ctx: Arc<Context>,
    peer: Option<SocketAddr>,
    reader: FrameReader,
    /// What is kept of the last Fetch, in case it comes again.
    last_fetch: LastFetch,
    /// The request that is read and not started.
    ahead: Option<Request>,
    /// The request that is handled.
    current: Option<(Running, Facts)>,
    /// Set while the connection is given away.
    parked: Option<Parked>,
    /// Answers, ready or waited for, in the order of their requests.
    answers: VecDeque<(Answer, Facts)>,
    /// Bytes of requests whose answers are waited for.
    answers_bytes: usize,
    out: Outbox,
    /// Memory of the answers in `out`: further requests wait for it, and so do answers that are to be made.
    out_charges: [Charge; 2],
    /// Set when no more requests are read: what is there is finished and sent, then the connection ends.
    ending: Option<Ended>,
    /// When something was last read or sent, or a request answered.
    active: Instant,
    received: Instant,
    sent: Instant,
    /// What the system held of it when it took no more; none while it takes what there is.
    held: Option<usize>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// A request ready to start.
struct Request {
    row: usize,
    call: Call,
    facts: Facts,
}

/// What is remembered of a request until it is answered.
struct Facts {
    operation: usize,
    version: i16,
    size: usize,
    started: Instant,
}

enum Answer {
    Ready(Reply),
    Waiting(Waiting),
}

impl<T: Transport> Connection<T> {
    fn new(io: T, ctx: Arc<Context>) -> Connection<T> {
        let now = Instant::now();
        Connection {
            peer: io.peer(),
            io,
            reader: FrameReader::new(&ctx.budget, &ctx.spares, &ctx.options.limits),
            last_fetch: LastFetch::default(),
            ahead: None,
            current: None,
            parked: None,
            answers: VecDeque::new(),
            answers_bytes: 0,
            out: Outbox::default(),
            out_charges: [&ctx.budget, &ctx.answers].map(Charge::for_answers),
            ending: None,
            active: now,
            received: now,
            sent: now,
            held: None,
            timer: None,
            ctx,
        }
    }

    /// Does everything that can be done now.
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Ended> {
        let now = Instant::now();
        if self.parked.is_some() && !self.poll_parked(cx, now) {
            return Poll::Pending;
        }
        let mut is_over = false;
        loop {
            let mut progress = self.poll_current(cx);
            progress |= self.poll_answers(cx, now);
            progress |= self.poll_read(cx, now);
            progress |= self.start();
            if progress {
                self.active = now;
                is_over = now.elapsed() >= TURN;
                if !is_over {
                    continue;
                }
            }
            // Only when nothing else is to be done now, so that answers leave together.
            match self.poll_send(cx, now) {
                Poll::Ready(Ok(true)) if !is_over => continue,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                Poll::Pending => break,
            }
            if self.parked.is_some() {
                return self.poll(cx);
            }
            if let Some(ended) = self.ending
                && self.is_quiet()
            {
                return Poll::Ready(ended);
            }
            break;
        }
        if is_over {
            // There may be more to do that nobody wakes the task for.
            cx.waker().wake_by_ref();
        }
        self.poll_timer(cx)
    }

    /// Whether nothing is in flight.
    fn is_quiet(&self) -> bool {
        self.ahead.is_none() && self.current.is_none() && self.answers.is_empty() && self.out.is_empty()
    }

    /// Whether a request waits for as long as the client says, and nothing would tell that the client has gone: another request
    /// of it is read ahead, or was no request, and no more is read.
    fn is_blind(&self) -> bool {
        (self.ahead.is_some() || self.ending.is_some())
            && self.current.as_ref().is_some_and(|(_, facts)| table::parks(facts.operation))
    }

    /// Works on the request that is handled.
    fn poll_current(&mut self, cx: &mut task::Context<'_>) -> bool {
        let Some((running, _)) = &mut self.current else { return false };
        let Poll::Ready(outcome) = running.as_mut().poll(cx) else { return false };
        let Some((_, facts)) = self.current.take() else { return false };
        match outcome {
            Ok(Outcome::Done(reply)) => self.answers.push_back((Answer::Ready(reply), facts)),
            Ok(Outcome::Queued(waiting)) => {
                self.answers_bytes = self.answers_bytes.saturating_add(facts.size);
                self.answers.push_back((Answer::Waiting(waiting), facts));
            }
            Ok(Outcome::Waits(poll)) => self.park(poll, facts),
            Err(close) => self.close(&close),
        }
        true
    }

    /// Takes the answers that are ready, in order.
    fn poll_answers(&mut self, cx: &mut task::Context<'_>, now: Instant) -> bool {
        let mut progress = false;
        while let Some((answer, _)) = self.answers.front_mut() {
            let waited = match answer {
                Answer::Ready(_) => None,
                Answer::Waiting(waiting) => match waiting.as_mut().poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(result) => Some(result),
                },
            };
            let Some((answer, facts)) = self.answers.pop_front() else { break };
            if waited.is_some() {
                self.answers_bytes = self.answers_bytes.saturating_sub(facts.size);
            }
            progress = true;
            let reply = match (answer, waited) {
                (Answer::Ready(reply), _) | (_, Some(Ok(reply))) => reply,
                (Answer::Waiting(_), Some(Err(close))) => {
                    self.close(&close);
                    // What comes after cannot be answered in order any more.
                    self.current = None;
                    self.answers.clear();
                    self.answers_bytes = 0;
                    break;
                }
                (Answer::Waiting(_), None) => break,
            };
            // Not `now`: a request that is read and answered within one poll would seem to have taken no time at all.
            self.ctx.metrics.answered(facts.operation, facts.version, facts.started.elapsed());
            if self.out.is_empty() {
                // The client's time to read begins now.
                self.sent = now;
            }
            match reply {
                Reply::Nothing => {}
                Reply::Bytes(bytes) => self.out.push(Piece::Bytes(bytes)),
                Reply::Pieces(pieces) => pieces.into_iter().for_each(|piece| self.out.push(piece)),
            }
            self.charge_answers();
        }
        progress
    }

    /// Brings the charge for answers up or down to what they take.
    fn charge_answers(&mut self) {
        let memory = self.out.memory();
        for charge in &mut self.out_charges {
            match memory.checked_sub(charge.bytes()) {
                Some(more) if more > 0 => charge.grow_at_once(more),
                Some(_) => {}
                None => charge.shrink_to(memory),
            }
        }
    }

    /// Reads the next request, when there is room for it.
    fn poll_read(&mut self, cx: &mut task::Context<'_>, now: Instant) -> bool {
        if self.ahead.is_some() || self.ending.is_some() {
            return false;
        }
        let mut progress = false;
        let traffic = self.ctx.metrics.traffic();
        let read = self.reader.poll_frame(&mut self.io, cx, traffic, &mut progress);
        if progress {
            self.received = now;
        }
        match read {
            Poll::Pending => progress,
            Poll::Ready(Ok(frame)) => {
                match self.request(frame, now) {
                    Ok(request) => self.ahead = Some(request),
                    Err(close) => self.close(&close),
                }
                true
            }
            Poll::Ready(Err(end)) => {
                self.end_reading(end);
                true
            }
        }
    }

    fn end_reading(&mut self, end: ReadEnd) {
        match end {
            ReadEnd::Closed | ReadEnd::Cut => {
                self.ending = Some(Ended::ByClient);
                // What waits for as long as the client says waits for nobody any more.
                if self.current.as_ref().is_some_and(|(_, facts)| table::parks(facts.operation)) {
                    self.current = None;
                }
            }
            ReadEnd::Refused(why) => self.close(&Close::Malformed(Malformed(why))),
            ReadEnd::Broken(error) => self.broke(&error),
        }
    }

    /// Nothing can be read and sent any more.
    fn broke(&mut self, error: &std::io::Error) {
        tracing::debug!(peer = ?self.peer, %error, "a connection broke");
        self.ending = Some(Ended::Broken);
        self.ahead = None;
        self.current = None;
        self.answers.clear();
        self.out = Outbox::default();
    }

    /// Reads a request's header and finds its row.
    fn request(&self, frame: Frame, now: Instant) -> Result<Request, Close> {
        let size = frame.bytes.len();
        let whole = if self.may_park(&frame.bytes) { frame.bytes.clone() } else { Bytes::new() };
        let mut cursor = Cursor::new(frame.bytes);
        let header = header::read(&mut cursor).map_err(Close::Malformed)?;
        let Some((operation, row)) = table::find(header.key) else {
            return Err(Close::Refused("an operation that is not served"));
        };
        // ApiVersions answers any version, in a form that any client reads.
        let is_served = (row.min..=row.max).contains(&header.version) || header.key == ApiKey::ApiVersions;
        if !is_served {
            return Err(Close::Refused("a version that is not served"));
        }
        let call = Call {
            operation,
            version: header.version,
            correlation_id: header.correlation_id,
            client_id: header.client_id,
            peer: self.peer,
            body: cursor.rest(),
            frame: whole,
            memory: frame.decoded,
            last_fetch: self.last_fetch.clone(),
        };
        Ok(Request { row: operation, call, facts: Facts { operation, version: header.version, size, started: now } })
    }

    /// Starts the request that is read, when its turn has come.
    fn start(&mut self) -> bool {
        let limits = &self.ctx.options.limits;
        let Some(request) = &self.ahead else { return false };
        let Some(row) = table::TABLE.get(request.row) else { return false };
        let room = if row.pipelined {
            self.answers.len() < limits.pending_requests_max && self.answers_bytes < limits.pending_bytes_max
        } else {
            self.answers.is_empty()
        };
        if !room || self.current.is_some() || self.out.bytes() > limits.unread_bytes_max {
            return false;
        }
        let Some(request) = self.ahead.take() else { return false };
        self.current = Some(((row.handler)(self.ctx.clone(), request.call), request.facts));
        true
    }

    /// Sends. `Ready(true)` when something went out, `Ready(false)` when there was nothing to send.
    fn poll_send(&mut self, cx: &mut task::Context<'_>, now: Instant) -> Poll<Result<bool, Ended>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(false));
        }
        match self.io.poll_send(cx, &mut self.out, self.ctx.metrics.traffic()) {
            Poll::Pending => {
                if self.held.is_none() {
                    self.held = Some(self.io.held());
                }
                Poll::Pending
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(peer = ?self.peer, %error, "a connection broke");
                Poll::Ready(Err(Ended::Broken))
            }
            Poll::Ready(Ok(_)) => {
                (self.sent, self.active, self.held) = (now, now, None);
                self.charge_answers();
                if !self.out.is_empty() {
                    // Its share is sent; the other tasks first.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(true))
            }
        }
    }

    /// Ends the connection when it is idle or stuck for too long, and sees to it that it is polled then.
    fn poll_timer(&mut self, cx: &mut task::Context<'_>) -> Poll<Ended> {
        let limits = &self.ctx.options.limits;
        let (mut deadline, ended) = if !self.out.is_empty() {
            (self.sent + limits.stall_max, Ended::Stalled)
        } else if let Some(deadline) = self.reader.deadline(self.received, limits)
            && self.ahead.is_none()
            && self.ending.is_none()
        {
            (deadline, Ended::Stalled)
        } else if self.is_quiet() || self.is_blind() {
            (self.active + limits.idle_max, Ended::Idle)
        } else {
            // The engine is at work, or a request waits for as long as the client says.
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // A timer that is too early is left alone and looked at when it fires: setting it at each request would cost more.
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if now >= deadline {
                // The system takes more only when a good part of what it holds is gone: a slow client may be at it all the time.
                let held = self.io.held();
                if self.held.is_none_or(|before| held >= before) {
                    return Poll::Ready(ended);
                }
                (self.sent, self.held) = (now, Some(held));
                deadline = now + limits.stall_max;
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Reads no more; what was answered before still goes out.
    fn close(&mut self, close: &Close) {
        match close {
            Close::Unencodable(_) => tracing::error!(peer = ?self.peer, %close, "closing a connection"),
            _ => tracing::debug!(peer = ?self.peer, %close, "closing a connection"),
        }
        self.ending = Some(Ended::Refused);
        self.ahead = None;
    }
}
