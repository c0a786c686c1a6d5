//! The admin port: other protocols, halves, too much.

use crate::besides::{besides, connect, read_to_end, send};
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Fewer than the admin port takes.
const HELD: usize = 50;

/// An HTTP request by hand, and the whole answer.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = connect(address)?;
    send(&mut stream, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes());
    Ok(String::from_utf8(read_to_end(&mut stream)?)?)
}

#[test]
fn the_admin_port_takes_no_harm() {
    besides("admin", 64.0, |server| {
        let host = format!("Host: {}\r\n", server.admin);
        let refused: Vec<(&str, Vec<u8>)> = vec![
            ("a Kafka request", vec![0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255]),
            ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(10)),
            ("zeros", vec![0; 10_000]),
            ("a line without end", vec![b'a'; 1 << 20]),
            ("a header without end", format!("GET / HTTP/1.1\r\n{host}X: {}", "y".repeat(4 << 20)).into_bytes()),
            ("headers without end", format!("GET / HTTP/1.1\r\n{host}{}", "X: y\r\n".repeat(100_000)).into_bytes()),
            ("no such version", b"GET / HTTP/9.9\r\n\r\n".to_vec()),
        ];
        for (what, bytes) in &refused {
            let mut stream = connect(server.admin)?;
            send(&mut stream, bytes);
            let _closed_already = stream.shutdown(std::net::Shutdown::Write);
            let said = read_to_end(&mut stream).with_context(|| what.to_string())?;
            let said = String::from_utf8_lossy(&said);
            ensure!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{what} is answered with {said}");
        }
        let foreign = [
            "GET /metrics HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n".to_owned(),
            format!("GET /metrics HTTP/1.1\r\n{host}Origin: http://page.example\r\nConnection: close\r\n\r\n"),
        ];
        for request in foreign {
            let mut stream = connect(server.admin)?;
            send(&mut stream, request.as_bytes());
            let said = String::from_utf8(read_to_end(&mut stream)?)?;
            ensure!(said.starts_with("HTTP/1.1 403"), "{request:?} is answered with {said}");
        }
        // Held open, and a body that never comes.
        let mut held = Vec::new();
        for number in 0..HELD {
            let mut stream = connect(server.admin)?;
            let half = if number % 2 == 0 {
                "GET /met".to_owned()
            } else {
                format!("POST / HTTP/1.1\r\n{host}Content-Length: 99999999999\r\n\r\nx")
            };
            send(&mut stream, half.as_bytes());
            held.push(stream);
        }
        std::thread::sleep(Duration::from_millis(300));
        let healthy = get(server.admin, "/health/ready")?;
        ensure!(healthy.starts_with("HTTP/1.1 200"), "health is answered with {healthy}");
        // More than the port takes are closed; when they have gone, it serves again.
        for _ in 0..200 {
            held.push(connect(server.admin)?);
        }
        drop(held);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !get(server.admin, "/metrics")?.starts_with("HTTP/1.1 200") {
            ensure!(Instant::now() < deadline, "the admin port serves nobody any more");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(format!("{} odd requests, {HELD} held open", refused.len() + 2))
    });
}
