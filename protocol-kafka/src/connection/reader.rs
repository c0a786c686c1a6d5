//! Frames out of a byte stream, one buffer for each.
//!
//! Small requests are read many at a time into a buffer on the stack and cut from there. What is larger is read straight into
//! the frame's own buffer, which grows as bytes arrive: its memory is taken from the listener's budget in steps, so a client
//! that announces 100 MiB and sends nothing costs nothing, and one that sends some costs up to sixteen times that. An idle connection
//! holds no buffer at all.
//!
//! Who sent a large frame mostly sends another one of that size. It is read with its size in one go into a buffer that it fills.

use super::spares::Spares;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use headwater_protocol::Limits;
use headwater_protocol::budget::{Budget, Charge};
use headwater_protocol::metrics::Traffic;
use headwater_protocol::net::Transport;
use kafka_protocol::messages::ApiKey;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::time::Instant;

/// Bytes read at once when no frame is being read.
const SCRATCH_SIZE: usize = 8 * 1024;

/// A frame gets a buffer that is larger than what is there only when so many bytes are there,
const STEP_FROM: usize = 4 * 1024;

/// and then one of so many times what is there at most.
const STEP_FIRST_FACTOR: usize = 16;

/// The first step of a large frame's buffer. Batches of 64 KiB, a size that many clients are set to, fit into it with what is around
/// them: a second step copies what is there.
const STEP_FIRST: usize = 128 * 1024;

/// The next steps are so many times what is there.
const STEP_FACTOR: usize = 8;

/// Frames of other sizes are not expected: small ones come many at a time, and a large one arrives in many parts.
const EXPECTED: RangeInclusive<usize> = SCRATCH_SIZE..=2 * STEP_FIRST;

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

/// A request as it came, without its size.
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// What is paid for memory beside the bytes, for what will be decoded of them.
    pub(super) decoded: Charge,
}

/// Reads frames.
pub(super) struct FrameReader {
    budget: Arc<Budget>,
    spares: Arc<Spares>,
    size_max: usize,
    control_size_max: usize,
    decoded_factor: usize,
    /// Bytes read that belong to no frame yet.
    carry: BytesMut,
    /// What the next frame takes with its size, if it is like the last one. 0 when nothing is expected.
    expected: usize,
    partial: Option<Partial>,
}

/// A frame being read.
struct Partial {
    bytes: BytesMut,
    size: usize,
    charge: Charge,
    /// The memory that it takes in the end: what is decoded of it is paid for before anybody decodes it. Records are not
    /// decoded.
    whole: u64,
    /// When its first byte was there, or memory for the next ones.
    since: Instant,
    /// Whether it waits for memory, and not for the client.
    waits: bool,
}

/// The memory of a frame. Slices of it may outlive the request, so the charge goes with them.
struct Owned {
    bytes: BytesMut,
    spares: Arc<Spares>,
    _charge: Charge,
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.spares.give(std::mem::take(&mut self.bytes));
    }
}

impl FrameReader {
    pub(super) fn new(budget: &Arc<Budget>, spares: &Arc<Spares>, limits: &Limits) -> FrameReader {
        FrameReader {
            budget: budget.clone(),
            spares: spares.clone(),
            size_max: limits.request_bytes_max,
            control_size_max: limits.control_request_bytes_max,
            decoded_factor: limits.decoded_factor,
            carry: BytesMut::new(),
            expected: 0,
            partial: None,
        }
    }

    /// Until when the client may take for the frame that has begun, when it last sent something at `received`. None between
    /// frames, and while it is us that the client waits for.
    pub(super) fn deadline(&self, received: Instant, limits: &Limits) -> Option<Instant> {
        let stalled = received + limits.stall_max;
        match &self.partial {
            Some(partial) if partial.waits => None,
            Some(partial) => {
                let sending = Duration::from_secs(partial.size as u64 / limits.request_rate_min.max(1));
                Some(stalled.min(partial.since + limits.stall_max + sending))
            }
            None => (!self.carry.is_empty()).then_some(stalled),
        }
    }

