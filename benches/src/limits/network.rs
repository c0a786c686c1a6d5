//! Bytes through one loopback connection: a sender and a receiver that throws them away, each on its CPU.
//!
//! What the kernel does to carry bytes over is done on behalf of whoever runs then, mostly the sender; what it costs together
//! is both.

use super::{Figure, Place, Probe, figure, pinned};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of one call, at most: as the server sends.
pub const PIECE: usize = 256 << 10;

/// The probes.
pub fn probes(place: &Place) -> io::Result<Vec<Probe>> {
    let file = Arc::new(cached_file(place, "sent", place.bytes / 2)?);
    let (bytes, cpus) = (place.bytes, place.cpus);
    let write = move || {
        let carried = carry(cpus, bytes, Options::default(), |stream| {
            let piece = vec![7u8; PIECE];
            (0..bytes.div_ceil(PIECE)).try_for_each(|at| stream.write_all(&piece[..PIECE.min(bytes - at * PIECE)]))
        })?;
        Ok(carried.figures("write of 256 KiB from memory"))
    };
    let sendfile = move || {
        let carried = carry(cpus, bytes, Options::default(), |stream| send_file(stream, &file, bytes))?;
        Ok(carried.figures("sendfile of 256 KiB from the page cache"))
    };
    Ok(vec![Box::new(write), Box::new(sendfile)])
}

/// A file of that many bytes in the page cache, its pages clean.
pub(super) fn cached_file(place: &Place, name: &str, bytes: usize) -> io::Result<File> {
    let path = place.dir.join(name);
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    let piece: Vec<u8> = (0..PIECE).map(|at| (at * 131 % 251) as u8).collect();
    for at in (0..bytes).step_by(PIECE) {
        file.write_all_at(&piece[..PIECE.min(bytes - at)], at as u64)?;
    }
    file.sync_data()?;
    Ok(file)
}

/// Sends the file, over and over, until `bytes` are sent. The socket may be one that does not block.
pub(super) fn send_file(stream: &TcpStream, file: &File, bytes: usize) -> io::Result<()> {
    let size = file.metadata()?.len();
    let (mut left, mut position) = (bytes, 0);
    while left > 0 {
        if position >= size {
            position = 0;
        }
        match rustix::fs::sendfile(stream, file, Some(&mut position), left.min(PIECE)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => left -= sent.min(left),
            Err(rustix::io::Errno::AGAIN) => until_writable(stream)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until the socket takes bytes again, as an event loop does.
pub(super) fn until_writable(stream: &TcpStream) -> io::Result<()> {
    let mut polled = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::OUT)];
    rustix::event::poll(&mut polled, None)?;
    Ok(())
}

/// How a connection is set up; what is none is left to the system.
#[derive(Clone, Copy, Default)]
pub(super) struct Options {
    /// Bytes asked for the sender's buffer.
    pub send_buffer: Option<usize>,
    /// Bytes asked for the receiver's buffer.
    pub receive_buffer: Option<usize>,
    /// Bytes that the receiver takes in one call; zero: 256 KiB.
    pub read_bytes: usize,
    /// Whether the sender gets a socket that does not block.
    pub nonblocking: bool,
}

/// Two ends of a new connection. What is asked of the receiver's buffer is asked before it connects, or its window would not
/// follow.
pub(super) fn connect(options: Options) -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    if let Some(bytes) = options.receive_buffer {
        sockopt::set_socket_recv_buffer_size(&listener, bytes)?;
    }
    let sender = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // As the server does: BBR would pace what is sent by timers, which costs more than the sending.
    if sockopt::tcp_congestion(&sender).is_ok_and(|usual| usual.starts_with("bbr")) {
        sockopt::set_tcp_congestion(&sender, "reno")?;
    }
    rustix::net::connect(&sender, &listener.local_addr()?)?;
    let sender = TcpStream::from(sender);
    let (receiver, _) = listener.accept()?;
    if let Some(bytes) = options.send_buffer {
        sockopt::set_socket_send_buffer_size(&sender, bytes)?;
    }
    sender.set_nodelay(true)?;
    receiver.set_nodelay(true)?;
    sender.set_nonblocking(options.nonblocking)?;
    Ok((sender, receiver))
}

/// What it took to carry bytes over.
pub(super) struct Carried {
    pub bytes: usize,
    pub elapsed: Duration,
    pub sender_cpu: Duration,
    pub receiver_cpu: Duration,
}

/// Runs `send` on one CPU while another receives until the end.
pub(super) fn carry(
    cpus: (usize, usize),
    bytes: usize,
    options: Options,
    send: impl FnOnce(&mut TcpStream) -> io::Result<()> + Send,
) -> io::Result<Carried> {
    let (mut sender, mut receiver) = connect(options)?;
    let sending = move || {
        let cpu = pinned::thread_cpu();
        send(&mut sender)?;
        Ok(pinned::thread_cpu() - cpu)
    };
    let receiving = move || {
        let mut memory = vec![0u8; if options.read_bytes == 0 { PIECE } else { options.read_bytes }];
        let (begun, cpu) = (Instant::now(), pinned::thread_cpu());
        let mut received = 0;
        loop {
            match receiver.read(&mut memory)? {
                0 => break,
                count => received += count,
            }
        }
        if received != bytes {
            return Err(io::Error::other(format!("{received} of {bytes} bytes arrived")));
        }
        Ok((begun.elapsed(), pinned::thread_cpu() - cpu))
    };
    let (sender_cpu, (elapsed, receiver_cpu)) = pinned::both((cpus.0, sending), (cpus.1, receiving))?;
    Ok(Carried { bytes, elapsed, sender_cpu, receiver_cpu })
}

impl Carried {
    pub fn figures(&self, what: &str) -> Vec<Figure> {
        let gb = self.bytes as f64 / 1e9;
        vec![
            figure(what, "MB/s", gb * 1e3 / self.elapsed.as_secs_f64().max(1e-9)),
            figure(what, "sender CPU s/GB", self.sender_cpu.as_secs_f64() / gb),
            figure(what, "receiver CPU s/GB", self.receiver_cpu.as_secs_f64() / gb),
        ]
    }
}
