//! A server on a simulated disk and clients over in-memory pipes, which speak Kafka through crate kafka-protocol.
#![allow(dead_code, reason = "each test file uses a part of it")]

use bytes::{Bytes, BytesMut};
use headwater_engine::batch::{BatchBuilder, Codec};
use headwater_engine::env::Env;
use headwater_engine::env::sim::{self, SimClock, SimDisk};
use headwater_engine::{Drive, Engine, NewTopic, Options as EngineOptions, ProducerId, TimestampMs, Topic};
use headwater_protocol::metrics::Ended;
use headwater_protocol::net::{Memory, Tcp, Transport};
use headwater_protocol::{Phase, Shutdown, Trigger};
use headwater_protocol_kafka::{Context, Options, serve_connection};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server without a listener.
pub struct Server {
    pub engine: Engine,
    pub ctx: Arc<Context>,
    trigger: Trigger,
    shutdown: Shutdown,
    threads: bool,
}

pub fn engine_options() -> EngineOptions {
    EngineOptions {
        wal_size_initial: 4 << 20,
        wal_size_max: 16 << 20,
        disk_reserve_bytes: 0,
        ..EngineOptions::new("data".into())
    }
}

impl Server {
    /// With the engine's threads running.
    pub fn start(options: Options) -> Server {
        Server::start_on(1, options).0
    }

    /// The same, with the disk and the clock beneath.
    pub fn start_on(seed: u64, options: Options) -> (Server, SimDisk, SimClock) {
        let (env, disk, clock) = sim::env(seed);
        let server = Server::over(env, options, true);
        server.engine.start().expect("threads");
        (server, disk, clock)
    }

    /// With room for few partitions only.
    pub fn start_small(options: Options) -> Server {
        let (env, ..) = sim::env(1);
        let engine_options = EngineOptions { partitions_max: 50, ..engine_options() };
        let engine = Engine::open(env, engine_options).expect("an empty folder");
        let server = Server::around(engine, options, true);
        server.engine.start().expect("threads");
        server
    }

    /// With an engine that does nothing by itself.
    pub fn by_hand(options: Options) -> (Server, Drive) {
        let (env, ..) = sim::env(1);
        let server = Server::over(env, options, false);
        let drive = server.engine.drive().expect("not started");
        (server, drive)
    }

    pub fn over(env: Env, options: Options, threads: bool) -> Server {
        Server::around(Engine::open(env, engine_options()).expect("an empty folder"), options, threads)
    }

    pub fn around(engine: Engine, options: Options, threads: bool) -> Server {
        let (trigger, shutdown) = Trigger::new();
        let options = Options { advertised_port: 9092, ..options };
        let ctx = Arc::new(Context::new(engine.clone(), options).with_shutdown(shutdown.clone()));
        Server { engine, ctx, trigger, shutdown, threads }
    }

    /// A topic, made and durable.
    pub async fn topic(&self, name: &str, partitions: u32, settings: &[(&str, &str)]) -> Arc<Topic> {
        let settings = settings.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.engine.create_topic(NewTopic { name: name.to_owned(), partitions, settings }).await.expect("a new topic")
    }

    /// A client and the task that serves it.
    pub fn connect_with(&self, pipe: usize) -> (Client, JoinHandle<Ended>) {
        let (ours, theirs) = tokio::io::duplex(pipe);
        (Client { io: ours, next_id: 1 }, self.serve(Memory(theirs)))
    }

    /// Serves a connection of any kind.
    pub fn serve(&self, io: impl Transport) -> JoinHandle<Ended> {
        tokio::spawn(serve_connection(io, self.ctx.clone(), self.shutdown.clone()))
    }

    /// A client over a socket.
    pub async fn connect_by_tcp(&self) -> (Client<TcpStream>, JoinHandle<Ended>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let ours = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        ours.set_nodelay(true).expect("a socket");
        let (theirs, _) = listener.accept().await.expect("a client");
        theirs.set_nodelay(true).expect("a socket");
        (Client { io: ours, next_id: 1 }, self.serve(Tcp::new(theirs)))
    }

