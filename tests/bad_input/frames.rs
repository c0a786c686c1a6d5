//! Frames that are none: absurd lengths, halves, other protocols, garbage.

use crate::besides::{besides, connect, ping, read_to_end, send};
use anyhow::{Context, Result, ensure};
use headwater_engine::env::Rng;
use headwater_tests::calls::{self, Wanted};
use headwater_tests::client;
use kafka_protocol::messages::MetadataRequest;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A request header of version 1 for `key` and `version`, and a body, with the right size in front.
fn framed(key: i16, version: i16, rest: &[u8]) -> Vec<u8> {
    let mut frame = i32::try_from(8 + rest.len()).expect("small").to_be_bytes().to_vec();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7i32.to_be_bytes());
    frame.extend_from_slice(rest);
    frame
}

fn sized(size: i32, rest: &[u8]) -> Vec<u8> {
    [&size.to_be_bytes(), rest].concat()
}

/// What each of them is; the server closes the connection by itself, without waiting for more.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03the rest of a hello, from some browser";
    let no_client = [255, 255];
    vec![
        ("a length of -1", sized(-1, &[])),
        ("a length of -1, and bytes", sized(-1, &[0; 100])),
        ("the smallest length", sized(i32::MIN, &[])),
        ("a length of 2 GiB - 1", sized(i32::MAX, &[0, 0, 0, 9])),
        ("a length of 1 GiB", sized(1 << 30, &[0, 0, 0, 9])),
        ("a byte above the largest length", sized((100 << 20) + 1, &[0, 0, 0, 9])),
        ("100 MiB that are no Produce", sized(100 << 20, &[0, 3, 0, 9])),
        ("a length of zero", sized(0, &[])),
        ("a length of zero, and zeros", sized(0, &[0; 64])),
        ("a frame of one byte", sized(1, &[0])),
        ("a frame of half a header", sized(6, &[0, 18, 0, 0, 0, 0])),
        ("an unknown request", framed(999, 0, &no_client)),
        ("a negative request", framed(-1, 0, &no_client)),
        ("a version that does not exist", framed(3, 999, &no_client)),
        ("a negative version", framed(1, -5, &no_client)),
        ("a client id of -2 bytes", framed(3, 1, &[255, 254])),
        ("a client id longer than the frame", framed(3, 1, &[127, 255, 1, 2, 3])),
        ("tags without number", framed(3, 12, &[255, 255, 255, 255, 255, 255, 15])),
        ("a tag longer than the frame", framed(3, 12, &[255, 255, 1, 0, 255, 255, 255, 255, 7])),
        ("a varint that never ends", framed(3, 12, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255])),
        ("a TLS hello", tls_hello.to_vec()),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec()),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("an SSH greeting", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ]
}

#[test]
fn hand_made_frames_close_their_connection_and_no_other() {
    besides("frames", 32.0, |server| {
        let mut slowest = Duration::ZERO;
        let frames = refused();
        for (what, frame) in &frames {
            for before in [false, true] {
                let mut stream = connect(server.kafka)?;
                if before {
                    ping(&mut stream).with_context(|| format!("before {what}"))?;
                }
                let begun = Instant::now();
                send(&mut stream, frame);
                let said = read_to_end(&mut stream).with_context(|| what.to_string())?;
                ensure!(said.is_empty(), "{what} is answered with {} bytes", said.len());
                slowest = slowest.max(begun.elapsed());
            }
        }
        Ok(format!("{} frames, each closed within {slowest:.1?}", frames.len()))
    });
}

/// Frames that stop somewhere; the client keeps the connection open and says nothing more.
fn halves() -> Result<Vec<Vec<u8>>> {
    let metadata = client::frame(9, 1, &MetadataRequest::default())?;
    let wanted =
        Wanted { topic: "bystanders", id: Uuid::nil(), partition: 0, offset: 0, bytes_max: 1 << 20, wait_ms: 100 };
    let fetch = client::frame(11, 1, &calls::fetch_request(wanted))?;
    let produce = client::frame(9, 1, &calls::produce_request("bystanders", Uuid::nil(), 0, vec![0; 60_000].into()))?;
    let mut halves = Vec::new();
    for frame in [&metadata, &fetch, &produce] {
        for at in [1, 3, 4, 5, 8, frame.len() / 2, frame.len() - 1] {
            halves.push(frame[..at].to_vec());
        }
    }
    Ok(halves)
}

