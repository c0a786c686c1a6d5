//! Frames out of a byte stream, one buffer for each.
//!
//! Small requests are read many at a time into a buffer on the stack and cut from there. What is larger is read straight into
//! the frame's own buffer, which grows as bytes arrive: its memory is taken from the listener's budget in steps, so a client
//! that announces 100 MiB and sends nothing costs nothing, and one that sends some costs a few times that. An idle connection
//! holds no buffer at all.

use bytes::{BufMut, Bytes, BytesMut};
use headwater_protocol::Limits;
use headwater_protocol::budget::{Budget, Charge};
use headwater_protocol::metrics::Traffic;
use headwater_protocol::net::Transport;
use kafka_protocol::messages::ApiKey;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt, ReadBuf};

/// Bytes read at once when no frame is being read.
const SCRATCH_SIZE: usize = 8 * 1024;

/// A frame gets a buffer that is larger than what is there only when so many bytes are there.
const STEP_FROM: usize = 4 * 1024;

/// The first step of a large frame's buffer; the next ones are four times what is there.
const STEP_FIRST: usize = 64 * 1024;

/// Why no more frames come.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The client closed the connection between two frames.
    Closed,
    /// The client closed it within a frame.
    Cut,
    /// The size is none.
    Refused(String),
    /// The network broke.
    Broken(io::Error),
}

/// Reads frames.
pub(super) struct FrameReader {
    budget: Arc<Budget>,
    size_max: usize,
    control_size_max: usize,
    decoded_factor: usize,
    /// Bytes read that belong to no frame yet; at most `SCRATCH_SIZE`.
    carry: BytesMut,
    partial: Option<Partial>,
}

/// A frame being read.
struct Partial {
    bytes: BytesMut,
    size: usize,
    charge: Charge,
    /// Whether it carries records. What is decoded of other frames may be larger than they are.
    is_produce: bool,
}

/// The memory of a frame. Slices of it may outlive the request, so the charge goes with them.
struct Owned {
    bytes: BytesMut,
    _charge: Charge,
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl FrameReader {
    pub(super) fn new(budget: &Arc<Budget>, limits: &Limits) -> FrameReader {
        FrameReader {
            budget: budget.clone(),
            size_max: limits.request_bytes_max,
            control_size_max: limits.control_request_bytes_max,
            decoded_factor: limits.decoded_factor,
            carry: BytesMut::new(),
            partial: None,
        }
    }

    /// Whether a frame has begun and not ended.
    pub(super) fn is_within_frame(&self) -> bool {
        self.partial.is_some() || !self.carry.is_empty()
    }

    /// The next frame, without its size. `progress` is set when bytes arrived.
    pub(super) fn poll_frame<T: Transport>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        traffic: &Traffic,
        progress: &mut bool,
    ) -> Poll<Result<Bytes, ReadEnd>> {
        loop {
            if self.partial.is_some() {
                return self.poll_partial(io, cx, traffic, progress);
            }
            match self.begin() {
                Err(end) => return Poll::Ready(Err(end)),
                Ok(true) => continue,
                Ok(false) => {}
            }
            match ready!(poll_scratch(io, cx, SCRATCH_SIZE, &mut self.carry)) {
                Err(error) => return Poll::Ready(Err(ReadEnd::Broken(error))),
                Ok(0) => {
                    let end = if self.carry.is_empty() { ReadEnd::Closed } else { ReadEnd::Cut };
                    return Poll::Ready(Err(end));
                }
                Ok(count) => {
                    traffic.received(count);
                    *progress = true;
                }
            }
        }
    }

    /// Begins a frame when its size and its key are there.
    fn begin(&mut self) -> Result<bool, ReadEnd> {
        let Some((size, rest)) = self.carry.split_first_chunk::<4>() else { return Ok(false) };
        let announced = i32::from_be_bytes(*size);
        let size = usize::try_from(announced).ok().filter(|&size| size > 0 && size <= self.size_max);
        let Some(size) = size else { return Err(ReadEnd::Refused(format!("a request of {announced} bytes"))) };
        // A shorter frame has no key; the header's decoder will say so.
        let is_produce = match rest.first_chunk::<2>() {
            Some(key) => i16::from_be_bytes(*key) == ApiKey::Produce as i16,
            None if size >= 2 => return Ok(false),
            None => false,
        };
        if !is_produce && size > self.control_size_max {
            return Err(ReadEnd::Refused(format!("a request of {size} bytes without records")));
        }
        let _ = self.carry.split_to(4);
        let bytes = if self.carry.len() <= size {
            std::mem::take(&mut self.carry)
        } else {
            // A copy, or a small frame that lives long would keep everything that was read with it.
            BytesMut::from(&self.carry.split_to(size)[..])
        };
        self.partial = Some(Partial { bytes, size, charge: Charge::new(&self.budget), is_produce });
        Ok(true)
    }

    fn poll_partial<T: Transport>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        traffic: &Traffic,
        progress: &mut bool,
    ) -> Poll<Result<Bytes, ReadEnd>> {
        let Some(partial) = &mut self.partial else { return Poll::Pending };
        while partial.bytes.len() < partial.size {
            let here = partial.bytes.len();
            let read = if here < STEP_FROM {
                poll_scratch(io, cx, SCRATCH_SIZE.min(partial.size - here), &mut partial.bytes)
            } else {
                if partial.charge.bytes() <= here as u64 {
                    let step = partial.size.min(STEP_FIRST.max(here.saturating_mul(4)));
                    ready!(partial.charge.poll_grow(cx, step as u64 - partial.charge.bytes()));
                    partial.bytes.reserve(step - here);
                }
                let paid = usize::try_from(partial.charge.bytes()).unwrap_or(usize::MAX);
                let mut room = (&mut partial.bytes).limit(partial.size.min(paid) - here);
                let read = std::pin::pin!(io.read_buf(&mut room));
                read.poll(cx)
            };
            match ready!(read) {
                Err(error) => return Poll::Ready(Err(ReadEnd::Broken(error))),
                Ok(0) => return Poll::Ready(Err(ReadEnd::Cut)),
                Ok(count) => {
                    traffic.received(count);
                    *progress = true;
                }
            }
        }
        // All there. What will be decoded of it is paid for before anybody decodes it.
        let factor = if partial.is_produce { 1 } else { self.decoded_factor.max(1) };
        let whole = (partial.size as u64).saturating_mul(factor as u64);
        let more = whole.saturating_sub(partial.charge.bytes());
        if more > 0 {
            ready!(partial.charge.poll_grow(cx, more));
        }
        let Some(partial) = self.partial.take() else { return Poll::Pending };
        Poll::Ready(Ok(Bytes::from_owner(Owned { bytes: partial.bytes, _charge: partial.charge })))
    }
}

/// Reads at most `most` bytes through the stack. Waiting costs no memory.
fn poll_scratch<T: Transport>(
    io: &mut T,
    cx: &mut Context<'_>,
    most: usize,
    out: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut scratch = [MaybeUninit::uninit(); SCRATCH_SIZE];
    let mut scratch = ReadBuf::uninit(&mut scratch);
    let mut read = scratch.take(most);
    ready!(Pin::new(io).poll_read(cx, &mut read))?;
    out.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}
