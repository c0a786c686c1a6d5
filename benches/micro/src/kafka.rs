//! Whole requests, without a socket: from the body's bytes through the operation's row to the answer's pieces.

use crate::batches::batch;
use crate::harness::{Harness, Step};
use crate::log::Log;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::{Bytes, BytesMut};
use headwater_engine::batch::Codec;
use headwater_protocol::budget::{Budget, Charge};
use headwater_protocol_kafka::{Call, Context, Handler, LastFetch, Options, Outcome, Reply, Running, TABLE};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FetchRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, ProduceRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use std::future::Future;
use std::hint::black_box;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::runtime::Runtime;

const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
const JOIN: i16 = 5;
const SYNC: i16 = 3;
const HEARTBEAT: i16 = 3;

/// A head without a listener, over an engine that is moved by hand.
struct Head {
    ctx: Arc<Context>,
    log: Log,
    budget: Arc<Budget>,
    runtime: Runtime,
}

impl Head {
    fn call<R: Request + Encodable>(&self, version: i16, request: &R) -> Result<(Handler, Prepared)> {
        let operation = TABLE.iter().position(|row| row.key as i16 == R::KEY).context("an operation without a row")?;
        let mut body = BytesMut::new();
        request.encode(&mut body, version)?;
        let handler = TABLE.get(operation).context("a row")?.handler;
        Ok((handler, Prepared { operation, version, body: body.freeze() }))
    }

    /// Handles a request until it is answered, or waits for the medium.
    fn handle(&self, handler: Handler, call: &Prepared) -> Result<Outcome> {
        let call = Call {
            operation: call.operation,
            version: call.version,
            correlation_id: 1,
            client_id: None,
            peer: None,
            body: call.body.clone(),
            frame: Bytes::new(),
            memory: Charge::up_to(&self.budget, 32 << 10),
            last_fetch: LastFetch::default(),
        };
        poll(handler(self.ctx.clone(), call))?.ok_or_else(|| anyhow!("the request waits"))
    }

    /// Handles a request to its end, moving the engine as it needs to.
    fn finish(&mut self, handler: Handler, call: &Prepared) -> Result<Reply> {
        let call = Call {
            operation: call.operation,
            version: call.version,
            correlation_id: 1,
            client_id: Some(StrBytes::from_static_str("micro")),
            peer: None,
            body: call.body.clone(),
            frame: Bytes::new(),
            memory: Charge::up_to(&self.budget, 32 << 10),
            last_fetch: LastFetch::default(),
        };
        let mut running = handler(self.ctx.clone(), call);
        let mut task = std::task::Context::from_waker(Waker::noop());
        for _ in 0..1_000 {
            if let Poll::Ready(outcome) = running.as_mut().poll(&mut task) {
                let mut waiting = match outcome? {
                    Outcome::Done(reply) => return Ok(reply),
                    Outcome::Queued(waiting) => waiting,
                    Outcome::Waits(_) => bail!("a request without a connection waits for one"),
                };
                self.log.commit()?;
                return match waiting.as_mut().poll(&mut task) {
                    Poll::Ready(reply) => Ok(reply?),
                    Poll::Pending => bail!("committed and not answered"),
                };
            }
            self.log.commit()?;
            // A group's own tasks and timers run here.
            self.runtime.block_on(tokio::time::sleep(Duration::from_millis(1)));
        }
        bail!("the request is not answered")
    }
}

/// A request, encoded once and sent many times.
struct Prepared {
    operation: usize,
    version: i16,
    body: Bytes,
}

fn poll(running: Running) -> Result<Option<Outcome>> {
    let mut running = pin!(running);
    match running.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Ok(Some(outcome?)),
        Poll::Pending => Ok(None),
    }
}

pub fn run(harness: &mut Harness, dir: &Path) -> Result<()> {
    // Timers need a runtime to be set in; none of the requests here waits for one.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let handle = runtime.handle().clone();
    let _entered = handle.enter();
    let log = Log::open(dir)?;
    let mut options = Options { advertised_port: 9092, ..Options::default() };
    options.groups.initial_rebalance_delay_ms = 0;
    options.groups.topic_partitions = 1;
    let ctx = Arc::new(Context::new(log.engine.clone(), options));
    let mut head = Head { ctx, log, budget: Budget::new(1 << 30), runtime };
    produce(harness, &mut head)?;
    fetch(harness, &mut head)?;
    heartbeat(harness, &mut head)
}