    pub fn connect(&self) -> Client {
        self.connect_with(1 << 20).0
    }

    /// Waits until requests and answers take no memory.
    pub async fn settle(&self) {
        for _ in 0..1_000 {
            if self.ctx.metrics().snapshot().request_memory == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{} bytes of request memory stay in use", self.ctx.metrics().snapshot().request_memory);
    }

    pub fn advance(&self, phase: Phase) {
        self.trigger.advance(phase);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.threads {
            let _ = self.engine.shut_down();
        }
    }
}

/// A client that knows what it does, and may do it wrong.
pub struct Client<S = DuplexStream> {
    pub io: S,
    next_id: i32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Sends a request; returns its correlation id.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let id = self.next_id;
        self.next_id += 1;
        self.io.write_all(&frame(R::KEY, version, id, request)).await.expect("the server reads");
        id
    }

    /// The next frame, without its size; none when the server closed the connection.
    pub async fn receive_frame(&mut self) -> Option<Bytes> {
        let size = self.io.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(size).expect("a size")];
        self.io.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    /// The answer to a request.
    pub async fn receive<R: Request>(&mut self, version: i16, id: i32) -> R::Response {
        let frame = self.receive_frame().await.expect("an answer");
        decode::<R::Response>(frame, version, id)
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request).await;
        self.receive::<R>(version, id).await
    }

    /// Whether the server closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.io.read(&mut byte).await, Ok(0) | Err(_))
    }
}

/// A request as a whole frame.
pub fn frame<R: Encodable + HeaderVersion>(key: i16, version: i16, id: i32, request: &R) -> Bytes {
    frame_since(key, version, version, id, request)
}

/// A request of a version that the crate does not know, but whose bytes are the same since one that it knows.
pub fn frame_since<R: Encodable + HeaderVersion>(key: i16, version: i16, known: i16, id: i32, request: &R) -> Bytes {
    let mut body = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(StrBytes::from_static_str("harness")));
    header.encode(&mut body, R::header_version(known)).expect("a header");
    request.encode(&mut body, known).expect("a request");
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&(body.len() as i32).to_be_bytes());
    frame.extend_from_slice(&body);
    frame.freeze()
}

/// Decodes an answer, to its last byte.
pub fn decode<A: Decodable + HeaderVersion>(mut frame: Bytes, version: i16, id: i32) -> A {
    let header = ResponseHeader::decode(&mut frame, A::header_version(version)).expect("a header");
    assert_eq!(header.correlation_id, id);
    let answer = A::decode(&mut frame, version).expect("an answer");
    assert!(frame.is_empty(), "{} bytes behind the answer", frame.len());
    answer
}

/// A batch of these values, not checked.
pub fn batch(values: &[&str]) -> Bytes {
    batch_with(values, |builder| builder)
}

pub fn batch_with(values: &[&str], change: impl FnOnce(BatchBuilder) -> BatchBuilder) -> Bytes {
    let mut builder = change(BatchBuilder::new());
    for value in values {
        builder.push(TimestampMs(1), None, Some(value.as_bytes()), &[]).expect("a short record");
    }
    builder.finish().expect("a small batch")
}

pub fn idempotent(producer: i64, epoch: i16, sequence: i32, values: &[&str]) -> Bytes {
    batch_with(values, |builder| builder.producer(ProducerId(producer), epoch, sequence))
}

pub fn compressed(codec: Codec, values: &[&str]) -> Bytes {
    batch_with(values, |builder| builder.codec(codec))
}

pub fn name(name: &str) -> StrBytes {
    StrBytes::from_string(name.to_owned())
}

/// The versions that both the table and the codec have.
pub fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let row = headwater_protocol_kafka::TABLE.iter().find(|row| row.key == key).expect("a row");
    row.min.max(key.valid_versions().min)..=row.max
}