    /// The next frame, without its size. `progress` is set when bytes arrived.
    pub(super) fn poll_frame<T: Transport>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        traffic: &Traffic,
        progress: &mut bool,
    ) -> Poll<Result<Frame, ReadEnd>> {
        loop {
            if self.partial.is_some() {
                return self.poll_partial(io, cx, traffic, progress);
            }
            match self.begin() {
                Err(end) => return Poll::Ready(Err(end)),
                Ok(true) => continue,
                Ok(false) => {}
            }
            let read = if self.carry.is_empty() && self.expected > 0 && self.budget.has_room(self.expected as u64) {
                poll_expected(io, cx, self.expected, &self.spares, &mut self.carry)
            } else {
                poll_scratch(io, cx, SCRATCH_SIZE, &mut self.carry)
            };
            match ready!(read) {
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
        self.carry.advance(4);
        let here = size.min(self.carry.len());
        let bytes = if here * 2 >= self.carry.capacity() || here < size {
            let behind = BytesMut::from(&self.carry[here..]);
            self.carry.truncate(here);
            std::mem::replace(&mut self.carry, behind)
        } else {
            // A copy, or a small frame that lives long would keep everything that was read with it.
            BytesMut::from(&self.carry.split_to(here)[..])
        };
        self.expected = if EXPECTED.contains(&(size + 4)) { size + 4 } else { 0 };
        let factor = if is_produce { 1 } else { self.decoded_factor.max(1) };
        let whole = (size as u64).saturating_mul(factor as u64);
        let charge = Charge::up_to(&self.budget, whole);
        self.partial = Some(Partial { bytes, size, charge, whole, since: Instant::now(), waits: false });
        Ok(true)
    }

    fn poll_partial<T: Transport>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
        traffic: &Traffic,
        progress: &mut bool,
    ) -> Poll<Result<Frame, ReadEnd>> {
        let Some(partial) = &mut self.partial else { return Poll::Pending };
        while partial.bytes.len() < partial.size {
            let here = partial.bytes.len();
            let first = partial.size.min(STEP_FIRST);
            let read = if here < STEP_FROM || here * STEP_FIRST_FACTOR < first {
                poll_scratch(io, cx, SCRATCH_SIZE.min(partial.size - here), &mut partial.bytes)
            } else {
                if partial.charge.bytes() <= here as u64 {
                    let step = partial.size.min(STEP_FIRST.max(here.saturating_mul(STEP_FACTOR)));
                    ready!(partial.poll_pay(cx, step as u64));
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
        let whole = partial.whole;
        ready!(partial.poll_pay(cx, whole));
        let Some(mut partial) = self.partial.take() else { return Poll::Pending };
        let decoded = partial.charge.split_off(whole.saturating_sub(partial.size as u64));
        Poll::Ready(Ok(Frame {
            bytes: Bytes::from_owner(Owned {
                bytes: partial.bytes,
                spares: self.spares.clone(),
                _charge: partial.charge,
            }),
            decoded,
        }))
    }
}

impl Partial {
    /// Pays for `total` bytes in all.
    fn poll_pay(&mut self, cx: &mut Context<'_>, total: u64) -> Poll<()> {
        let more = total.saturating_sub(self.charge.bytes());
        if more == 0 {
            return Poll::Ready(());
        }
        let paid = self.charge.poll_grow(cx, more);
        if paid.is_ready() && self.waits {
            self.since = Instant::now();
        }
        self.waits = paid.is_pending();
        paid
    }
}

/// Reads into a buffer for `most` bytes. One that stays nearly empty is not kept.
fn poll_expected<T: Transport>(
    io: &mut T,
    cx: &mut Context<'_>,
    most: usize,
    spares: &Spares,
    out: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut bytes = spares.take(most);
    let read = {
        let mut room = (&mut bytes).limit(most);
        let read = std::pin::pin!(io.read_buf(&mut room));
        read.poll(cx)
    };
    if bytes.len() * STEP_FIRST_FACTOR < most {
        *out = BytesMut::from(&bytes[..]);
        spares.give(bytes);
    } else {
        *out = bytes;
    }
    read
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
