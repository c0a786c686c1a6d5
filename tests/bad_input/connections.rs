//! More connections than the server takes.

use crate::besides::{besides, connect, ping, read_to_end};
use anyhow::{Context, Result, ensure};
use headwater_benches::sys;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The server's default bound.
const CONNECTIONS_MAX: usize = 10_000;
/// Beyond it.
const EXTRA: usize = 300;

#[test]
fn ten_thousand_connections_are_served_and_more_are_closed() {
    let open_files = sys::raise_open_files().expect("a limit on open files");
    // The server needs as many, and some for its own files.
    if open_files < 2 * CONNECTIONS_MAX as u64 {
        println!("SKIPPED connections: {open_files} open files are allowed, {} are needed", 2 * CONNECTIONS_MAX);
        return;
    }
    besides("connections", 96.0, |server| {
        let begun = Instant::now();
        let mut streams: Vec<TcpStream> = Vec::with_capacity(CONNECTIONS_MAX + EXTRA);
        let (mut served, mut closed) = (0, 0);
        for number in 0..CONNECTIONS_MAX + EXTRA {
            let mut stream = connect(server.kafka).with_context(|| format!("connection {number}"))?;
            // A request on each, so that it was accepted before the next one comes: else the queue of the listening socket
            // overflows, and the kernel lets clients try again a second later.
            match ping(&mut stream) {
                Ok(()) => served += 1,
                Err(_) if is_closed(&mut stream)? => closed += 1,
                Err(error) => return Err(error).context("neither served nor closed"),
            }
            streams.push(stream);
        }
        let opened = begun.elapsed();
        // The bystanders have two.
        ensure!(served == CONNECTIONS_MAX - 2, "{served} are served, {closed} are closed");
        let used = server.anonymous_mib()?;
        drop(streams);
        // As soon as they are gone, others can come.
        let deadline = Instant::now() + Duration::from_secs(10);
        while ping(&mut connect(server.kafka)?).is_err() {
            ensure!(Instant::now() < deadline, "the server takes no new connection");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(format!("{served} connections served, {closed} closed, in {opened:.1?}; {used:.0} MiB when they are open"))
    });
}

fn is_closed(stream: &mut TcpStream) -> Result<bool> {
    match read_to_end(stream) {
        Ok(_) => Ok(true),
        Err(error) => match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(true),
            _ => Err(error),
        },
    }
}