#[test]
fn half_frames_held_open_cost_nothing_and_end_some_time() {
    besides("half-frames", 48.0, |server| {
        let mut streams = Vec::new();
        for half in halves()?.iter().cycle().take(420) {
            let mut stream = connect(server.kafka)?;
            send(&mut stream, half);
            streams.push(stream);
        }
        std::thread::sleep(Duration::from_millis(1_500));
        if !headwater_tests::is_long() {
            return Ok(format!("{} half frames", streams.len()));
        }
        // After half a minute without a byte the server gives up on them.
        let begun = Instant::now();
        for stream in &mut streams {
            stream.set_read_timeout(Some(Duration::from_secs(45)))?;
            read_to_end(stream)?;
        }
        Ok(format!("{} half frames, all closed {:.0?} later", streams.len(), begun.elapsed()))
    });
}

#[test]
fn announced_gigabytes_cost_nothing() {
    besides("announced", 64.0, |server| {
        let mut streams = Vec::new();
        for number in 0..500usize {
            let mut stream = connect(server.kafka)?;
            // Half of them send a first part, too.
            let part = vec![0; if number % 2 == 0 { 4 } else { 48 << 10 }];
            let head = [0, 0, 0, 9, 0, 0, 0, 1, 255, 255, 0, 0, 255, 255];
            send(&mut stream, &[&sized(100 << 20, &head)[..], &part].concat());
            streams.push(stream);
        }
        std::thread::sleep(Duration::from_secs(1));
        Ok(format!("{} times 100 MiB announced", streams.len()))
    });
}

#[test]
fn a_trickled_request_is_answered() {
    besides("trickle", 32.0, |server| {
        let frame = client::frame(9, 1, &MetadataRequest::default())?;
        let mut streams: Vec<TcpStream> = (0..100).map(|_| connect(server.kafka)).collect::<Result<_>>()?;
        let begun = Instant::now();
        for byte in frame.chunks(1) {
            for stream in &mut streams {
                std::io::Write::write_all(stream, byte)?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for stream in &mut streams {
            let mut size = [0; 4];
            std::io::Read::read_exact(stream, &mut size).context("no answer to a request that came slowly")?;
            ensure!(i32::from_be_bytes(size) > 10, "a short answer");
        }
        Ok(format!("{} requests of {} bytes, byte by byte in {:.1?}", streams.len(), frame.len(), begun.elapsed()))
    });
}

#[test]
fn garbage_is_refused() {
    let count = if headwater_tests::is_long() { 50_000 } else { 2_000 };
    let draw = headwater_tests::draw("garbage");
    besides("garbage", 64.0, |server| {
        for _ in 0..count {
            let mut garbage = vec![0; 1 + draw.below(4_000) as usize];
            draw.fill(&mut garbage);
            match draw.below(4) {
                // The length is right, the rest is not.
                0 => garbage = sized(i32::try_from(garbage.len())?, &garbage),
                // The header is right, too.
                1 => {
                    let keys = [0, 1, 2, 3, 18, 19, 20, 21, 22, 23, 32, 37, 60, 75];
                    let key = keys[draw.below(keys.len() as u64) as usize];
                    garbage = framed(key, draw.below(14) as i16, &[&[255, 255], &garbage[..]].concat());
                }
                _ => {}
            }
            let mut stream = connect(server.kafka)?;
            send(&mut stream, &garbage);
            let _closed_already = stream.shutdown(Shutdown::Write);
            read_to_end(&mut stream)?;
        }
        Ok(format!("{count} connections with garbage"))
    });
}
