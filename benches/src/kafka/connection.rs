//! One connection: frames out, frames in, in order.

use super::error::Error;
use super::wire::Reader;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer is an error, so that a hanging server ends the run.
pub const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Larger answers than this are an error.
pub const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Bytes that one call reads at most.
const READ_BYTES: usize = 256 << 10;

/// Connects; the error names the broker.
pub fn connect(address: SocketAddr) -> Result<TcpStream, Error> {
    let connected = TcpStream::connect_timeout(&address, Duration::from_secs(10));
    let stream = connected.map_err(|error| Error::Unreachable(address, error))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A blocking connection to a broker.
pub struct Connection {
    stream: BufReader<TcpStream>,
    sent: i32,
    received: i32,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self, Error> {
        let stream = connect(address)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        stream.set_write_timeout(Some(ANSWER_WAIT))?;
        Ok(Self { stream: BufReader::with_capacity(16 << 10, stream), sent: 0, received: 0, answer: Vec::new() })
    }

    /// Takes memory for an answer of so many bytes before it comes: new memory may cost more time than the answer.
    pub fn expect(&mut self, len: usize) {
        if self.answer.len() < len {
            self.answer.resize(len, 0);
        }
    }

    /// Sends a frame made by `Writer::request`, with the next correlation id.
    pub fn send(&mut self, frame: &mut [u8]) -> Result<(), Error> {
        self.sent = self.sent.wrapping_add(1);
        frame[8..12].copy_from_slice(&self.sent.to_be_bytes());
        Ok(self.stream.get_mut().write_all(frame)?)
    }

    /// Waits for the next answer and returns what follows its header. Brokers answer in the order of the requests.
    pub fn receive(&mut self) -> Result<Reader<'_>, Error> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).map_err(broken)?;
        let len = usize::try_from(i32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if !(4..=ANSWER_BYTES_MAX).contains(&len) {
            return Err(Error::Answer(format!("an answer of {len} bytes")));
        }
        self.expect(len);
        // In steps, between which other threads get their turn also where the kernel does not interrupt a call.
        for step in self.answer[..len].chunks_mut(READ_BYTES) {
            self.stream.read_exact(step).map_err(broken)?;
        }
        self.received = self.received.wrapping_add(1);
        let mut reader = Reader::new(&self.answer[..len]);
        let correlation = reader.i32()?;
        if correlation != self.received {
            return Err(Error::Answer(format!("answer {correlation} came instead of {}", self.received)));
        }
        Ok(reader)
    }

    /// Sends a frame and waits for its answer.
    pub fn call(&mut self, mut frame: Vec<u8>) -> Result<Reader<'_>, Error> {
        self.send(&mut frame)?;
        self.receive()
    }
}

/// What a failure to read means.
fn broken(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => Error::Answer("the broker closed the connection".into()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Error::Answer(format!("the broker has not answered for {} s", ANSWER_WAIT.as_secs()))
        }
        _ => error.into(),
    }
}
