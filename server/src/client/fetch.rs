//! Reading partitions: tasks ask their leaders for them, and a bounded channel brings the batches together, so that a slow
//! reader slows the tasks and nothing piles up.
//!
//! A task has a connection of its own and asks for the next batches before it hands on those that came, so that the broker
//! works while they are looked at. The batches of one partition come in their order; partitions come as they are answered.
//! There are never more tasks for a broker than were asked for: what comes loose joins the readings of a task that is there.

mod reader;

use super::cluster::Retry;
use super::{At, ClientError, Cluster};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use reader::{Event, Reading, read};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

const PARTITION_SIZE: i32 = 1 << 20;
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
    /// The first offset that is still there, or the end of the span.
    pub to: i64,
}

/// A task that reads from one broker, and what it is given to read.
struct Reader {
    leader: i32,
    inbox: mpsc::UnboundedSender<Reading>,
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
    readers: Vec<Reader>,
    /// Counts the spans that were given away, so that they spread over the readers.
    turn: usize,
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
        Fetcher {
            cluster,
            spans,
            damaged: Vec::new(),
            connections,
            gaps: Vec::new(),
            events,
            sender,
            tasks,
            readers: Vec::new(),
            turn: 0,
            loose,
            retry: None,
        }
    }

    /// The spans, each with the offset that it is to go on from.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// What was deleted before it could be read, as far as it is known by now.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// What is to be said about a gap.
    pub fn describe(&self, gap: &Gap) -> String {
        let Span { topic, partition, .. } = &self.spans[gap.span];
        let Gap { from, to, .. } = gap;
        format!("records of {topic}/{partition} from offset {from} to {to} were deleted before they were read")
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

    /// Gives the loose spans to tasks. What it could not give away stays loose.
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
        let mut given = BTreeSet::new();
        let done = self.give_all(by_leader, &mut given).await;
        self.loose.retain(|span| !given.contains(span));
        done
    }

    async fn give_all(
        &mut self,
        by_leader: BTreeMap<i32, Vec<usize>>,
        given: &mut BTreeSet<usize>,
    ) -> Result<(), ClientError> {
        for (leader, spans) in by_leader {
            for span in spans {
                self.give(leader, span).await?;
                given.insert(span);
            }
        }
        Ok(())
    }

    /// Gives a span to a task: to a new one, until there are as many as the broker may have.
    async fn give(&mut self, leader: i32, span: usize) -> Result<(), ClientError> {
        let size = if self.damaged.contains(&span) { 1 } else { PARTITION_SIZE };
        let mut reading = Reading::new(span, &self.spans[span], size);
        loop {
            self.readers.retain(|reader| !reader.inbox.is_closed());
            let of_leader = self.readers.iter().enumerate().filter(|(_, reader)| reader.leader == leader);
            let of_leader: Vec<usize> = of_leader.map(|(at, _)| at).collect();
            let at = if of_leader.len() < self.connections {
                let connection = self.cluster.own(leader).await?;
                let (inbox, given) = mpsc::unbounded_channel();
                self.tasks.spawn(read(connection, given, self.sender.clone()));
                self.readers.push(Reader { leader, inbox });
                self.readers.len() - 1
            } else {
                self.turn = self.turn.wrapping_add(1);
                of_leader[self.turn % of_leader.len()]
            };
            // A task that has just failed takes nothing any more.
            match self.readers[at].inbox.send(reading) {
                Ok(()) => return Ok(()),
                Err(back) => reading = back.0,
            }
        }
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
                // What comes after the span's end is nobody's loss.
                let to = self.spans[*span].end.map_or(to, |end| to.min(end));
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
