//! Reading partitions: tasks ask their leaders for them, and a bounded channel brings the batches together, so that a slow
//! reader slows the tasks and nothing piles up.
//!
//! A task has a connection of its own and asks for the next batches before it hands on those that came, so that the broker
//! works while they are looked at. The batches of one partition come in their order; partitions come as they are answered.

use super::cluster::Retry;
use super::connection::Connection;
use super::{At, ClientError, Cluster};
use bytes::Bytes;
use headwater_engine::batch::{BatchHeader, headers};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

/// The first Fetch version that names topics by id, so that a topic of the same name that was made anew is not taken for the
/// one whose offsets are known.
const FETCH_VERSION_BY_ID: i16 = 13;
const ANSWER_SIZE: i32 = 4 << 20;
const PARTITION_SIZE: i32 = 1 << 20;
const LONG_POLL: Duration = Duration::from_millis(500);
const CHANNEL_SIZE: usize = 4;

/// A part of a partition.
#[derive(Debug, Clone)]
pub struct Span {
    pub topic: String,
    /// Nil when the broker does not know ids.
    pub topic_id: Uuid,
    pub partition: i32,
    /// The offset to read next.
    pub next: i64,
    /// Where reading ends. None: never.
    pub end: Option<i64>,
}

impl Span {
    /// Whether there is something left to read.
    pub fn is_open(&self) -> bool {
        self.end.is_none_or(|end| self.next < end)
    }
}

/// Whole batches of one partition. The first may begin before the offset that was asked for, the last may pass the end.
#[derive(Debug)]
pub struct Fetched {
    /// Which of the spans this belongs to.
    pub span: usize,
    /// Records before this offset were not asked for.
    pub from: i64,
    pub batches: Bytes,
}

/// Records that were deleted before they could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub span: usize,
    pub from: i64,
    /// The first offset that is still there.
    pub to: i64,
}

enum Event {
    /// Batches, and the offset after them.
    Batches(Fetched, i64),
    /// There is nothing up to this offset.
    Hole(usize, i64),
    /// These spans have no reader any more.
    Failed(Vec<usize>, ClientError),
}

/// A running read.
pub struct Fetcher<'a> {
    cluster: &'a mut Cluster,
    spans: Vec<Span>,
    /// Spans with damage ahead: they are read one batch at a time, so that everything before it comes.
    damaged: Vec<usize>,
    connections: usize,
    gaps: Vec<Gap>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    /// Spans that no task reads, because the last one failed.
    loose: Vec<usize>,
    /// Since the first of the failures in a row: how long to try again.
    retry: Option<Retry>,
}

