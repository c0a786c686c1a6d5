//! TCP: vectored writes for what lies in memory and for small ranges of files, `sendfile` for larger ones.
//!
//! `unsafe` is here for two things: a range of a file names its descriptor by number, and one `ioctl` has no safe form.
#![allow(unsafe_code)]

use super::{Outbox, POLL_BYTES_MAX, Piece, SLICES_MAX, Transport};
use crate::metrics::Traffic;
use headwater_engine::FileRange;
use rustix::io::{Errno, ReadWriteFlags};
use rustix::ioctl::{Getter, Opcode};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Ranges up to this size are read and sent with what is around them; larger ones go by `sendfile`. Decision 0007 says why.
const SMALL_BYTES_MAX: usize = 32 * 1024;

/// Bytes of small ranges in one vectored write.
const GATHERED_BYTES: usize = 64 * 1024;

thread_local! {
    /// Where small ranges are read to. It belongs to the thread, not to an answer: what a socket does not take is read again.
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection over TCP.
pub struct Tcp {
    /// None while it is given away.
    stream: Option<TcpStream>,
    peer: Option<SocketAddr>,
}

impl Tcp {
    /// Over this socket.
    pub fn new(stream: TcpStream) -> Tcp {
        Tcp { peer: stream.peer_addr().ok(), stream: Some(stream) }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        Pin::new(stream).poll_read(cx, out)
    }
}

impl Transport for Tcp {
    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox, traffic: &Traffic) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        let mut total = 0;
        while !out.is_empty() && total < POLL_BYTES_MAX {
            match poll_send_next(stream, cx, out, POLL_BYTES_MAX - total, traffic) {
                Poll::Ready(Ok(sent)) => total += sent,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if total > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(total))
    }

    fn held(&self) -> usize {
        /// `SIOCOUTQ`, by the name that the library has for the same number.
        const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;
        let Some(stream) = &self.stream else { return 0 };
        // SAFETY: this call writes one `int`, and only that.
        let held = unsafe { rustix::ioctl::ioctl(stream.as_fd(), Getter::<SIOCOUTQ, i32>::new()) };
        held.ok().and_then(|held| usize::try_from(held).ok()).unwrap_or(0)
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    fn is_bare(&self) -> bool {
        true
    }

    fn give_away(&mut self) -> io::Result<std::net::TcpStream> {
        self.stream.take().ok_or(io::ErrorKind::NotConnected)?.into_std()
    }

    fn take_back(&mut self, socket: std::net::TcpStream) -> io::Result<()> {
        self.stream = Some(TcpStream::from_std(socket)?);
        Ok(())
    }
}

/// Runs `send` when the socket takes bytes, again when it says that it does not after all.
fn poll_io<T>(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    mut send: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_io(Interest::WRITABLE, &mut send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return Poll::Ready(other),
        }
    }
}

/// Sends what is at the front: bytes in memory and small ranges together, or a range by `sendfile`.
fn poll_send_next(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    out: &mut Outbox,
    most: usize,
    traffic: &Traffic,
) -> Poll<io::Result<usize>> {
    if out.file().is_some_and(|(range, _)| range.len() > SMALL_BYTES_MAX) {
        return poll_send_file(stream, cx, out, most, traffic);
    }
    let sent = poll_io(stream, cx, || GATHERED.with_borrow_mut(|buffer| send_gathered(stream, out, buffer)));
    let Some(sent) = ready!(sent)? else { return poll_send_file(stream, cx, out, most, traffic) };
    let of_files = out.advance(sent);
    traffic.sent_copied(of_files);
    traffic.sent_memory(sent - of_files);
    Poll::Ready(Ok(sent))
}

/// One vectored write. None when there is nothing for it: the range at the front must go by `sendfile`.
fn send_gathered(stream: &TcpStream, out: &Outbox, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
    buffer.resize(GATHERED_BYTES, 0);
    let (slices, more) = gather(out, buffer);
    if slices.is_empty() {
        return Ok(None);
    }
    // With more to follow at once, the kernel waits for it instead of sending a small segment.
    let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
    Ok(Some(match &slices[..] {
        // Most answers; the kernel has less to look at.
        [one] => rustix::net::send(stream, one, flags)?,
        slices => rustix::net::sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), flags)?,
    }))
}

/// What one vectored write can take from the front of the outbox, small ranges read into `free`; and whether more follows.
fn gather<'a>(out: &'a Outbox, mut free: &'a mut [u8]) -> (Vec<IoSlice<'a>>, bool) {
    let mut slices = Vec::new();
    for (piece, done) in out.pieces() {
        if slices.len() == SLICES_MAX {
            return (slices, true);
        }
        match piece {
            Piece::Bytes(bytes) => slices.push(IoSlice::new(bytes)),
            Piece::File(range) => {
                let left = range.len() - done;
                if range.len() > SMALL_BYTES_MAX || left > free.len() {
                    return (slices, true);
                }
                let (part, rest) = free.split_at_mut(left);
                free = rest;
                if !read_now(range, done, part) {
                    return (slices, true);
                }
                slices.push(IoSlice::new(part));
            }
        }
    }
    (slices, false)
}

/// Reads a part of a range if that needs no waiting for the medium. If it does, or fails, `sendfile` is to say what is wrong.
fn read_now(range: &FileRange, done: usize, part: &mut [u8]) -> bool {
    let Some(fd) = range.raw_fd() else { return false };
    // SAFETY: the descriptor belongs to the file that `range` holds open, and `range` is borrowed for longer than this.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    let position = range.position().saturating_add(done as u64);
    let size = part.len();
    let parts = &mut [IoSliceMut::new(part)];
    let read = match rustix::io::preadv2(file, parts, position, ReadWriteFlags::NOWAIT) {
        // A filesystem that cannot say: it is read at once, as `sendfile` would.
        Err(Errno::OPNOTSUPP) => rustix::io::preadv2(file, parts, position, ReadWriteFlags::empty()),
        other => other,
    };
    read.is_ok_and(|read| read == size)
}

fn poll_send_file(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    out: &mut Outbox,
    most: usize,
    traffic: &Traffic,
) -> Poll<io::Result<usize>> {
    let Some((range, done)) = out.file() else { return Poll::Ready(Ok(0)) };
    let left = range.len().saturating_sub(done).min(most);
    if range.raw_fd().is_none() {
        // A file without a descriptor (a simulated disk under a real socket): through its map.
        let bytes = range.bytes()?;
        let rest = bytes.get(done..done + left).ok_or(io::ErrorKind::UnexpectedEof)?;
        let sent = ready!(poll_io(stream, cx, || Ok(rustix::net::send(stream, rest, SendFlags::NOSIGNAL)?)))?;
        traffic.sent_mapped(sent);
        out.advance(sent);
        return Poll::Ready(Ok(sent));
    }
    let sent = ready!(poll_io(stream, cx, || send_file(stream, range, done, left)))?;
    if sent == 0 {
        // The file is shorter than the range: somebody cut it. The answer's length is already sent, so the connection must go.
        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
    }
    traffic.sent_by_sendfile(sent);
    out.advance(sent);
    Poll::Ready(Ok(sent))
}

fn send_file(stream: &TcpStream, range: &FileRange, done: usize, count: usize) -> io::Result<usize> {
    let Some(fd) = range.raw_fd() else { return Err(io::ErrorKind::Unsupported.into()) };
    // SAFETY: the descriptor belongs to the file that `range` holds open, and `range` is borrowed for longer than this.
    let file = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut position = range.position().saturating_add(done as u64);
    Ok(rustix::fs::sendfile(stream.as_fd(), file, Some(&mut position), count)?)
}
