//! One request on its way through the head: what a handler is given and what it gives back.
//!
//! An ordinary operation is an `async fn handle(ctx: &Context, call: &Call, request: XRequest) -> Result<XResponse, Close>`
//! and gets into the table through the `typed!` macro, which decodes before and encodes after it. Operations on the hot path
//! (Produce, Fetch) take the `Call` itself and build their `Reply` by hand.

use crate::codec::{self, FromWire, ToWire};
use crate::context::Context;
use crate::op::fetch::{LastFetch, LongPoll};
use bytes::Bytes;
use headwater_protocol::budget::Charge;
use headwater_protocol::net::Piece;
use kafka_protocol::protocol::StrBytes;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

/// A request whose header is read and whose body is not.
pub struct Call {
    /// The row's place in the table, for metrics.
    pub operation: usize,
    /// The version of the request: one of its row's, except for ApiVersions, which answers any.
    pub version: i16,
    /// Comes back in the answer.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
    /// Where the client connects from; none in a simulation.
    pub peer: Option<SocketAddr>,
    /// The body, a slice of the frame.
    pub body: Bytes,
    /// The whole frame without its size, of a request that may wait while its connection is given away; of others empty.
    pub frame: Bytes,
    /// What is paid for memory of what is decoded of the body, until the call is over.
    pub memory: Charge,
    /// What the connection keeps of its last Fetch.
    pub last_fetch: LastFetch,
}

impl Call {
    /// Decodes the body.
    pub(crate) fn decode<R: FromWire>(&self) -> Result<R, Close> {
        R::from_wire(&self.body, self.version).map_err(Close::Malformed)
    }

    /// Lets the frame go once it is decoded, for a request that may wait for long. What it keeps of it stays paid for by the
    /// charge that it gets.
    pub fn let_go(&mut self) -> Charge {
        self.body = Bytes::new();
        self.frame = Bytes::new();
        self.client_id = None;
        self.memory.split_off(u64::MAX)
    }

    /// Encodes an answer, its frame length and header before it.
    pub(crate) fn answer<A: ToWire>(&self, answer: &A) -> Result<Reply, Close> {
        codec::encode_answer(self.correlation_id, self.version, answer).map(Reply::Bytes).map_err(Close::Unencodable)
    }
}

/// What goes back to the client.
pub enum Reply {
    /// Nothing: Produce with acks = 0.
    Nothing,
    /// A whole frame.
    Bytes(Bytes),
    /// A whole frame in pieces, some of them ranges of files.
    Pieces(Vec<Piece>),
}

/// The connection must close; nothing is answered.
#[derive(Debug, thiserror::Error)]
pub enum Close {
    /// The bytes are no such request.
    #[error("malformed request: {0}")]
    Malformed(codec::Malformed),
    /// Our own answer does not fit its version: a bug of ours.
    #[error("answer cannot be encoded: {0}")]
    Unencodable(codec::Unencodable),
    /// The protocol says to close, for the reason given.
    #[error("{0}")]
    Refused(&'static str),
    /// The engine has stopped.
    #[error("the engine has stopped")]
    Stopped,
}

/// What a handler comes to.
pub enum Outcome {
    /// The answer.
    Done(Reply),
    /// Everything is queued in the engine and only the wait for the medium is left. The next request of the connection may
    /// start meanwhile; the answers still go out in order.
    Queued(Waiting),
    /// There is nothing to answer yet, and others can wait for it, with the whole connection.
    Waits(Box<LongPoll>),
}

/// A queued request on its way to its answer.
pub type Waiting = Pin<Box<dyn Future<Output = Result<Reply, Close>> + Send>>;

/// A request being handled.
pub type Running = Pin<Box<dyn Future<Output = Result<Outcome, Close>> + Send>>;

/// Starts to handle a request.
pub type Handler = fn(Arc<Context>, Call) -> Running;

/// Makes a `Handler` of an operation's `async fn handle(ctx: &Context, call: &Call, request) -> Result<response, Close>`.
macro_rules! typed {
    ($handle:path) => {{
        fn run(ctx: std::sync::Arc<$crate::context::Context>, call: $crate::call::Call) -> $crate::call::Running {
            Box::pin(async move {
                let request = call.decode()?;
                let answer = $handle(&ctx, &call, request).await?;
                call.answer(&answer).map($crate::call::Outcome::Done)
            })
        }
        run
    }};
}
pub(crate) use typed;
