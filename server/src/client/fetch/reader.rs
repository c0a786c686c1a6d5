//! The task that reads spans from one broker: what it asks, and what it makes of the answers.

use super::{Fetched, Span};
use crate::client::ClientError;
use crate::client::connection::Connection;
use crate::client::offsets::ask_offsets;
use bytes::Bytes;
use headwater_engine::batch::{BatchHeader, headers};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// The first Fetch version that names topics by id, so that a topic of the same name that was made anew is not taken for the
/// one whose offsets are known.
const FETCH_VERSION_BY_ID: i16 = 13;
const ANSWER_SIZE: i32 = 4 << 20;
const LONG_POLL: Duration = Duration::from_millis(500);
/// How many answers in a row must be empty before they mean that nothing is left.
const EMPTY_ANSWERS: u32 = 2;
/// A place in a partition: the first offset that is on the broker's own disk. What lies before it is in remote storage.
const EARLIEST_LOCAL: i64 = -4;
/// The first ListOffsets version that knows it.
const LIST_OFFSETS_VERSION_LOCAL: i16 = 8;
/// How long to wait between questions for batches that the broker has but does not give, and how long it may take for each.
const OWED_PAUSE: Duration = Duration::from_millis(100);
const OWED_LONG_POLL_MAX: Duration = Duration::from_secs(5);

/// What a task has to say.
pub(super) enum Event {
    /// Batches, and the offset after them.
    Batches(Fetched, i64),
    /// There is nothing up to this offset.
    Hole(usize, i64),
    /// These spans have no reader any more, all for the same reason.
    Failed(Vec<usize>, ClientError),
}

/// A span in the hands of a task.
pub(super) struct Reading {
    span: usize,
    topic: TopicName,
    topic_id: Uuid,
    partition: i32,
    next: i64,
    end: Option<i64>,
    /// How much to ask for, in bytes; a whole batch comes in any case.
    size: i32,
    /// How many answers in a row had no batch, neither of this partition nor of another.
    empty_answers: u32,
    /// How long it was waited for batches that the broker has but does not give. Zero: it owes none.
    owed: Duration,
}

impl Reading {
    pub(super) fn new(index: usize, span: &Span, size: i32) -> Reading {
        let topic = TopicName(StrBytes::from_string(span.topic.clone()));
        let Span { topic_id, partition, next, end, .. } = *span;
        Reading { span: index, topic, topic_id, partition, next, end, size, empty_answers: 0, owed: Duration::ZERO }
    }

    fn is_open(&self) -> bool {
        self.end.is_none_or(|end| self.next < end)
    }

    /// The broker has more and does not give it. It is asked again, until this took as long as an operation may.
    fn owe(&mut self, waited: Duration, wait: Duration) -> Result<(), ClientError> {
        self.owed += waited.max(OWED_PAUSE);
        if self.owed > wait {
            return Err(ClientError::Owed { place: self.place(), after: wait });
        }
        Ok(())
    }

    fn place(&self) -> String {
        format!("{}/{} at offset {}", self.topic.as_str(), self.partition, self.next)
    }
}

/// Reads the spans of one leader that it is given. After a failure of the connection it takes no more.
pub(super) async fn read(
    mut connection: Connection,
    mut given: mpsc::UnboundedReceiver<Reading>,
    events: mpsc::Sender<Event>,
) {
    let mut readings = VecDeque::new();
    let mut found = Vec::new();
    loop {
        readings.retain(Reading::is_open);
        while let Ok(reading) = given.try_recv() {
            readings.push_back(reading);
        }
        if found.is_empty() && readings.iter().any(|reading| !reading.owed.is_zero()) {
            sleep(OWED_PAUSE).await;
        }
        let asked = ask(&mut connection, &readings).await;
        for event in found {
            // Nobody listens any more when the read was given up.
            if events.send(event).await.is_err() {
                return;
            }
        }
        if readings.is_empty() {
            found = Vec::new();
            match given.recv().await {
                Some(reading) => readings.push_back(reading),
                None => return,
            }
            continue;
        }
        found = match asked {
            Ok(version) => answer(&mut connection, version, &mut readings).await,
            Err(error) => Err(error),
        }
        .unwrap_or_else(|error| {
            given.close();
            while let Ok(reading) = given.try_recv() {
                readings.push_back(reading);
            }
            vec![Event::Failed(readings.drain(..).map(|reading| reading.span).collect(), error)]
        });
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
    // Remote storage takes its time, and a question that was answered too soon begins anew.
    let max_wait = match readings.iter().any(|reading| !reading.owed.is_zero()) {
        true => OWED_LONG_POLL_MAX.min(connection.wait() / 2),
        false => LONG_POLL,
    };
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX))
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
    let (begun, wait) = (Instant::now(), connection.wait());
    let answer = connection.finish::<FetchRequest>(version, wait).await?;
    let waited = begun.elapsed();
    ClientError::check(answer.error_code, None, || "cannot read".to_owned())?;
    let rows = || answer.responses.iter().flat_map(|topic| topic.partitions.iter().map(move |row| (topic, row)));
    // A broker answers with one batch at least, if any of the partitions has one at hand and none of them an error.
    let is_all = rows()
        .all(|(_, row)| row.error_code == 0 && !is_elsewhere(row) && row.records.as_ref().is_none_or(Bytes::is_empty));
    let mut events = Vec::new();
    let mut failed: Vec<(Vec<usize>, ClientError)> = Vec::new();
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
        let read = read_row(reading, row, is_all).and_then(|event| match is_elsewhere(row) && event.is_none() {
            true => reading.owe(waited, wait).map(|()| None),
            false => Ok(event),
        });
        match read {
            Ok(event) => events.extend(event),
            Err(error) => match failed.iter_mut().find(|(_, other)| is_alike(other, &error)) {
                Some((spans, _)) => spans.push(reading.span),
                None => failed.push((vec![reading.span], error)),
            },
        }
    }
    if failed.is_empty() && is_all {
        events.extend(holes(connection, readings, waited).await?);
    }
    readings.retain(|reading| !failed.iter().any(|(spans, _)| spans.contains(&reading.span)));
    events.extend(failed.into_iter().map(|(spans, error)| Event::Failed(spans, error)));
    readings.rotate_left(usize::from(readings.len() > 1));
    Ok(events)
}

