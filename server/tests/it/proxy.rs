//! A proxy in front of a broker, for tests in which clients hear something else than the broker says.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, FindCoordinatorResponse, MetadataResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// A request on its way.
pub struct Request<'a> {
    pub key: i16,
    pub version: i16,
    pub frame: &'a [u8],
    broker: &'a mut TcpStream,
}

impl Request<'_> {
    /// What the broker answers.
    pub fn ask(&mut self) -> io::Result<Bytes> {
        write_frame(self.broker, self.frame)?;
        Ok(Bytes::from(read_frame(self.broker)?))
    }

    /// The same, changed, if the request is of this API.
    pub fn ask_and<R: Decodable + Encodable + HeaderVersion>(
        &mut self,
        key: ApiKey,
        change: impl FnOnce(&mut R),
    ) -> io::Result<Bytes> {
        let answer = self.ask()?;
        Ok(if self.key == key as i16 { changed(answer, self.version, change) } else { answer })
    }
}

/// Starts a proxy whose answers `answer` gives, or closes the connection by an error; the proxy ends with the test's process.
pub fn start(broker: &str, answer: impl Fn(&mut Request<'_>) -> io::Result<Bytes> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (broker, answer) = (broker.to_owned(), Arc::new(answer));
    std::thread::Builder::new()
        .spawn(move || {
            for client in listener.incoming() {
                let (client, broker) = (client.unwrap(), TcpStream::connect(&broker).unwrap());
                let answer = answer.clone();
                std::thread::Builder::new().spawn(move || serve(client, broker, address.port(), &*answer)).unwrap();
            }
        })
        .unwrap();
    address.to_string()
}

fn serve(
    mut client: TcpStream,
    mut broker: TcpStream,
    port: u16,
    answer: &dyn Fn(&mut Request<'_>) -> io::Result<Bytes>,
) -> io::Result<()> {
    loop {
        let frame = read_frame(&mut client)?;
        let number = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        let mut request = Request { key: number(0), version: number(2), frame: &frame, broker: &mut broker };
        let answer = answer(&mut request)?;
        let version = request.version;
        // Where the broker names itself, the proxy names itself.
        let answer = match ApiKey::try_from(request.key) {
            Ok(ApiKey::Metadata) => changed::<MetadataResponse>(answer, version, |answer| {
                for row in &mut answer.brokers {
                    (row.host, row.port) = (StrBytes::from_static_str("127.0.0.1"), i32::from(port));
                }
            }),
            Ok(ApiKey::FindCoordinator) => changed::<FindCoordinatorResponse>(answer, version, |answer| {
                (answer.host, answer.port) = (StrBytes::from_static_str("127.0.0.1"), i32::from(port));
            }),
            _ => answer,
        };
        write_frame(&mut client, &answer)?;
    }
}

fn changed<R: Decodable + Encodable + HeaderVersion>(
    mut answer: Bytes,
    version: i16,
    change: impl FnOnce(&mut R),
) -> Bytes {
    let header = ResponseHeader::decode(&mut answer, R::header_version(version)).unwrap();
    let mut decoded = R::decode(&mut answer, version).unwrap();
    change(&mut decoded);
    let mut bytes = BytesMut::new();
    header.encode(&mut bytes, R::header_version(version)).unwrap();
    decoded.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).map_err(io::Error::other)?];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

fn write_frame(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    stream.write_all(&i32::try_from(frame.len()).map_err(io::Error::other)?.to_be_bytes())?;
    stream.write_all(frame)
}
