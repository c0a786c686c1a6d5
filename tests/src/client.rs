//! A blocking Kafka connection: typed requests out, typed answers in, nothing hidden and nothing retried.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer counts as a server that hangs.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The connection is gone: the server ended, or closed it.
    #[error("the connection is gone: {0}")]
    Lost(io::Error),
    /// The server answered what it must not, or not at all.
    #[error("{0}")]
    Wrong(String),
}

impl Failure {
    /// A failure of the second kind.
    pub fn wrong(why: impl Into<String>) -> Failure {
        Failure::Wrong(why.into())
    }

    /// Whether the connection went away.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Failure::Lost(_))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                Failure::Wrong(format!("nothing moved for {} s", ANSWER_WAIT.as_secs()))
            }
            _ => Failure::Lost(error),
        }
    }
}

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    sent: i32,
    received: i32,
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Result<Client, Failure> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        stream.set_write_timeout(Some(ANSWER_WAIT))?;
        Ok(Client { stream: BufReader::with_capacity(64 << 10, stream), sent: 0, received: 0 })
    }

    /// Sends a request.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<(), Failure> {
        self.sent += 1;
        let frame = frame(version, self.sent, request)?;
        Ok(self.stream.get_mut().write_all(&frame)?)
    }

    /// Waits for the next answer, which must be that to the oldest request without one.
    pub fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response, Failure> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = usize::try_from(i32::from_be_bytes(size)).map_err(|_| Failure::wrong("a negative answer size"))?;
        let mut answer = vec![0; size];
        self.stream.read_exact(&mut answer)?;
        self.received += 1;
        let mut answer = Bytes::from(answer);
        let wrong = |error: &dyn std::fmt::Display| Failure::Wrong(format!("an answer to {}: {error}", R::KEY));
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version));
        let header = header.map_err(|error| wrong(&error))?;
        if header.correlation_id != self.received {
            return Err(wrong(&format!("correlation id {} instead of {}", header.correlation_id, self.received)));
        }
        let response = R::Response::decode(&mut answer, version).map_err(|error| wrong(&error))?;
        if answer.is_empty() { Ok(response) } else { Err(wrong(&format!("{} bytes too many", answer.len()))) }
    }

    /// Sends a request and waits for its answer. Nothing else may be in flight.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, Failure> {
        self.send(version, request)?;
        self.receive::<R>(version)
    }
}

/// A request as it goes over the wire, its size in front.
pub fn frame<R: Request>(version: i16, correlation: i32, request: &R) -> Result<Bytes, Failure> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("headwater-tests")));
    let header_version =
        ApiKey::try_from(R::KEY).map_err(|()| Failure::wrong("no such request"))?.request_header_version(version);
    let mut frame = BytesMut::zeroed(4);
    let encoded = header.encode(&mut frame, header_version).and_then(|()| request.encode(&mut frame, version));
    encoded.map_err(|error| Failure::Wrong(format!("request {} v{version}: {error}", R::KEY)))?;
    let size = i32::try_from(frame.len() - 4).map_err(|_| Failure::wrong("a request over 2 GiB"))?;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    Ok(frame.freeze())
}
