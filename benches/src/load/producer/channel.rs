//! One producing connection that never blocks.

use super::batches::Batches;
use crate::kafka::batch::now_ms;
use crate::kafka::connection::{ANSWER_BYTES_MAX, ANSWER_WAIT, connect};
use crate::kafka::produce::{Request, check, joined};
use crate::kafka::wire::{Reader, Source};
use crate::kafka::{Error, admin};
use crate::load::end_to_end::Ledger;
use crate::load::keys::Keys;
use crate::load::meter::{Counts, Meter};
use crate::load::phase::Run;
use crate::load::schedule::Schedule;
use crate::sys::Interest;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Requests that wait do not join into larger ones than this, which is what Kafka's clients send at most.
const JOINED_BYTES_MAX: usize = 1 << 20;

/// What all connections of a thread have in common.
pub struct Terms<'a> {
    pub acks: i16,
    pub in_flight: usize,
    pub stamp: bool,
    pub linger: Duration,
    pub batches: &'a Batches,
    pub topic: &'a str,
    /// Nothing that is due from then on is sent.
    pub end_ns: u64,
    pub ledger: Option<&'a Ledger>,
}

/// What is being written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Nothing,
    /// The request, of which so many bytes are out.
    Request(usize),
    /// Several that were late, as one.
    Joined(usize),
    /// The question at the end of a load without acks.
    Question(usize),
}

/// A request that is not answered yet.
struct Sent {
    /// When it was due, or sent in a closed loop; of several, the first.
    from_ns: u64,
    sent_ns: u64,
    /// How many of the schedule it stands for, and the number of the first; none for the question.
    requests: u64,
    first: u64,
    /// Partitions that it names.
    partitions: usize,
    batch_bytes: u64,
}

/// A connection.
pub struct Channel {
    stream: TcpStream,
    request: Request,
    /// The frame of several that were late.
    joined: Vec<u8>,
    /// The partitions of the next request, and how many scheduled batches go to each.
    places: Vec<(i32, usize)>,
    /// The frame that asks whether all before it was taken.
    question: Vec<u8>,
    writing: Writing,
    correlation: i32,
    answered: i32,
    sent: VecDeque<Sent>,
    /// Requests begun so far.
    begun: u64,
    schedule: Option<Schedule>,
    /// Its partitions, and which is next.
    partitions: Vec<i32>,
    next: usize,
    keys: Option<Arc<Keys>>,
    random: u64,
    /// Bytes of answers that are not whole yet.
    inbox: Vec<u8>,
    filled: usize,
    is_finished: bool,
}

