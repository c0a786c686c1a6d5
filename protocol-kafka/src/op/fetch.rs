//! Fetch: record batches out of partitions, as ranges of segment files.
//!
//! A fetch reads what it is asked for, in order, up to its byte limits. When that is too little it waits, woken once by the
//! engine's watcher when enough was published, and reads again what has news. Cold ranges are read by the engine's
//! replay threads, all of a request's at once; the connection's thread never waits for the medium. While such an answer is sent, what the next one will
//! probably hold is read ahead.

mod again;
mod long_poll;

pub use again::LastFetch;
pub use long_poll::LongPoll;

use self::again::{Ahead, Asked};
use self::long_poll::{Framed, What};
use crate::call::{Call, Close, Outcome, Reply, Running};
use crate::codec::TopicRef;
use crate::codec::fetch::{Endpoint, FetchAnswer, Part, PartitionAnswer, Records, TooLong, TopicAnswer, encode};
use crate::connection::{Begun, PartitionPlan, Position, Session, Wanted, WatchedPartitions};
use crate::context::Context;
use crate::map::Failure;
use headwater_engine::{
    Abandoned, Batches, Bounds, Epoch, FileRange, Offloaded, Offset, Partition, Read, ReadError, ReadRequest,
};
use headwater_protocol::net::Piece;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// The first version that names topics by id.
const VERSION_TOPIC_IDS: i16 = 13;
/// The first version that tells a client with an old leader where the new one is.
const VERSION_ENDPOINTS: i16 = 16;
const READ_COMMITTED: i8 = 1;
/// What a partition of a request takes of memory while the request waits, about.
const PARTITION_BYTES: u64 = 256;
/// Ranges that one request has read from the medium at a time. The partitions behind them have their turn with the next.
const COLD_MAX: usize = 64;

impl Records for FileRange {
    fn size(&self) -> usize {
        self.len()
    }
}

pub(crate) fn handle(ctx: Arc<Context>, mut call: Call) -> Running {
    Box::pin(async move {
        let kept = std::mem::take(&mut *call.last_fetch.lock());
        let asked = kept.asked.filter(|asked| asked.is(call.version, &call.body));
        let since = Instant::now();
        if let Some(asked) = asked {
            let question = Framed::of(&call, asked.terms, None);
            drop(call.let_go());
            let due = ctx.wait_ends.end(since, asked.terms.wait);
            return asked_again(&ctx, call, asked, (since, due), question).await;
        }
        let request: FetchRequest = call.decode()?;
        let again = again::question(call.version, &call.body, &request);
        let terms = Terms::of(&ctx, &request);
        let due = ctx.wait_ends.end(since, terms.wait);
        let uses_topic_ids = call.version >= VERSION_TOPIC_IDS;
        let session = (request.session_id, request.session_epoch);
        let says_nothing = request.topics.is_empty() && request.forgotten_topics_data.is_empty();
        let is_idle = says_nothing && kept.idle_session == Some(request.session_id);
        let question = is_idle.then(|| Framed::of(&call, terms, Some(session))).flatten();
        let mut memory = call.let_go();
        let fetch = Fetch::new(&ctx, &call, terms, due);
        let (wanted, forgotten) = partitions(request, uses_topic_ids);
        let begun = ctx.fetch_sessions.begin(&ctx.engine, session, uses_topic_ids, wanted, forgotten);
        // A session's memory has its own bound.
        memory.shrink_to(begun.own().map_or(0, |own| own.len() as u64 * PARTITION_BYTES));
        let answer = match begun {
            Begun::Refused(error) => fetch.refusal(error, 0),
            Begun::Sessionless(mut partitions) => {
                let mut found = fetch.run(&mut Own(&mut partitions)).await?;
                let answer = fetch.answer(&mut partitions, &mut found, 0, true);
                if let Some(again) = again {
                    call.last_fetch.lock().asked = again.keep(terms, partitions, found, memory);
                }
                answer
            }
            Begun::Full(mut partitions) => {
                let mut found = fetch.run(&mut Own(&mut partitions)).await?;
                match ctx.fetch_sessions.open(&ctx.engine, uses_topic_ids, &mut partitions) {
                    Some(session) => fetch.answer(&mut session.state.lock().partitions, &mut found, session.id, true),
                    None => fetch.answer(&mut partitions, &mut found, 0, true),
                }
            }
            Begun::Incremental(session, epoch) => {
                return in_session(&ctx, call, (session, epoch), terms, (since, due), question).await;
            }
        };
        fetch.reply(answer).map(Outcome::Done)
    })
}

