//! Any byte stream that is not a socket: a simulated network, a test's pipe. Ranges of files are read through their maps.

use super::{Outbox, POLL_BYTES_MAX, Transport};
use crate::metrics::Traffic;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A transport over any stream.
pub struct Memory<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for Memory<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, out)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for Memory<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox, traffic: &Traffic) -> Poll<io::Result<usize>> {
        let mut total = 0;
        while !out.is_empty() && total < POLL_BYTES_MAX {
            let step = self.poll_step(cx, out, traffic);
            match step {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => total += sent,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if total > 0 => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(total))
    }

    fn peer(&self) -> Option<SocketAddr> {
        None
    }
}

impl<S: AsyncWrite + Unpin> Memory<S> {
    fn poll_step(&mut self, cx: &mut Context<'_>, out: &mut Outbox, traffic: &Traffic) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        let sent = if let Some((range, done)) = out.file() {
            let bytes = range.bytes()?;
            let rest = bytes.get(done..).ok_or(io::ErrorKind::UnexpectedEof)?;
            let sent = ready!(stream.poll_write(cx, rest))?;
            traffic.sent_mapped(sent);
            sent
        } else {
            let mut slices = Vec::new();
            out.slices(&mut slices);
            let sent = ready!(stream.poll_write_vectored(cx, &slices))?;
            traffic.sent_memory(sent);
            sent
        };
        out.advance(sent);
        Poll::Ready(Ok(sent))
    }
}