impl<'a> Fetcher<'a> {
    /// Starts to read, over at most so many connections to each broker.
    pub fn new(cluster: &'a mut Cluster, spans: Vec<Span>, connections: usize) -> Fetcher<'a> {
        let (sender, events) = mpsc::channel(CHANNEL_SIZE);
        let loose = (0..spans.len()).filter(|span| spans[*span].is_open()).collect();
        let (connections, tasks) = (connections.max(1), JoinSet::new());
        let (damaged, gaps) = (Vec::new(), Vec::new());
        Fetcher { cluster, spans, damaged, connections, gaps, events, sender, tasks, loose, retry: None }
    }

    /// The spans, each with the offset that it is to go on from.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// What was deleted before it could be read, as far as it is known by now.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// The next batches; none when every span is read to its end.
    pub async fn next(&mut self) -> Result<Option<Fetched>, ClientError> {
        loop {
            if !self.loose.is_empty()
                && let Err(error) = self.start().await
            {
                self.pause_or(error).await?;
                continue;
            }
            if !self.spans.iter().any(Span::is_open) {
                return Ok(None);
            }
            match self.events.recv().await {
                Some(Event::Batches(fetched, next)) => {
                    self.retry = None;
                    self.spans[fetched.span].next = next;
                    return Ok(Some(fetched));
                }
                Some(Event::Hole(span, next)) => self.spans[span].next = next,
                Some(Event::Failed(spans, error)) => self.repair(spans, error).await?,
                None => return Ok(None),
            }
        }
    }

    /// Waits before another attempt. The time begins with the first failure and not with the last batch: that may have come long
    /// ago, when its reader takes its time and the broker lets go of a connection that nobody reads from.
    async fn pause_or(&mut self, error: ClientError) -> Result<(), ClientError> {
        let wait = self.cluster.wait();
        self.retry.get_or_insert_with(|| Retry::new(wait)).pause_or(error).await
    }

    /// Gives the loose spans to new tasks. What it could not give away stays loose.
    async fn start(&mut self) -> Result<(), ClientError> {
        while self.tasks.try_join_next().is_some() {} // what has ended is forgotten
        let mut by_leader: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        let mut topics: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for span in &self.loose {
            topics.entry(&self.spans[*span].topic).or_default().push(*span);
        }
        for (topic, spans) in topics {
            let partitions: Vec<i32> = spans.iter().map(|span| self.spans[*span].partition).collect();
            let state = self.cluster.topic(topic, false).await?;
            let is_new = |span: &usize| ![state.id, Uuid::nil()].contains(&self.spans[*span].topic_id);
            if !state.id.is_nil() && spans.iter().any(is_new) {
                return Err(ClientError::Remade { topic: topic.to_owned() });
            }
            for (leader, led) in state.leaders(&partitions)? {
                let of_leader = spans.iter().filter(|span| led.contains(&self.spans[**span].partition));
                by_leader.entry(leader).or_default().extend(of_leader);
            }
        }
        for (leader, spans) in by_leader {
            let connections = self.connections.min(spans.len());
            for first in 0..connections {
                let share: Vec<usize> = spans.iter().copied().skip(first).step_by(connections).collect();
                let connection = self.cluster.own(leader).await?;
                self.loose.retain(|span| !share.contains(span));
                let size = |span: &usize| if self.damaged.contains(span) { 1 } else { PARTITION_SIZE };
                let readings = share.iter().map(|span| Reading::new(*span, &self.spans[*span], size(span))).collect();
                self.tasks.spawn(read(connection, readings, self.sender.clone()));
            }
        }
        Ok(())
    }

    /// Spans came loose: finds out whether, and where, they can go on.
    async fn repair(&mut self, spans: Vec<usize>, error: ClientError) -> Result<(), ClientError> {
        if error.is(ResponseError::OffsetOutOfRange) {
            for span in &spans {
                let Span { topic, partition, next: from, .. } = self.spans[*span].clone();
                let to = self.offset(&topic, partition, At::Earliest).await?;
                if to <= from {
                    let end = self.offset(&topic, partition, At::Latest).await?;
                    return Err(ClientError::Shorter { place: format!("{topic}/{partition}"), wanted: from, end });
                }
                self.gaps.push(Gap { span: *span, from, to });
                self.spans[*span].next = to;
            }
        } else if error.is(ResponseError::CorruptMessage) {
            // What the broker has stored is damaged, perhaps only behind batches that can be had. Asking for the same again
            // does not mend it.
            if spans.iter().any(|span| self.damaged.contains(span)) {
                return Err(error);
            }
            self.damaged.extend(&spans);
        } else {
            self.pause_or(error).await?;
        }
        self.loose.extend(spans.into_iter().filter(|span| self.spans[*span].is_open()));
        Ok(())
    }

    async fn offset(&mut self, topic: &str, partition: i32, at: At) -> Result<i64, ClientError> {
        Ok(self.cluster.offsets(topic, &[partition], at).await?.get(&partition).copied().unwrap_or_default())
    }
}

/// A span in the hands of a task.
struct Reading {
    span: usize,
    topic: TopicName,
    topic_id: Uuid,
    partition: i32,
    next: i64,
    end: Option<i64>,
    /// How much to ask for, in bytes; a whole batch comes in any case.
    size: i32,
}

impl Reading {
    fn new(index: usize, span: &Span, size: i32) -> Reading {
        let topic = TopicName(StrBytes::from_string(span.topic.clone()));
        let Span { topic_id, partition, next, end, .. } = *span;
        Reading { span: index, topic, topic_id, partition, next, end, size }
    }

    fn is_open(&self) -> bool {
        self.end.is_none_or(|end| self.next < end)
    }