/// Answers a question that was asked before, from what was found then and from what is new.
async fn asked_again(
    ctx: &Arc<Context>,
    call: Call,
    mut asked: Box<Asked>,
    (since, due): (Instant, Instant),
    question: Option<Framed>,
) -> Result<Outcome, Close> {
    let fetch = Fetch::new(ctx, &call, asked.terms, due);
    let mut found = std::mem::take(&mut asked.found);
    if !fetch.look(&mut Own(&mut asked.partitions), &mut found).await? {
        if let Some(question) = question.filter(|_| found.values().all(Found::is_idle)) {
            let answer = fetch.answer(&mut asked.partitions, &mut found, 0, true);
            let answer = fetch.encode(answer)?;
            asked.found = found;
            let wait = asked.terms.wait;
            let poll = LongPoll::new(ctx, call, question, answer, (since, due, wait), What::Again(asked));
            return Ok(Outcome::Waits(Box::new(poll)));
        }
        fetch.wait(&mut Own(&mut asked.partitions), &mut found).await?;
    }
    let answer = fetch.answer(&mut asked.partitions, &mut found, 0, true);
    asked.found = found;
    call.last_fetch.lock().asked = asked.kept();
    fetch.reply(answer).map(Outcome::Done)
}

/// Answers a session's question with what is new.
async fn in_session(
    ctx: &Arc<Context>,
    call: Call,
    (session, epoch): (Arc<Session>, i32),
    terms: Terms,
    (since, due): (Instant, Instant),
    question: Option<Framed>,
) -> Result<Outcome, Close> {
    let fetch = Fetch::new(ctx, &call, terms, due);
    let mut found = BTreeMap::new();
    if !fetch.look(&mut Shared(&session.state), &mut found).await? {
        // Another request may have got in between, or closed the session.
        let is_in_step = || ctx.fetch_sessions.expects(&session, epoch);
        if let Some(question) = question.filter(|_| found.is_empty() && is_in_step()) {
            let nothing =
                FetchAnswer { error_code: 0, session_id: session.id, topics: Vec::new(), endpoints: Vec::new() };
            let answer = fetch.encode(nothing)?;
            let what = What::Session(session, epoch, terms);
            let poll = LongPoll::new(ctx, call, question, answer, (since, due, terms.wait), what);
            return Ok(Outcome::Waits(Box::new(poll)));
        }
        fetch.wait(&mut Shared(&session.state), &mut found).await?;
    }
    let answer = {
        let mut state = session.state.lock();
        if state.epoch == epoch {
            fetch.answer(&mut state.partitions, &mut found, session.id, false)
        } else {
            // Another request of the session got in between: this answer would come in the wrong order.
            fetch.refusal(ResponseError::InvalidFetchSessionEpoch, session.id)
        }
    };
    let is_idle = answer.error_code == 0 && answer.topics.is_empty();
    call.last_fetch.lock().idle_session = is_idle.then_some(session.id);
    fetch.reply(answer).map(Outcome::Done)
}

/// What a request names: partitions to fetch, and those that its session shall forget.
fn partitions(request: FetchRequest, uses_topic_ids: bool) -> (Vec<Wanted>, Vec<(TopicRef, i32)>) {
    let mut wanted = Vec::new();
    for topic in request.topics {
        let named = if uses_topic_ids { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(topic.topic.0) };
        wanted.extend(topic.partitions.into_iter().map(|partition| Wanted {
            topic: named.clone(),
            index: partition.partition,
            position: Position {
                from: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
                leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
            },
        }));
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        let named = if uses_topic_ids { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(topic.topic.0) };
        forgotten.extend(topic.partitions.into_iter().map(|index| (named.clone(), index)));
    }
    (wanted, forgotten)
}

/// Partitions that are this request's own, or a session's behind its lock. The lock is never held across a wait.
trait Partitions: Send {
    fn with<T>(&mut self, act: impl FnOnce(&mut WatchedPartitions) -> T) -> T;
}

struct Own<'a>(&'a mut WatchedPartitions);
struct Shared<'a>(&'a parking_lot::Mutex<crate::connection::SessionState>);