impl Channel {
    /// Connects.
    pub fn open(
        address: SocketAddr,
        request: Request,
        schedule: Option<Schedule>,
        partitions: Vec<i32>,
        keys: Option<Arc<Keys>>,
        seed: u64,
    ) -> Result<Self, Error> {
        let stream = connect(address)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            request,
            joined: Vec::new(),
            places: Vec::new(),
            question: Vec::new(),
            writing: Writing::Nothing,
            correlation: 0,
            answered: 0,
            sent: VecDeque::new(),
            begun: 0,
            schedule,
            partitions,
            next: 0,
            keys,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            inbox: vec![0; 16 << 10],
            filled: 0,
            is_finished: false,
        })
    }

    /// Sends what is due and fits; returns when the next request is due, if the schedule decides that.
    pub fn send(
        &mut self,
        terms: &Terms<'_>,
        run: &Run,
        meter: &Meter,
        take: &impl Fn(u64) -> bool,
    ) -> Result<Option<u64>, Error> {
        loop {
            if self.writing != Writing::Nothing && !self.write(terms, run, meter)? {
                return Ok(None);
            }
            if self.is_finished {
                return Ok(None);
            }
            if self.sent.len() >= terms.in_flight {
                return Ok(None);
            }
            let now_ns = run.now_ns();
            let due_ns = self.schedule.map_or(now_ns, |schedule| schedule.due_ns(self.begun));
            if due_ns >= terms.end_ns
                || run.has_failed()
                || (due_ns <= now_ns && !take(self.request.partitions() as u64))
            {
                self.is_finished = true;
                if terms.acks == 0 {
                    // Nothing is answered without acks; one question at the end waits until everything before it was taken.
                    self.question = admin::metadata_request(terms.topic);
                    let asked =
                        Sent { from_ns: now_ns, sent_ns: now_ns, requests: 0, first: 0, partitions: 0, batch_bytes: 0 };
                    self.begin(Writing::Question(0), asked);
                }
                continue;
            }
            if due_ns > now_ns {
                return Ok(Some(due_ns));
            }
            self.places.clear();
            self.choose(terms, due_ns);
            let mut requests = 1;
            while self.late(requests, terms, now_ns).is_some_and(|due_ns| {
                let is_taken = take(self.request.partitions() as u64);
                if is_taken {
                    self.choose(terms, due_ns);
                }
                is_taken
            }) {
                requests += 1;
            }
            let what = if requests == 1 { self.aim(terms) } else { self.join(terms)? };
            let batches = self.places.iter().map(|&(_, count)| terms.batches.joined(count));
            let batch_bytes = batches.map(|batch| Ok(batch?.bytes.len() as u64)).sum::<Result<u64, Error>>()?;
            let (first, partitions) = (self.begun, self.places.len());
            self.begin(what, Sent { from_ns: due_ns, sent_ns: now_ns, requests, first, partitions, batch_bytes });
            self.begun += requests;
        }
    }

    /// When the request was due that comes after so many, if it is late as well and still joins them.
    fn late(&self, requests: u64, terms: &Terms<'_>, now_ns: u64) -> Option<u64> {
        let due_ns = self.schedule?.due_ns(self.begun + requests);
        let is_room = self.places.iter().all(|&(_, count)| count < terms.batches.joined_max());
        // Joined batches are no larger than the single ones.
        let bytes = (requests + 1) as usize * self.request.partitions() * terms.batches.one().bytes.len();
        (due_ns <= now_ns && due_ns < terms.end_ns && is_room && bytes <= JOINED_BYTES_MAX).then_some(due_ns)
    }

    /// Chooses the partitions of a request, besides those of others that it goes out with.
    fn choose(&mut self, terms: &Terms<'_>, due_ns: u64) {
        for _ in 0..self.request.partitions() {
            let partition = match &self.keys {
                Some(keys) => keys.draw(&mut self.random),
                None => {
                    self.next = (self.next + 1) % self.partitions.len();
                    self.partitions[self.next]
                }
            };
            match self.places.iter_mut().find(|(chosen, _)| *chosen == partition) {
                Some((_, count)) => *count += 1,
                None => self.places.push((partition, 1)),
            }
            if let Some(ledger) = terms.ledger {
                ledger.sent(partition, due_ns, terms.batches.one().records);
            }
        }
    }

    /// Makes the request one for the partitions that were chosen.
    fn aim(&mut self, terms: &Terms<'_>) -> Writing {
        for (place, &(partition, _)) in self.places.iter().enumerate() {
            self.request.aim(place, partition);
        }
        if terms.stamp {
            self.request.stamp(now_ms());
        }
        Writing::Request(0)
    }

    /// Makes one request of several.
    fn join(&mut self, terms: &Terms<'_>) -> Result<Writing, Error> {
        let batches = self.places.iter().map(|&(partition, count)| Ok((partition, terms.batches.joined(count)?)));
        let batches = batches.collect::<Result<Vec<_>, Error>>()?;
        self.joined = joined(terms.topic, terms.acks, &batches, terms.stamp.then(now_ms));
        Ok(Writing::Joined(0))
    }

    fn begin(&mut self, what: Writing, sent: Sent) {
        self.correlation = self.correlation.wrapping_add(1);
        let frame = match what {
            Writing::Request(_) => self.request.frame(),
            Writing::Joined(_) => &mut self.joined,
            Writing::Question(_) | Writing::Nothing => &mut self.question,
        };
        frame[8..12].copy_from_slice(&self.correlation.to_be_bytes());
        self.writing = what;
        self.sent.push_back(sent);
    }

    /// Writes on; whether all is out.
    fn write(&mut self, terms: &Terms<'_>, run: &Run, meter: &Meter) -> Result<bool, Error> {
        loop {
            let (frame, at): (&[u8], usize) = match self.writing {
                Writing::Nothing => return Ok(true),
                Writing::Request(at) => (self.request.frame(), at),
                Writing::Joined(at) => (&self.joined, at),
                Writing::Question(at) => (&self.question, at),
            };
            let Some(rest) = frame.get(at..).filter(|rest| !rest.is_empty()) else {
                if terms.acks == 0 && !matches!(self.writing, Writing::Question(_)) {
                    // That it is out is all that is known of it.
                    self.answered = self.answered.wrapping_add(1);
                    if let Some(sent) = self.sent.pop_back() {
                        self.count(&sent, terms, run, meter);
                    }
                }
                self.writing = Writing::Nothing;
                return Ok(true);
            };
            match self.stream.write(rest) {
                Ok(written) => {
                    self.writing = match self.writing {
                        Writing::Question(at) => Writing::Question(at + written),
                        Writing::Joined(at) => Writing::Joined(at + written),
                        _ => Writing::Request(at + written),
                    };
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads what has come.
    pub fn receive(&mut self, terms: &Terms<'_>, run: &Run, meter: &Meter) -> Result<(), Error> {
        loop {
            if self.filled == self.inbox.len() {
                self.inbox.resize(self.inbox.len() * 2, 0);
            }
            match self.stream.read(&mut self.inbox[self.filled..]) {
                Ok(0) => return Err(Error::Answer("the broker closed the connection".into())),
                Ok(read) => {
                    self.filled += read;
                    let is_all = self.filled < self.inbox.len();
                    self.answers(terms, run, meter)?;
                    if is_all {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes the whole answers out of the inbox.
    fn answers(&mut self, terms: &Terms<'_>, run: &Run, meter: &Meter) -> Result<(), Error> {
        let mut at = 0;
        while self.filled - at >= 4 {
            let mut reader = Reader::new(&self.inbox[at..self.filled]);
            let len = reader.count()?;
            if !(4..=ANSWER_BYTES_MAX).contains(&len) {
                return Err(Error::Answer(format!("an answer of {len} bytes")));
            }
            let Ok(answer) = reader.raw(len) else { break };
            let mut answer = Reader::new(answer);
            let correlation = answer.i32()?;
            self.answered = self.answered.wrapping_add(1);
            if correlation != self.answered {
                return Err(Error::Answer(format!("answer {correlation} came instead of {}", self.answered)));
            }
            let Some(sent) = self.sent.pop_front() else {
                return Err(Error::Answer("an answer came that nobody asked for".into()));
            };
            if sent.requests > 0 {
                let (partitions, asked) = (check(answer)?, sent.partitions);
                if partitions != asked {
                    return Err(Error::Answer(format!("Produce answered {partitions} partitions instead of {asked}")));
                }
                self.count(&sent, terms, run, meter);
            }
            at += 4 + len;
        }
        self.inbox.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    fn count(&self, sent: &Sent, terms: &Terms<'_>, run: &Run, meter: &Meter) {
        let now_ns = run.now_ns();
        let one = terms.batches.one();
        let batches = self.request.partitions() as u64;
        let mut reading = meter.open();
        for nth in 0..sent.requests {
            let from_ns = match self.schedule {
                Some(schedule) => schedule.due_ns(sent.first + nth),
                None => sent.from_ns,
            };
            let took = now_ns.saturating_sub(from_ns);
            if terms.linger.is_zero() {
                reading.latencies.record(Duration::from_nanos(took));
                continue;
            }
            // The first record arrived when the time to gather began, the others evenly after it.
            let linger = u64::try_from(terms.linger.as_nanos()).unwrap_or(0);
            for later in 1..=one.records {
                let waited = linger * later / one.records;
                reading.latencies.record_many(Duration::from_nanos(took + waited), batches);
            }
        }
        let counts = Counts {
            bytes: one.value_bytes * batches * sent.requests,
            batch_bytes: sent.batch_bytes,
            records: one.records * batches * sent.requests,
            requests: 1,
        };
        reading.count(now_ns, counts);
    }

    /// What to wait for.
    pub fn interest(&self) -> Interest {
        Interest::new(&self.stream, !self.is_done(), self.writing != Writing::Nothing)
    }

    /// Whether everything is sent and answered.
    pub fn is_done(&self) -> bool {
        self.is_finished && self.sent.is_empty() && self.writing == Writing::Nothing
    }

    /// An error when the oldest request has waited too long for its answer.
    pub fn check_wait(&self, run: &Run) -> Result<(), Error> {
        match self.sent.front() {
            Some(sent) if run.now_ns().saturating_sub(sent.sent_ns) > ANSWER_WAIT.as_nanos() as u64 => {
                Err(Error::Answer(format!("the broker has not answered for {} s", ANSWER_WAIT.as_secs())))
            }
            _ => Ok(()),
        }
    }
}
