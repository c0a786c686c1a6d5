//! One connection: frames out, frames in, in order.

use super::error::Error;
use super::wire::{Reader, Source};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer is an error, so that a hanging server ends the run.
pub const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// Larger answers than this are an error.
pub const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Bytes of an incoming answer that one call reads at most: few enough to stay in a CPU's own cache until they are looked at, and for
/// other threads to get their turn in between, also where the kernel does not interrupt a call.
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
    /// Bytes of an incoming answer that were not read.
    left: usize,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self, Error> {
        let stream = connect(address)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        stream.set_write_timeout(Some(ANSWER_WAIT))?;
        Ok(Self {
            stream: BufReader::with_capacity(READ_BYTES, stream),
            sent: 0,
            received: 0,
            answer: Vec::new(),
            left: 0,
        })
    }

    /// Sends a frame made by `Writer::request`, with the next correlation id.
    pub fn send(&mut self, frame: &mut [u8]) -> Result<(), Error> {
        self.sent = self.sent.wrapping_add(1);
        frame[8..12].copy_from_slice(&self.sent.to_be_bytes());
        Ok(self.stream.get_mut().write_all(frame)?)
    }

    /// Waits for the next answer and returns what follows its header. Brokers answer in the order of the requests.
    pub fn receive(&mut self) -> Result<Reader<'_>, Error> {
        let len = self.begin()?;
        self.answer.resize(len, 0);
        self.stream.read_exact(&mut self.answer).map_err(broken)?;
        Ok(Reader::new(&self.answer))
    }

    /// Waits for the next answer and returns what follows its header, to be read as it comes. All of it must be read.
    pub fn incoming(&mut self) -> Result<Incoming<'_>, Error> {
        self.left = self.begin()?;
        Ok(Incoming(self))
    }

    /// Reads the next answer's header, and returns how many bytes follow it.
    fn begin(&mut self) -> Result<usize, Error> {
        if self.left > 0 {
            return Err(Error::Answer("the answer before was not read to its end".into()));
        }
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).map_err(broken)?;
        let len = usize::try_from(i32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if !(4..=ANSWER_BYTES_MAX).contains(&len) {
            return Err(Error::Answer(format!("an answer of {len} bytes")));
        }
        let mut correlation = [0; 4];
        self.stream.read_exact(&mut correlation).map_err(broken)?;
        let correlation = i32::from_be_bytes(correlation);
        self.received = self.received.wrapping_add(1);
        if correlation != self.received {
            return Err(Error::Answer(format!("answer {correlation} came instead of {}", self.received)));
        }
        Ok(len - 4)
    }

    /// Sends a frame and waits for its answer.
    pub fn call(&mut self, mut frame: Vec<u8>) -> Result<Reader<'_>, Error> {
        self.send(&mut frame)?;
        self.receive()
    }
}

/// An answer that is read as it comes, without memory for all of it: what was received is looked at while the CPU's cache has it.
pub struct Incoming<'a>(&'a mut Connection);

impl Incoming<'_> {
    /// How many bytes of it are still to be read.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.left
    }
}

impl Source for Incoming<'_> {
    fn pass(&mut self, mut len: usize, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        let Connection { stream, left, .. } = &mut *self.0;
        *left = left.checked_sub(len).ok_or_else(|| Error::Answer("an answer ends too early".into()))?;
        while len > 0 {
            let there = match stream.fill_buf() {
                Ok([]) => return Err(broken(ErrorKind::UnexpectedEof.into())),
                Ok(there) => &there[..there.len().min(len)],
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            each(there);
            let taken = there.len();
            stream.consume(taken);
            len -= taken;
        }
        Ok(())
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