impl Partitions for Own<'_> {
    fn with<T>(&mut self, act: impl FnOnce(&mut WatchedPartitions) -> T) -> T {
        act(self.0)
    }
}

impl Partitions for Shared<'_> {
    fn with<T>(&mut self, act: impl FnOnce(&mut WatchedPartitions) -> T) -> T {
        act(&mut self.0.lock().partitions)
    }
}

/// What reading a partition came to.
struct Found {
    error: Option<ResponseError>,
    /// -1 each where the partition has none, as with an error.
    bounds: Option<Bounds>,
    records: Option<FileRange>,
    /// The offset behind them.
    next: Offset,
    diverging: Option<(i32, i64)>,
    /// The leader's epoch, for a client that has an old one.
    leader_epoch: Option<Epoch>,
    /// Whether the answer must not wait because of this.
    is_urgent: bool,
    /// Whether there is, or may be, more to read without news.
    has_more: bool,
}

impl Found {
    fn error(error: ResponseError) -> Found {
        Found {
            error: Some(error),
            bounds: None,
            records: None,
            next: Offset(0),
            diverging: None,
            leader_epoch: None,
            is_urgent: true,
            has_more: true,
        }
    }

    fn bounds(bounds: Bounds) -> Found {
        Found {
            error: None,
            bounds: Some(bounds),
            records: None,
            next: Offset(0),
            diverging: None,
            leader_epoch: None,
            is_urgent: false,
            has_more: false,
        }
    }

    /// Whether it holds until the watcher tells of news.
    fn is_idle(&self) -> bool {
        self.error.is_none() && self.records.is_none() && self.diverging.is_none() && !self.has_more
    }

    /// Whether it has records, and the answer has no room for them.
    fn found_no_room(&self) -> bool {
        self.error.is_none() && self.records.is_none() && self.diverging.is_none() && self.has_more
    }

    fn size(&self) -> usize {
        self.records.as_ref().map_or(0, FileRange::len)
    }
}

/// What has its turn in the answer after one that may have come from the medium: first what found no room, then what follows its records.
#[derive(Default)]
struct Next {
    without_room: Vec<(Arc<Partition>, Position)>,
    behind: Vec<(Arc<Partition>, Position)>,
    /// Whether this one had to wait for the medium.
    is_after_cold: bool,
}

/// A read on its way.
enum Reading {
    Done(Found),
    /// So many bytes at most.
    Cold(Offloaded<Result<Batches, ReadError>>, usize),
}

/// What a request says beside its partitions.
#[derive(Clone, Copy)]
struct Terms {
    bytes_max: usize,
    bytes_min: usize,
    wait: Duration,
    stable_only: bool,
}

impl Terms {
    fn of(ctx: &Context, request: &FetchRequest) -> Terms {
        let limits = &ctx.options.limits;
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(limits.fetch_wait_max);
        let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(limits.fetch_bytes_max);
        Terms {
            bytes_max,
            // More than the answer can hold would always wait to the end.
            bytes_min: usize::try_from(request.min_bytes).unwrap_or(0).min(bytes_max),
            wait,
            stable_only: request.isolation_level == READ_COMMITTED,
        }
    }
}

/// How much a consumer takes of a partition.
fn room_of(position: &Position) -> usize {
    usize::try_from(position.bytes_max).unwrap_or(0)
}

/// One request.
struct Fetch<'a> {
    ctx: &'a Context,
    call: &'a Call,
    bytes_max: usize,
    bytes_min: usize,
    deadline: Instant,
    stable_only: bool,
}

