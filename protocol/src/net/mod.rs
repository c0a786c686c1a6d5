//! The network seam: what a connection needs of its transport, and answers in pieces.
//!
//! An answer is a queue of pieces: bytes that were encoded, and ranges of files that hold records. Over a TCP socket a large
//! range goes out by `sendfile`, from the page cache to the socket; no byte of it is copied in user space. Small ones are read
//! and sent in one call with what is around them, which costs less. Over any other transport (a simulated network, tests,
//! later TLS) a range is read through the file's map. `Traffic` counts the roads, as a proof.
//!
//! Everything here is polled, by one task for a connection, and keeps what it has done so far: nothing is lost when the task
//! is busy with something else for a while.

mod memory;
mod tcp;

pub use memory::Memory;
pub use tcp::Tcp;

use crate::metrics::Traffic;
use bytes::{Buf, Bytes};
use headwater_engine::FileRange;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use tokio::io::AsyncRead;

/// Bytes that one poll may send before other tasks get their turn.
const POLL_BYTES_MAX: usize = 256 * 1024;

/// Slices in one vectored write.
const SLICES_MAX: usize = 64;

/// A part of an answer.
pub enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Record batches in a segment.
    File(FileRange),
}

impl Piece {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::File(range) => range.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Answers on their way out.
#[derive(Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are sent.
    sent: usize,
    bytes: u64,
    memory: u64,
}

impl Outbox {
    /// Adds a piece behind the others.
    pub fn push(&mut self, piece: Piece) {
        if piece.is_empty() {
            return;
        }
        self.bytes += piece.len() as u64;
        if let Piece::Bytes(bytes) = &piece {
            self.memory += bytes.len() as u64;
        }
        self.pieces.push_back(piece);
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes not sent yet.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of memory: that of a piece is there until all of it is sent.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// The pieces in order, each with how many bytes of a range are sent already. What is sent of bytes in memory is cut off.
    fn pieces(&self) -> impl Iterator<Item = (&Piece, usize)> {
        self.pieces.iter().enumerate().map(|(index, piece)| match piece {
            Piece::File(_) if index == 0 => (piece, self.sent),
            _ => (piece, 0),
        })
    }

    /// The bytes at the front that lie in memory, up to the next range of a file, and whether one follows.
    fn slices<'a>(&'a self, out: &mut Vec<io::IoSlice<'a>>) -> bool {
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) if out.len() < SLICES_MAX => out.push(io::IoSlice::new(bytes)),
                Piece::Bytes(_) => return true,
                Piece::File(_) => return true,
            }
        }
        false
    }

    /// The range of a file at the front: the range and how much of it is sent.
    fn file(&self) -> Option<(&FileRange, usize)> {
        match self.pieces.front() {
            Some(Piece::File(range)) => Some((range, self.sent)),
            _ => None,
        }
    }

    /// Forgets `count` bytes at the front, because they are sent. Returns how many of them were of ranges.
    fn advance(&mut self, mut count: usize) -> usize {
        let mut of_files = 0;
        self.bytes = self.bytes.saturating_sub(count as u64);
        while count > 0 {
            let Some(piece) = self.pieces.front_mut() else { break };
            match piece {
                Piece::Bytes(bytes) => {
                    let step = count.min(bytes.len());
                    bytes.advance(step);
                    self.sent += step;
                    count -= step;
                    if bytes.is_empty() {
                        self.pieces.pop_front();
                        self.memory = self.memory.saturating_sub(self.sent as u64);
                        self.sent = 0;
                    }
                }
                Piece::File(range) => {
                    let step = count.min(range.len() - self.sent);
                    self.sent += step;
                    count -= step;
                    of_files += step;
                    if self.sent == range.len() {
                        self.pieces.pop_front();
                        self.sent = 0;
                    }
                }
            }
        }
        of_files
    }
}

/// A byte stream to a client. One task polls it, for both directions.
pub trait Transport: AsyncRead + Unpin + Send + 'static {
    /// Sends until the outbox is empty. Returns how many bytes went out when some did; `Pending` when none could.
    fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Outbox, traffic: &Traffic) -> Poll<io::Result<usize>>;

    /// Bytes that the system holds because the client has not taken them.
    fn held(&self) -> usize {
        0
    }

    /// The client's address, where there is one.
    fn peer(&self) -> Option<SocketAddr>;

    /// Whether it is a bare socket, that others can serve as well.
    fn is_bare(&self) -> bool {
        false
    }

    /// Gives the socket away. Until it is back there is nothing to read and to send.
    fn give_away(&mut self) -> io::Result<std::net::TcpStream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes it back.
    fn take_back(&mut self, _socket: std::net::TcpStream) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_memory_until_all_of_it_is_sent() {
        let mut out = Outbox::default();
        out.push(Piece::Bytes(Bytes::from(vec![0; 100])));
        out.push(Piece::Bytes(Bytes::from(vec![0; 50])));
        for (sent, bytes, memory) in [(60, 90, 150), (40, 50, 50), (49, 1, 50), (1, 0, 0)] {
            out.advance(sent);
            assert_eq!((out.bytes(), out.memory()), (bytes, memory));
        }
        assert!(out.is_empty());
    }
}
