//! A broker that stores nothing: it reads requests whole and answers them. What a load costs with it is what the generator and the
//! sockets cost.

use crate::kafka::wire::{Reader, Source, Writer};
use crate::kafka::{CREATE_TOPICS, DELETE_TOPICS, Error, LIST_OFFSETS, METADATA, PRODUCE};
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::Builder;

/// Larger requests end the connection.
const REQUEST_BYTES_MAX: usize = 256 << 20;

/// Serves for ever; `ready` is told the address first.
pub fn serve(address: SocketAddr, ready: impl FnOnce(SocketAddr) -> io::Result<()>) -> Result<(), Error> {
    let listener = TcpListener::bind(address)?;
    ready(listener.local_addr()?)?;
    // All topics have as many partitions as the last one that was made.
    let partitions = Arc::new(AtomicI32::new(1));
    for stream in listener.incoming() {
        let (stream, partitions) = (stream?, partitions.clone());
        Builder::new().name("sink".into()).spawn(move || {
            if let Err(error) = connection(stream, &partitions) {
                eprintln!("sink: {error}");
            }
        })?;
    }
    Ok(())
}

fn connection(stream: TcpStream, partitions: &AtomicI32) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    let mut frame = Vec::new();
    let mut len = [0; 4];
    loop {
        match stream.read_exact(&mut len) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let size = usize::try_from(i32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if size > REQUEST_BYTES_MAX {
            return Err(Error::Answer(format!("a request of {size} bytes")));
        }
        if frame.len() < size {
            frame.resize(size, 0);
        }
        stream.read_exact(&mut frame[..size])?;
        if let Some(answer) = answer(&frame[..size], partitions)? {
            out.write_all(&answer)?;
        }
    }
}

fn answer(frame: &[u8], partitions: &AtomicI32) -> Result<Option<Vec<u8>>, Error> {
    let mut request = Reader::new(frame);
    let (key, version, correlation) = (request.i16()?, request.i16()?, request.i32()?);
    request.string()?;
    let mut answer = Writer { bytes: vec![0; 4] };
    answer.i32(correlation);
    match (key, version) {
        PRODUCE => {
            request.string()?;
            let acks = request.i16()?;
            request.i32()?;
            let topics = request.count()?;
            answer.count(topics);
            for _ in 0..topics {
                answer.string(request.string()?.unwrap_or_default());
                let count = request.count()?;
                answer.count(count);
                for _ in 0..count {
                    answer.i32(request.i32()?).i16(0).i64(0).i64(-1).i64(0).count(0).i16(-1);
                    let size = request.count()?;
                    request.raw(size)?;
                }
            }
            answer.i32(0);
            if acks == 0 {
                return Ok(None);
            }
        }
        METADATA => {
            request.count()?;
            let topic = request.string()?.unwrap_or_default();
            answer.i32(0).count(0).i16(-1).i32(0).count(1).i16(0).string(topic).i8(0);
            let count = partitions.load(Ordering::Relaxed);
            answer.i32(count);
            for partition in 0..count {
                answer.i16(0).i32(partition).i32(0).i32(0).count(0).count(0).count(0);
            }
            answer.i32(0).i32(0);
        }
        CREATE_TOPICS => {
            request.count()?;
            let topic = request.string()?.unwrap_or_default();
            partitions.store(request.i32()?, Ordering::Relaxed);
            answer.i32(0).count(1).string(topic).i16(0).i16(-1);
        }
        DELETE_TOPICS => {
            request.count()?;
            answer.i32(0).count(1).string(request.string()?.unwrap_or_default()).i16(0);
        }
        LIST_OFFSETS => {
            request.i32()?;
            request.i8()?;
            request.count()?;
            answer.i32(0).count(1).string(request.string()?.unwrap_or_default());
            let count = request.count()?;
            answer.count(count);
            for _ in 0..count {
                answer.i32(request.i32()?).i16(0).i64(-1).i64(0).i32(0);
                request.i32()?;
                request.i64()?;
            }
        }
        (key, version) => return Err(Error::Answer(format!("request {key} in version {version} is not served"))),
    }
    Ok(Some(answer.finish()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::load::phase::Watch;
    use crate::load::producer::Plan;
    use crate::scenario;
    use std::sync::mpsc::channel;

    /// A sink that ends with the test's process.
    pub(crate) fn started() -> SocketAddr {
        let (sender, receiver) = channel();
        let ready = move |address| sender.send(address).map_err(io::Error::other);
        Builder::new().spawn(move || serve(([127, 0, 0, 1], 0).into(), ready)).unwrap();
        receiver.recv().unwrap()
    }

    #[test]
    fn sink_takes_a_load() {
        let address = started();
        for acks in [0, -1] {
            let plan = Plan { acks, total_bytes: 2_000_000, partitions: 7, ..Plan::new(address, "sunk") };
            let phase = scenario::produce("produce", &plan, &Watch::default()).unwrap();
            assert!(phase.flows[0].counts.bytes >= 2_000_000);
        }
        scenario::delete(address, "sunk").unwrap();
    }
}