    fn place(&self) -> String {
        format!("{}/{} at offset {}", self.topic.as_str(), self.partition, self.next)
    }
}

/// Reads spans of one leader until each is at its end or has failed.
async fn read(mut connection: Connection, mut readings: VecDeque<Reading>, events: mpsc::Sender<Event>) {
    let mut asked = ask(&mut connection, &readings).await;
    while !readings.is_empty() {
        let found = match asked {
            Ok(version) => answer(&mut connection, version, &mut readings).await,
            Err(error) => Err(error),
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let spans = readings.into_iter().map(|reading| reading.span).collect();
                // Nobody listens any more when the read was given up.
                let _given_up = events.send(Event::Failed(spans, error)).await;
                return;
            }
        };
        readings.retain(Reading::is_open);
        asked = ask(&mut connection, &readings).await;
        for event in found {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// Asks for what comes next; nothing when nothing is left. Brokers fill an answer in the order of the partitions, so each
/// comes first in turn.
async fn ask(connection: &mut Connection, readings: &VecDeque<Reading>) -> Result<i16, ClientError> {
    let has_ids = readings.iter().all(|reading| !reading.topic_id.is_nil());
    let newest = if has_ids { FETCH_VERSION_BY_ID } else { FETCH_VERSION_BY_ID - 1 };
    let version = connection.version::<FetchRequest>(newest)?;
    if readings.is_empty() {
        return Ok(version);
    }
    let mut topics: Vec<FetchTopic> = Vec::new();
    for reading in readings {
        let row = FetchPartition::default()
            .with_partition(reading.partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(reading.next)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(reading.size);
        match topics.iter_mut().find(|topic| topic.topic == reading.topic) {
            Some(topic) => topic.partitions.push(row),
            // Of name and id, the version of the request takes one.
            None => topics.push(
                FetchTopic::default()
                    .with_topic(reading.topic.clone())
                    .with_topic_id(reading.topic_id)
                    .with_partitions(vec![row]),
            ),
        }
    }
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(i32::try_from(LONG_POLL.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(ANSWER_SIZE)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics);
    connection.begin(&request, version).await?;
    Ok(version)
}

/// Reads the answer, moves the readings on and takes out those that failed.
async fn answer(
    connection: &mut Connection,
    version: i16,
    readings: &mut VecDeque<Reading>,
) -> Result<Vec<Event>, ClientError> {
    let answer = connection.finish::<FetchRequest>(version, connection.wait()).await?;
    ClientError::check(answer.error_code, None, || "cannot read".to_owned())?;
    let rows = || answer.responses.iter().flat_map(|topic| topic.partitions.iter().map(move |row| (topic, row)));
    // A broker answers with one batch at least, if any of the partitions has one and none of them an error.
    let is_all = rows().all(|(_, row)| row.error_code == 0 && row.records.as_ref().is_none_or(Bytes::is_empty));
    let (mut events, mut failed) = (Vec::new(), Vec::new());
    for (at, (topic, row)) in rows().enumerate() {
        // They come in the order of the request, as a rule.
        let is_it = |reading: &Reading| {
            let is_topic = match version {
                FETCH_VERSION_BY_ID.. => reading.topic_id == topic.topic_id,
                _ => reading.topic == topic.topic,
            };
            is_topic && reading.partition == row.partition_index
        };
        let at = match readings.get(at).is_some_and(is_it) {
            true => Some(at),
            false => readings.iter().position(is_it),
        };
        let Some(reading) = at.and_then(|at| readings.get_mut(at)) else { continue };
        match read_row(reading, row, is_all) {
            Ok(event) => events.extend(event),
            Err(error) => {
                failed.push(reading.span);
                events.push(Event::Failed(vec![reading.span], error));
            }
        }
    }
    readings.retain(|reading| !failed.contains(&reading.span));
    readings.rotate_left(usize::from(readings.len() > 1));
    Ok(events)
}

fn read_row(reading: &mut Reading, row: &PartitionData, is_all: bool) -> Result<Option<Event>, ClientError> {
    ClientError::check(row.error_code, None, || format!("cannot read {}", reading.place()))?;
    let Some(bytes) = row.records.as_ref().filter(|bytes| !bytes.is_empty()) else {
        return match reading.end {
            // It will never come: the partition had it when the end was chosen.
            Some(wanted) if row.high_watermark < wanted => {
                let place = format!("{}/{}", reading.topic.as_str(), reading.partition);
                Err(ClientError::Shorter { place, wanted, end: row.high_watermark })
            }
            // Nothing is left up to the high watermark: the records there were compacted away.
            Some(end) if is_all => {
                reading.next = end;
                Ok(Some(Event::Hole(reading.span, end)))
            }
            _ => Ok(None),
        };
    };
    let mut walk = headers(bytes);
    let last = walk.by_ref().last();
    let size = walk.position();
    let Some((_, last)) = last else {
        let why = BatchHeader::parse(bytes).err().map_or_else(|| "a batch is cut off".to_owned(), |e| e.to_string());
        return Err(ClientError::Invalid(format!("{} cannot be read: {why}", reading.place())));
    };
    let (from, next) = (reading.next, last.next_offset().0);
    if next <= from {
        return Err(ClientError::Invalid(format!("{} cannot be read: batches before it came", reading.place())));
    }
    reading.next = next;
    Ok(Some(Event::Batches(Fetched { span: reading.span, from, batches: bytes.slice(..size) }, reading.next)))
}
