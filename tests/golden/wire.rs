//! A connection that sends requests as JSON and gives answers as JSON.

use crate::codec;
use crate::schema::Api;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What stands for an answer when the server closed the connection instead.
pub const CLOSED: &str = "connection closed";

pub struct Wire {
    address: SocketAddr,
    stream: Option<TcpStream>,
    correlation: i32,
}

impl Wire {
    pub fn new(address: SocketAddr) -> Wire {
        Wire { address, stream: None, correlation: 0 }
    }

    /// Sends one request and waits for its answer; connects first when there is no connection.
    pub fn exchange(&mut self, api: &Api, version: i16, request: &Value) -> Result<Value> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                stream
            }
        };
        self.correlation += 1;
        let mut frame = vec![0; 4];
        frame.extend(api.key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(self.correlation.to_be_bytes());
        frame.extend(6i16.to_be_bytes());
        frame.extend(b"golden");
        let flexible = api.request.flexible.contains(version);
        if flexible {
            frame.push(0);
        }
        frame.extend(codec::encode(&api.request, version, request)?);
        let size = i32::try_from(frame.len() - 4)?;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        stream.write_all(&frame)?;

        let mut size = [0; 4];
        if let Err(error) = stream.read_exact(&mut size) {
            return match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => Ok(json!(CLOSED)),
                _ => Err(error).context("waiting for an answer"),
            };
        }
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size))?];
        stream.read_exact(&mut answer)?;
        let (correlation, mut body) = answer.split_first_chunk::<4>().context("an answer without a header")?;
        if i32::from_be_bytes(*correlation) != self.correlation {
            bail!("an answer to another request");
        }
        // ApiVersions answers with the first header version for ever, so that any client can read them.
        if flexible && api.key != 18 {
            let (tags, rest) = body.split_first().context("an answer without header tags")?;
            if *tags != 0 {
                bail!("header tags in the answer");
            }
            body = rest;
        }
        self.stream = Some(stream);
        codec::decode(&api.response, version, body)
    }

    /// The ids of the topics that Metadata lists, by name.
    pub fn topics(&mut self, apis: &BTreeMap<String, Api>) -> Result<BTreeMap<String, String>> {
        let api = apis.get("Metadata").context("no Metadata")?;
        let answer = self.exchange(api, 12, &json!({ "Topics": null }))?;
        let topics = answer["Topics"].as_array().context("no topics")?;
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        Ok(topics.iter().map(|t| (text(&t["Name"]), text(&t["TopicId"]))).collect())
    }
}
