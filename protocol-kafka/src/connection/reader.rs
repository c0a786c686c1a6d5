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
    /// What is paid for their memory: all of it, when they take more than what is read through the stack.
    carried: Charge,
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
    /// How much of that is for what will be decoded.
    decoded: u64,
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
            carried: Charge::new(budget),
            expected: 0,
            partial: None,
        }
    }

    /// Whether nothing is read that was not taken.
    pub(super) fn is_empty(&self) -> bool {
        self.carry.is_empty() && self.partial.is_none()
    }

    /// Bytes that somebody else read. Nothing else is unread.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.carry.extend_from_slice(bytes);
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
                let read = poll_expected(io, cx, self.expected, &self.spares, &mut self.carry);
                self.pay_for_carry();
                read
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
        let memory = self.carry.capacity().max(usize::try_from(self.carried.bytes()).unwrap_or(usize::MAX));
        self.expected = if EXPECTED.contains(&(size + 4)) { size + 4 } else { 0 };
        let factor = if is_produce { 1 } else { self.decoded_factor.max(1) };
        let mut whole = (size as u64).saturating_mul(factor as u64);
        let decoded = whole - size as u64;
        let (bytes, charge) = if size * 2 >= memory {
            let behind = BytesMut::from(&self.carry[here..]);
            self.carry.truncate(here);
            let bytes = std::mem::replace(&mut self.carry, behind);
            let charge = std::mem::replace(&mut self.carried, Charge::new(&self.budget));
            // Its memory may be larger than it.
            whole += charge.bytes().saturating_sub(size as u64);
            let charge = if charge.bytes() > 0 { charge } else { Charge::up_to(&self.budget, whole) };
            (bytes, charge)
        } else {
            // A copy, or a small frame that lives long would keep everything that was read with it.
            let bytes = BytesMut::from(&self.carry[..here]);
            self.carry.advance(here);
            if self.carry.len() <= SCRATCH_SIZE {
                let behind = BytesMut::from(&self.carry[..]);
                self.spares.give(std::mem::replace(&mut self.carry, behind));
                self.carried.shrink_to(0);
            }
            (bytes, Charge::up_to(&self.budget, whole))
        };
        self.pay_for_carry();
        self.partial = Some(Partial { bytes, size, charge, whole, decoded, since: Instant::now(), waits: false });
        Ok(true)
    }

    /// Pays for what was read ahead, if that is more than fits on the stack. It is in memory already.
    fn pay_for_carry(&mut self) {
        if self.carry.len() > SCRATCH_SIZE && self.carried.bytes() == 0 {
            self.carried.grow_at_once(self.carry.capacity() as u64);
        }
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
        let decoded = partial.charge.split_off(partial.decoded);
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

/// Reads into a buffer for `most` bytes. One is not kept that stays nearly empty, or with no more in it than is read through the stack.
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
    if bytes.len() * STEP_FIRST_FACTOR < most || bytes.len() <= SCRATCH_SIZE {
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

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::net::Outbox;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::net::SocketAddr;
    use std::task::Waker;
    use tokio::io::AsyncRead;

    /// What arrives, one after the other; then nothing more.
    struct Arrivals(VecDeque<Vec<u8>>);

    impl AsyncRead for Arrivals {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let Some(mut next) = self.0.pop_front() else { return Poll::Pending };
            let rest = next.split_off(next.len().min(out.remaining()));
            out.put_slice(&next);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    impl Transport for Arrivals {
        fn poll_send(&mut self, _: &mut Context<'_>, _: &mut Outbox, _: &Traffic) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn peer(&self) -> Option<SocketAddr> {
            None
        }
    }

    fn frame(size: usize, number: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(size).unwrap().to_be_bytes().to_vec();
        // The key of Produce, then what tells frames apart.
        bytes.extend([0, 0]);
        bytes.resize(4 + size, number as u8);
        bytes
    }

    fn sizes() -> impl Strategy<Value = Vec<usize>> {
        let size = prop_oneof![
            20..300_usize,
            4_000..9_000_usize,
            15_000..18_000_usize,
            60_000..70_000_usize,
            250_000..270_000_usize
        ];
        prop::collection::vec((size, 1..40_usize), 1..6).prop_map(|runs| {
            let runs = runs
                .into_iter()
                .flat_map(|(size, count)| std::iter::repeat_n(size, if size < 9_000 { count } else { 1 + count % 3 }));
            runs.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn frames_come_as_they_were_sent_and_memory_is_paid_for(sizes in sizes(), cuts in prop::collection::vec(1..300_000_usize, 1..20)) {
            let sent: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(number, size)| frame(*size, number)).collect();
            let mut stream = sent.concat();
            let mut arrivals = VecDeque::new();
            for cut in cuts.iter().cycle() {
                let rest = stream.split_off(stream.len().min(*cut));
                arrivals.push_back(std::mem::replace(&mut stream, rest));
                if stream.is_empty() {
                    break;
                }
            }
            let (mut io, traffic, mut progress) = (Arrivals(arrivals), Traffic::default(), false);
            let (budget, spares) = (Budget::new(1 << 30), Arc::new(Spares::default()));
            let mut reader = FrameReader::new(&budget, &spares, &Limits::default());
            let mut cx = Context::from_waker(Waker::noop());
            for (sent, size) in sent.iter().zip(sizes) {
                let Poll::Ready(Ok(read)) = reader.poll_frame(&mut io, &mut cx, &traffic, &mut progress) else {
                    return Err(TestCaseError::fail("a frame that was sent did not come"));
                };
                prop_assert!(read.bytes == sent[4..], "another frame came");
                prop_assert!(budget.used() >= size as u64, "{} of {size} are paid for", budget.used());
                drop(read);
                let memory = reader.carry.capacity();
                prop_assert!(memory <= 2 * SCRATCH_SIZE || budget.used() >= memory as u64, "{memory} bytes for {}", budget.used());
                prop_assert!(!reader.carry.is_empty() || memory <= SCRATCH_SIZE, "{memory} bytes for nothing");
            }
            prop_assert!(reader.poll_frame(&mut io, &mut cx, &traffic, &mut progress).is_pending());
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