fn name(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn produce_request(topic: &'static str, partitions: i32, records: &Bytes) -> ProduceRequest {
    let data = (0..partitions)
        .map(|index| PartitionProduceData::default().with_index(index).with_records(Some(records.clone())));
    let topic = TopicProduceData::default().with_name(name(topic).into()).with_partition_data(data.collect());
    ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

fn produce(harness: &mut Harness, head: &mut Head) -> Result<()> {
    head.log.topic("produced", 100)?;
    let cases = [
        ("one record of 1 KiB", 1, batch(1 << 10, 1 << 10, Codec::None)?),
        ("64 KiB of 1 KiB records", 1, batch(64 << 10, 1 << 10, Codec::None)?),
        ("64 KiB of 1 KiB records, lz4", 1, batch(64 << 10, 1 << 10, Codec::Lz4)?),
        ("100 partitions, 1 KiB each", 100, batch(1 << 10, 1 << 10, Codec::None)?),
    ];
    for (what, partitions, records) in &cases {
        // Decoding and the answer alone: nobody knows the topic.
        let (handler, call) = head.call(PRODUCE, &produce_request("unknown", *partitions, records))?;
        harness.plain(&format!("kafka: Produce decoded and refused, {what}"), 0, || {
            black_box(head.handle(handler, &call)?);
            Ok(())
        })?;
    }
    for (what, partitions, records) in &cases {
        let (handler, call) = head.call(PRODUCE, &produce_request("produced", *partitions, records))?;
        let bytes = call.body.len();
        let step = Step {
            name: &format!("kafka: Produce checked and queued, {what}"),
            bytes,
            runs_max: ((24 << 20) / bytes as u64).min(20_000),
        };
        let run = |head: &mut Head| match head.handle(handler, &call)? {
            Outcome::Queued(waiting) => {
                drop(black_box(waiting));
                Ok(())
            }
            Outcome::Done(_) | Outcome::Waits(_) => bail!("the batch was refused"),
        };
        harness.step(step, head, run, |head| {
            head.log.commit()?;
            head.log.settle()
        })?;
    }
    Ok(())
}

fn fetch(harness: &mut Harness, head: &mut Head) -> Result<()> {
    head.log.topic("fetched", 1000)?;
    let records = batch(1 << 10, 1 << 10, Codec::None)?;
    let (handler, call) = head.call(PRODUCE, &produce_request("fetched", 1000, &records))?;
    head.finish(handler, &call)?;
    head.log.settle()?;
    for count in [1, 100, 1000] {
        let partitions =
            (0..count).map(|index| FetchPartition::default().with_partition(index).with_partition_max_bytes(1 << 20));
        let topic = FetchTopic::default().with_topic(name("fetched").into()).with_partitions(partitions.collect());
        let request = FetchRequest::default()
            .with_min_bytes(1)
            .with_max_wait_ms(500)
            .with_max_bytes(50 << 20)
            .with_session_id(0)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let (handler, call) = head.call(FETCH, &request)?;
        // What is not in memory yet comes with later answers.
        let wanted = usize::try_from(count)? << 10;
        let mut got = 0;
        for _ in 0..100 {
            got = match head.finish(handler, &call)? {
                Reply::Pieces(pieces) => pieces.iter().map(headwater_protocol::net::Piece::len).sum(),
                _ => bail!("an answer without records"),
            };
            if got > wanted {
                break;
            }
        }
        ensure!(got > wanted, "{got} bytes of {count} partitions");
        harness.plain(&format!("kafka: Fetch of {count} partitions, 1 KiB each"), 0, || {
            black_box(head.handle(handler, &call)?);
            Ok(())
        })?;
    }
    Ok(())
}

fn heartbeat(harness: &mut Harness, head: &mut Head) -> Result<()> {
    const NAME: &str = "kafka: Heartbeat of a stable group";
    if !harness.wants(NAME) {
        return Ok(());
    }
    let group = || name("micro").into();
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(name("range"))
        .with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x07fetched\xff\xff\xff\xff"));
    let mut joined = JoinGroupResponse::default();
    // The first answer names the member, the second lets it in; before that, the groups' topic is made and loaded.
    for _ in 0..20 {
        let join = JoinGroupRequest::default()
            .with_group_id(group())
            .with_member_id(joined.member_id.clone())
            .with_session_timeout_ms(300_000)
            .with_rebalance_timeout_ms(300_000)
            .with_protocol_type(name("consumer"))
            .with_protocols(vec![protocol.clone()]);
        let (handler, call) = head.call(JOIN, &join)?;
        joined = answer(head.finish(handler, &call)?, JOIN)?;
        if joined.error_code == 0 {
            break;
        }
    }
    ensure!(joined.error_code == 0, "joining failed with {}", joined.error_code);
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"all"));
    let sync = SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![assignment]);
    let (handler, call) = head.call(SYNC, &sync)?;
    head.finish(handler, &call)?;
    let beat = HeartbeatRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id);
    let (handler, call) = head.call(HEARTBEAT, &beat)?;
    let answered: kafka_protocol::messages::HeartbeatResponse = answer(head.finish(handler, &call)?, HEARTBEAT)?;
    ensure!(answered.error_code == 0, "the heartbeat failed with {}", answered.error_code);
    harness.plain(NAME, 0, || {
        black_box(head.handle(handler, &call)?);
        Ok(())
    })
}

/// The answer behind its length and correlation id. The versions here have no tags in the header.
fn answer<A: Decodable>(reply: Reply, version: i16) -> Result<A> {
    let Reply::Bytes(frame) = reply else { bail!("not an answer in one piece") };
    ensure!(frame.len() > 8, "a short answer");
    A::decode(&mut frame.slice(8..), version)
}
