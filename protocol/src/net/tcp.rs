//! TCP: vectored writes for what lies in memory, `sendfile` for ranges of files.
//!
//! `unsafe` is here for one thing: a range of a file names its descriptor by number.
#![allow(unsafe_code)]

use super::{Outbox, POLL_BYTES_MAX, Transport};
use crate::metrics::Traffic;
use headwater_engine::FileRange;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

impl Transport for TcpStream {
    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox, traffic: &Traffic) -> Poll<io::Result<usize>> {
        let mut total = 0;
        while !out.is_empty() && total < POLL_BYTES_MAX {
            let step = if out.file().is_some() {
                poll_send_file(self, cx, out, POLL_BYTES_MAX - total, traffic)
            } else {
                poll_send_slices(self, cx, out, traffic)
            };
            match step {
                Poll::Ready(Ok(sent)) => total += sent,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if total > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(total))
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.peer_addr().ok()
    }
}

/// Runs `send` when the socket takes bytes, again when it says that it does not after all.
fn poll_io(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    mut send: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_io(Interest::WRITABLE, &mut send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return Poll::Ready(other),
        }
    }
}

fn poll_send_slices(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    out: &mut Outbox,
    traffic: &Traffic,
) -> Poll<io::Result<usize>> {
    let mut slices = Vec::new();
    // With more to follow at once, the kernel waits for it instead of sending a small segment.
    let flags = if out.slices(&mut slices) { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
    let sent = ready!(poll_io(stream, cx, || {
        Ok(match &slices[..] {
            // Most answers; the kernel has less to look at.
            [one] => rustix::net::send(stream, one, flags)?,
            slices => rustix::net::sendmsg(stream, slices, &mut SendAncillaryBuffer::default(), flags)?,
        })
    }))?;
    drop(slices);
    traffic.sent_memory(sent);
    out.advance(sent);
    Poll::Ready(Ok(sent))
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
