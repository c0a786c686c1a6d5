//! An asynchronous connection: one request at a time, typed both ways.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use headwater_tests::client::frame;
use kafka_protocol::messages::{ApiVersionsRequest, ResponseHeader};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// An answer that takes longer counts as a server that hangs.
const ANSWER_WAIT: Duration = Duration::from_secs(120);

/// Connections that are being made. Brokers let few wait to be accepted, Apache Kafka 50: when more come, the kernel forgets some
/// that their clients take for made, and resets them later.
static CONNECTING: Semaphore = Semaphore::const_new(32);

pub struct Wire {
    stream: TcpStream,
    sent: i32,
}

impl Wire {
    /// A connection that the broker is known to have taken: it has answered.
    pub async fn connect(address: SocketAddr) -> Result<Wire> {
        let _turn = CONNECTING.acquire().await?;
        let mut last = None;
        for _ in 0..50 {
            match Wire::attempt(address).await {
                Ok(wire) => return Ok(wire),
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(last.context("no attempt")?.context("no connection"))
    }

    async fn attempt(address: SocketAddr) -> Result<Wire> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut wire = Wire { stream, sent: 0 };
        wire.call(0, &ApiVersionsRequest::default()).await?;
        Ok(wire)
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        self.sent += 1;
        let frame = frame(version, self.sent, request).map_err(|error| anyhow::anyhow!("{error}"))?;
        self.stream.write_all(&frame).await?;
        let answer = tokio::time::timeout(ANSWER_WAIT, async {
            let size = usize::try_from(self.stream.read_i32().await?).unwrap_or(0);
            let mut answer = vec![0; size];
            self.stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        });
        let mut answer = Bytes::from(answer.await.context("no answer")??);
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version))?;
        ensure!(header.correlation_id == self.sent, "an answer to another request");
        let response = R::Response::decode(&mut answer, version)?;
        ensure!(answer.is_empty(), "{} bytes too many", answer.len());
        Ok(response)
    }
}
