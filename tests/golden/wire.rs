//! A connection that sends requests as JSON and gives answers as JSON.

use crate::codec;
use crate::schema::Api;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What stands for an answer when the server closed the connection instead.
pub const CLOSED: &str = "connection closed";

/// Longer than any step makes a server wait.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

pub struct Wire {
    address: SocketAddr,
    stream: Option<TcpStream>,
    correlation: i32,
    /// Requests that were sent and not answered yet.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    correlation: i32,
    version: i16,
    /// Whether its answer's header has tags.
    tagged: bool,
}

impl Wire {
    pub fn new(address: SocketAddr) -> Wire {
        Wire { address, stream: None, correlation: 0, waiting: VecDeque::new() }
    }

    /// Sends one request and waits for its answer; connects first when there is no connection.
    pub fn exchange(&mut self, api: &Api, version: i16, request: &Value) -> Result<Value> {
        self.send(api, version, request)?;
        self.receive(api)
    }

    /// Sends one request; the frame that was sent.
    pub fn send(&mut self, api: &Api, version: i16, request: &Value) -> Result<Vec<u8>> {
        self.correlation += 1;
        let flexible = api.request.flexible.contains(version);
        let mut frame = vec![0; 4];
        frame.extend(api.key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend(self.correlation.to_be_bytes());
        frame.extend(6i16.to_be_bytes());
        frame.extend(b"golden");
        if flexible {
            frame.push(0);
        }
        frame.extend(codec::encode(&api.request, version, request)?);
        let size = i32::try_from(frame.len() - 4)?;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                none.insert(stream)
            }
        };
        stream.write_all(&frame)?;
        // ApiVersions answers with the first header version for ever, so that any client can read them.
        let tagged = flexible && api.key != 18;
        self.waiting.push_back(Waiting { correlation: self.correlation, version, tagged });
        Ok(frame)
    }

    /// The answer to the first request that was not answered.
    pub fn receive(&mut self, api: &Api) -> Result<Value> {
        let waiting = self.waiting.pop_front().context("nothing was sent")?;
        let mut stream = self.stream.take().context("the connection is closed")?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        let mut size = [0; 4];
        if let Err(error) = stream.read_exact(&mut size) {
            self.waiting.clear();
            return match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => Ok(json!(CLOSED)),
                _ => Err(error).context("waiting for an answer"),
            };
        }
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size))?];
        stream.read_exact(&mut answer)?;
        let (correlation, mut body) = answer.split_first_chunk::<4>().context("an answer without a header")?;
        if i32::from_be_bytes(*correlation) != waiting.correlation {
            bail!("an answer to another request");
        }
        if waiting.tagged {
            let (tags, rest) = body.split_first().context("an answer without header tags")?;
            if *tags != 0 {
                bail!("header tags in the answer");
            }
            body = rest;
        }
        self.stream = Some(stream);
        codec::decode(&api.response, waiting.version, body)
    }

    /// Expects no answer to the last request.
    pub fn forget(&mut self) {
        self.waiting.pop_back();
    }

    /// Whether something came that was not received yet, be it the end of the connection.
    pub fn has_answer(&mut self) -> Result<bool> {
        let stream = self.stream.as_ref().context("the connection is closed")?;
        stream.set_nonblocking(true)?;
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        match peeked {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            other => Ok(other.map(|_| true)?),
        }
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