impl<'a> Fetch<'a> {
    fn new(ctx: &'a Context, call: &'a Call, terms: Terms, deadline: Instant) -> Fetch<'a> {
        let Terms { bytes_max, bytes_min, stable_only, .. } = terms;
        Fetch { ctx, call, bytes_max, bytes_min, deadline, stable_only }
    }

    /// Reads until there is enough, or no more time.
    async fn run(&self, partitions: &mut impl Partitions) -> Result<BTreeMap<u32, Found>, Close> {
        let mut found = BTreeMap::new();
        if !self.look(partitions, &mut found).await? {
            self.wait(partitions, &mut found).await?;
        }
        Ok(found)
    }

    /// Goes on after a look that was not enough: the watcher has counted what came since. `found` holds until there are news.
    async fn wait(&self, partitions: &mut impl Partitions, found: &mut BTreeMap<u32, Found>) -> Result<(), Close> {
        loop {
            let size: usize = found.values().map(Found::size).sum();
            let watcher = partitions.with(|set| set.watcher());
            let news = watcher.wait((self.bytes_min - size) as u64);
            let drained = poll_fn(|_| if self.ctx.is_draining() { Poll::Ready(()) } else { Poll::Pending });
            tokio::select! {
                biased;
                () = news => {}
                () = tokio::time::sleep_until(self.deadline) => {}
                () = drained => {}
            }
            if self.look(partitions, found).await? {
                return Ok(());
            }
        }
    }

    /// Reads what there is. Says whether that is to be answered, because it is enough or there is no more time. If not, the watcher
    /// tells of more.
    async fn look(&self, partitions: &mut impl Partitions, found: &mut BTreeMap<u32, Found>) -> Result<bool, Close> {
        loop {
            let plans = partitions.with(|set| set.plan(&self.ctx.engine));
            let (fresh, next) = self.read(plans).await?;
            partitions.with(|set| {
                for (token, found) in &fresh {
                    let is_gone = matches!(
                        found.error,
                        Some(ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId)
                    );
                    set.settle(*token, found.has_more, is_gone);
                }
                set.settled();
            });
            found.extend(fresh);
            let size: usize = found.values().map(Found::size).sum();
            let is_enough = size >= self.bytes_min
                || found.values().any(|found| found.is_urgent)
                // Nothing is there to wait for.
                || partitions.with(|set| set.present()) == 0;
            if is_enough {
                self.read_ahead(next);
            }
            if is_enough || Instant::now() >= self.deadline || self.ctx.is_draining() {
                return Ok(true);
            }
            let news = partitions.with(|set| {
                set.watch(|token| found.get(&token).and_then(|found| found.bounds).map(|bounds| bounds.high_watermark))
            });
            if !news {
                return Ok(false);
            }
        }
    }

    /// Reads each partition, in order, up to the limits.
    async fn read(&self, plans: Vec<PartitionPlan>) -> Result<(Vec<(u32, Found)>, Option<Next>), Close> {
        let mut left = self.bytes_max;
        let mut is_first = true;
        let (mut cold, mut warm_bytes) = (0, 0);
        let mut found = Vec::with_capacity(plans.len());
        let mut readings = Vec::with_capacity(plans.len());
        for PartitionPlan { token, partition, position } in plans {
            let partition = match partition {
                Ok(partition) => partition,
                // The others need not hurry because of it.
                Err(error) => {
                    found.push((token, Found { is_urgent: false, ..Found::error(error) }));
                    continue;
                }
            };
            let reading = match self.check(&partition, &position) {
                Some(found) => Reading::Done(found),
                None => self.start_read(&partition, &position, left, is_first, cold < COLD_MAX),
            };
            let (size, does_not_fit) = match &reading {
                Reading::Done(found) => {
                    warm_bytes += found.size();
                    (found.size(), found.found_no_room() && left < room_of(&position))
                }
                // How much it will be is not known yet; the limits hold if it is as much as it may be.
                Reading::Cold(_, at_most) => {
                    cold += 1;
                    (left.min(*at_most).max(1), false)
                }
            };
            left = left.saturating_sub(size);
            is_first &= size == 0;
            if does_not_fit && cold < COLD_MAX && warm_bytes >= self.bytes_min.max(1) {
                // Others have smaller batches perhaps, but to look for them takes longer than to answer.
                left = 0;
            }
            readings.push((token, partition, position, reading));
        }
        let is_after_cold = cold > 0;
        let may_be_cold = is_after_cold || self.call.last_fetch.is_cold();
        let mut next = may_be_cold.then(|| Next { is_after_cold, ..Next::default() });
        for (token, partition, position, reading) in readings {
            let read = match reading {
                Reading::Done(found) => found,
                Reading::Cold(read, _) => match read.await {
                    Ok(Ok(batches)) => self.batches(&position, batches),
                    Ok(Err(error)) => self.read_error(error),
                    Err(Abandoned) => return Err(Close::Stopped),
                },
            };
            if let Some(next) = &mut next {
                if read.records.is_some() {
                    next.behind.push((partition, Position { from: read.next.0, ..position }));
                } else if read.found_no_room() {
                    next.without_room.push((partition, position));
                }
            }
            found.push((token, read));
        }
        Ok((found, next))
    }

    /// Has an answer's worth of bytes brought into memory while this one is sent, when it, or what was read ahead for it, came from the medium.
    fn read_ahead(&self, next: Option<Next>) {
        let Some(next) = next else { return };
        let ahead = Arc::new(Ahead);
        let mut is_cold = next.is_after_cold;
        if self.ctx.engine.may_read_ahead() {
            let mut left = self.bytes_max;
            let turns = next.without_room.iter().chain(&next.behind);
            for (number, (partition, position)) in turns.take(COLD_MAX).enumerate() {
                if left == 0 {
                    break;
                }
                let size = match partition.read(&self.request(position, left.min(room_of(position)), number == 0)) {
                    Ok(Read::Ready(batches)) => batches.range.map_or(0, |range| range.len()),
                    Ok(Read::Cold(cold)) => {
                        let size = cold.at_most();
                        let held = Arc::downgrade(&ahead);
                        is_cold |= self.ctx.engine.read_ahead(cold, move || held.strong_count() > 0);
                        size
                    }
                    // It is told when it is read.
                    Err(_) => 0,
                };
                left = left.saturating_sub(size);
            }
        }
        self.call.last_fetch.set_ahead(is_cold.then_some(ahead));
    }

    /// What is known of a partition without a look at its log, when the answer has no room for its records. None when it has no records there.
    fn no_room(&self, partition: &Partition, position: &Position) -> Option<Found> {
        let bounds = partition.bounds_with_records_at(Offset(position.from), self.stable_only)?;
        Some(Found { has_more: true, ..Found::bounds(bounds) })
    }

    /// With `at_least_one` a whole batch is read even when there is room for no byte, so that every consumer gets on.
    fn request(&self, position: &Position, bytes_max: usize, at_least_one: bool) -> ReadRequest {
        let bytes_max = bytes_max.max(usize::from(at_least_one));
        ReadRequest { from: Offset(position.from), bytes_max, at_least_one, stable_only: self.stable_only }
    }

    /// The answers that need no reading: the client's leader epoch is not ours, or its log has parted from ours.
    fn check(&self, partition: &Partition, position: &Position) -> Option<Found> {
        let epoch = partition.leader_epoch();
        if position.leader_epoch >= 0 && position.leader_epoch != epoch.0 {
            let is_old = position.leader_epoch < epoch.0;
            let error = if is_old { ResponseError::FencedLeaderEpoch } else { ResponseError::UnknownLeaderEpoch };
            return Some(Found { leader_epoch: is_old.then_some(epoch), ..Found::error(error) });
        }
        if position.last_fetched_epoch >= 0 {
            let bounds = partition.bounds();
            // An epoch that is still to come ends nowhere.
            let end = if position.last_fetched_epoch > epoch.0 {
                None
            } else {
                partition.epoch_end(Epoch(position.last_fetched_epoch))
            };
            let Some((epoch, end)) = end else {
                return Some(Found::error(ResponseError::OffsetOutOfRange));
            };
            if position.from >= bounds.log_start.0 && (epoch.0 < position.last_fetched_epoch || end.0 < position.from) {
                let diverging = Some((epoch.0, end.0));
                return Some(Found { diverging, is_urgent: true, has_more: true, ..Found::bounds(bounds) });
            }
        }
        None
    }

    fn start_read(
        &self,
        partition: &Arc<Partition>,
        position: &Position,
        left: usize,
        is_first: bool,
        may_wait: bool,
    ) -> Reading {
        if left == 0
            && !is_first
            && let Some(found) = self.no_room(partition, position)
        {
            return Reading::Done(found);
        }
        let bytes_max = left.min(room_of(position));
        match partition.read(&self.request(position, bytes_max, is_first)) {
            Ok(Read::Ready(batches)) => Reading::Done(self.batches(position, batches)),
            Ok(Read::Cold(cold)) if may_wait && (bytes_max > 0 || is_first) => {
                let at_most = cold.at_most();
                Reading::Cold(self.ctx.engine.offload(move || cold.read()), at_most)
            }
            // No room is left: it has its turn in the next answer.
            Ok(Read::Cold(_)) => Reading::Done(Found { has_more: true, ..Found::bounds(partition.bounds()) }),
            Err(error) => Reading::Done(self.read_error(error)),
        }
    }

    fn batches(&self, position: &Position, batches: Batches) -> Found {
        let end = batches.bounds.end(self.stable_only);
        // What did not fit this time is there the next time, without news. So are records that are sent, until the client
        // comes with an offset behind them.
        let has_more = batches.range.is_some() || position.from < end.0;
        Found { records: batches.range, next: batches.next, has_more, ..Found::bounds(batches.bounds) }
    }

    fn read_error(&self, error: ReadError) -> Found {
        if let ReadError::Io(error) = &error {
            tracing::error!(%error, "a fetch met a medium that fails");
        }
        let error = Failure::from(error).error;
        let is_unknown_id = error == ResponseError::UnknownTopicOrPartition && self.call.version >= VERSION_TOPIC_IDS;
        Found::error(if is_unknown_id { ResponseError::UnknownTopicId } else { error })
    }

    /// An answer that is one error.
    fn refusal(&self, error: ResponseError, session_id: i32) -> FetchAnswer<FileRange> {
        self.ctx.count_error(self.call, error.code());
        FetchAnswer { error_code: error.code(), session_id, topics: Vec::new(), endpoints: Vec::new() }
    }

    /// The answer: every partition, or those with something new. It takes the records out of what was found.
    fn answer(
        &self,
        partitions: &mut WatchedPartitions,
        found: &mut BTreeMap<u32, Found>,
        session_id: i32,
        is_full: bool,
    ) -> FetchAnswer<FileRange> {
        let options = &self.ctx.options;
        let mut topics: Vec<TopicAnswer<FileRange>> = Vec::new();
        let mut endpoints = Vec::new();
        let mut sent = Vec::new();
        // The topic that the last partition belongs to; partitions of a topic mostly have tokens in a row.
        let mut last: Option<TopicRef> = None;
        for (&token, found) in found {
            let bounds = found.bounds.map(|bounds| (bounds.high_watermark.0, bounds.log_start.0));
            let is_news = partitions.note_sent(token, if found.error.is_none() { bounds } else { None });
            if !is_full && !is_news && found.records.is_none() && found.diverging.is_none() {
                continue;
            }
            let Some((topic, index)) = partitions.names(token) else { continue };
            if found.records.is_some() {
                sent.push(token);
            }
            let code = found.error.map_or(0, |error| error.code());
            self.ctx.count_error(self.call, code);
            let leader = found.leader_epoch.filter(|_| self.call.version >= VERSION_ENDPOINTS);
            if leader.is_some() && endpoints.is_empty() {
                endpoints.push(Endpoint {
                    node_id: options.node_id,
                    host: options.advertised_host.clone(),
                    port: i32::from(options.advertised_port),
                    rack: options.rack.clone(),
                });
            }
            if last.as_ref() != Some(topic) {
                let (name, id) = topic.name_and_id();
                topics.push(TopicAnswer { name, id, partitions: Vec::new() });
                last = Some(topic.clone());
            }
            let Some(topic) = topics.last_mut() else { continue };
            topic.partitions.push(PartitionAnswer {
                index,
                error_code: code,
                high_watermark: found.bounds.map_or(-1, |bounds| bounds.high_watermark.0),
                last_stable: found.bounds.map_or(-1, |bounds| bounds.last_stable.0),
                log_start: found.bounds.map_or(-1, |bounds| bounds.log_start.0),
                // The reference lists none where it knows no partition, and leaves the list out with other errors.
                aborted_listed: match found.error {
                    None => self.stable_only,
                    Some(error) => {
                        matches!(error, ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId)
                    }
                },
                diverging: found.diverging,
                leader: leader.map(|epoch| (options.node_id, epoch.0)),
                records: found.records.take(),
            });
        }
        partitions.rotate(&sent);
        FetchAnswer { error_code: 0, session_id, topics, endpoints }
    }

    fn encode(&self, answer: FetchAnswer<FileRange>) -> Result<Vec<Part<FileRange>>, Close> {
        encode(self.call.correlation_id, self.call.version, answer)
            .map_err(|TooLong| Close::Refused("an answer longer than a frame can be"))
    }

    fn reply(&self, answer: FetchAnswer<FileRange>) -> Result<Reply, Close> {
        let pieces = self.encode(answer)?.into_iter().map(|part| match part {
            Part::Bytes(bytes) => Piece::Bytes(bytes),
            Part::Records(range) => Piece::File(range),
        });
        Ok(Reply::Pieces(pieces.collect()))
    }
}