/// Whether the broker says that another replica is to be asked.
fn is_elsewhere(row: &PartitionData) -> bool {
    row.preferred_read_replica.0 >= 0
}

/// Whether one answer to both will do. Damage is a matter of each partition.
fn is_alike(one: &ClientError, other: &ClientError) -> bool {
    match (one, other) {
        (ClientError::Refused { code, .. }, ClientError::Refused { code: other, .. }) => {
            code == other && *code != ResponseError::CorruptMessage.code()
        }
        (ClientError::Shorter { .. }, ClientError::Shorter { .. }) => true,
        _ => false,
    }
}

/// Spans of which nothing is left up to their end: the records there were compacted away. A broker with remote storage gives
/// the same empty answer when it could not get at a batch in time, so it must come again, and must not be about a part of the
/// log that is there alone.
async fn holes(
    connection: &mut Connection,
    readings: &mut VecDeque<Reading>,
    waited: Duration,
) -> Result<Vec<Event>, ClientError> {
    let is_silent = |reading: &Reading| reading.end.is_some() && reading.empty_answers >= EMPTY_ANSWERS;
    let mut local: BTreeMap<(TopicName, i32), i64> = BTreeMap::new();
    let version = connection.version::<ListOffsetsRequest>(i16::MAX)?;
    if version >= LIST_OFFSETS_VERSION_LOCAL {
        let mut topics: BTreeMap<TopicName, Vec<i32>> = BTreeMap::new();
        for reading in readings.iter().filter(|reading| is_silent(reading)) {
            topics.entry(reading.topic.clone()).or_default().push(reading.partition);
        }
        for (topic, partitions) in topics {
            let starts = ask_offsets(connection, topic.as_str(), &partitions, EARLIEST_LOCAL).await?;
            local.extend(starts.into_iter().map(|(partition, start)| ((topic.clone(), partition), start)));
        }
    }
    let wait = connection.wait();
    let mut events = Vec::new();
    for reading in readings.iter_mut().filter(|reading| is_silent(reading)) {
        let start = local.get(&(reading.topic.clone(), reading.partition));
        if start.is_some_and(|start| reading.next < *start) {
            reading.owe(waited, wait)?;
        } else if let Some(end) = reading.end {
            reading.next = end;
            events.push(Event::Hole(reading.span, end));
        }
    }
    Ok(events)
}

fn read_row(reading: &mut Reading, row: &PartitionData, is_all: bool) -> Result<Option<Event>, ClientError> {
    ClientError::check(row.error_code, None, || format!("cannot read {}", reading.place()))?;
    let Some(bytes) = row.records.as_ref().filter(|bytes| !bytes.is_empty()) else {
        reading.empty_answers = if is_all { reading.empty_answers.saturating_add(1) } else { 0 };
        return match reading.end {
            // It will never come: the partition had it when the end was chosen.
            Some(wanted) if row.high_watermark < wanted => {
                let place = format!("{}/{}", reading.topic.as_str(), reading.partition);
                Err(ClientError::Shorter { place, wanted, end: row.high_watermark })
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
    (reading.next, reading.empty_answers, reading.owed) = (next, 0, Duration::ZERO);
    Ok(Some(Event::Batches(Fetched { span: reading.span, from, batches: bytes.slice(..size) }, reading.next)))
}
