//! Clients that ask and do not read the answers.

use crate::besides::{besides, connect, read_to_end};
use anyhow::{Result, ensure};
use bytes::Bytes;
use headwater_engine::env::Rng;
use headwater_engine::env::sim::SimRng;
use headwater_tests::batch::{self, Codec, Source};
use headwater_tests::calls::{self, Wanted};
use headwater_tests::client::{self, Client};
use headwater_tests::server::Server;
use kafka_protocol::messages::MetadataRequest;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use uuid::Uuid;

const CLIENTS: usize = 100;
const HOLD: Duration = Duration::from_secs(2);

/// Sends as much of `bytes` as the server takes.
fn pour(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize> {
    stream.set_nonblocking(true)?;
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(written) => sent += written,
            Err(_) => break,
        }
    }
    stream.set_nonblocking(false)?;
    Ok(sent)
}

/// Every client asks for all of it at once, again and again while it is held. Those whose answers are more than the system's
/// buffers hold get stuck, and are given up in the end.
fn hold(server: &Server, requests: &[u8], get_stuck: bool) -> Result<usize> {
    let mut streams: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(server.kafka)).collect::<Result<_>>()?;
    let mut taken = 0;
    for _ in 0..10 {
        for stream in &mut streams {
            taken += pour(stream, requests)?;
        }
        std::thread::sleep(HOLD / 10);
    }
    if get_stuck && headwater_tests::is_long() {
        // After half a minute without progress the server gives up on them.
        std::thread::sleep(Duration::from_secs(35));
        for stream in &mut streams {
            read_to_end(stream)?;
        }
    }
    Ok(taken)
}

#[test]
fn unread_records_do_not_pile_up() {
    besides("unread-fetch", 64.0, |server| {
        let mut client = Client::connect(server.kafka)?;
        let (code, _) = calls::create_topic(&mut client, "large", 1, &[])?;
        ensure!(code == 0, "creating a topic is answered with error {code}");
        let draw = SimRng::new(1);
        let mut value = vec![0; 1_000_000];
        draw.fill(&mut value);
        let batch = batch::encode(&[value], Source::NONE, Codec::None);
        for _ in 0..64 {
            let (code, _) = calls::produce(&mut client, "large", 0, batch.clone())?;
            ensure!(code == 0, "producing is answered with error {code}");
        }
        let wanted =
            Wanted { topic: "large", id: Uuid::nil(), partition: 0, offset: 0, bytes_max: 50 << 20, wait_ms: 100 };
        let request = client::frame(11, 1, &calls::fetch_request(wanted))?;
        let taken = hold(server, &request.repeat(500), true)?;
        Ok(format!("{CLIENTS} clients asked {} times for 50 MiB and read nothing", taken / request.len()))
    });
}

#[test]
fn unread_metadata_does_not_pile_up() {
    // Up to 1 MiB of answers may wait on each connection.
    besides("unread-metadata", 32.0 + CLIENTS as f64 * 1.25, |server| {
        let mut client = Client::connect(server.kafka)?;
        let (code, _) = calls::create_topic(&mut client, "wide", 2_000, &[])?;
        ensure!(code == 0, "creating a topic is answered with error {code}");
        let request = client::frame(9, 1, &MetadataRequest::default().with_topics(None))?;
        let taken = hold(server, &request.repeat(500), true)?;
        Ok(format!("{CLIENTS} clients asked {} times for 2,000 partitions and read nothing", taken / request.len()))
    });
}

#[test]
fn unread_acknowledgements_do_not_pile_up() {
    besides("unread-produce", 64.0, |server| {
        let mut client = Client::connect(server.kafka)?;
        let (code, _) = calls::create_topic(&mut client, "small", 8, &[])?;
        ensure!(code == 0, "creating a topic is answered with error {code}");
        let batch: Bytes = batch::encode(&[vec![1; 20]], Source::NONE, Codec::None);
        let request = client::frame(8, 1, &calls::produce_request("small", Uuid::nil(), 0, batch))?;
        let taken = hold(server, &request.repeat(200), false)?;
        Ok(format!("{CLIENTS} clients sent {} batches and read no answer", taken / request.len()))
    });
}
