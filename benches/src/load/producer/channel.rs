//! One producing connection that never blocks.

use crate::kafka::batch::now_ms;
use crate::kafka::connection::{ANSWER_BYTES_MAX, ANSWER_WAIT, connect};
use crate::kafka::produce::{Request, check};
use crate::kafka::wire::Reader;
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

/// What all connections of a thread have in common.
pub struct Terms<'a> {
    pub acks: i16,
    pub in_flight: usize,
    pub stamp: bool,
    pub linger: Duration,
    /// Of a batch.
    pub records: u64,
    pub value_bytes: u64,
    pub batch_bytes: u64,
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
    /// The question at the end of a load without acks.
    Question(usize),
}

/// A request that is not answered yet.
struct Sent {
    /// When it was due, or sent in a closed loop.
    from_ns: u64,
    sent_ns: u64,
    is_question: bool,
}

/// A connection.
pub struct Channel {
    stream: TcpStream,
    request: Request,
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
                    self.begin(Writing::Question(0), now_ns, now_ns);
                }
                continue;
            }
            if due_ns > now_ns {
                return Ok(Some(due_ns));
            }
            self.aim(terms, due_ns);
            self.begin(Writing::Request(0), due_ns, now_ns);
            self.begun += 1;
        }
    }

    /// Chooses the partitions of the next request.
    fn aim(&mut self, terms: &Terms<'_>, due_ns: u64) {
        for place in 0..self.request.partitions() {
            let partition = match &self.keys {
                Some(keys) => keys.draw(&mut self.random),
                None => {
                    self.next = (self.next + 1) % self.partitions.len();
                    self.partitions[self.next]
                }
            };
            self.request.aim(place, partition);
            if let Some(ledger) = terms.ledger {
                ledger.sent(partition, due_ns);
            }
        }
        if terms.stamp {
            self.request.stamp(now_ms());
        }
    }

    fn begin(&mut self, what: Writing, from_ns: u64, sent_ns: u64) {
        self.correlation = self.correlation.wrapping_add(1);
        let frame = if what == Writing::Request(0) { self.request.frame() } else { &mut self.question };
        frame[8..12].copy_from_slice(&self.correlation.to_be_bytes());
        self.writing = what;
        self.sent.push_back(Sent { from_ns, sent_ns, is_question: what != Writing::Request(0) });
    }

    /// Writes on; whether all is out.
    fn write(&mut self, terms: &Terms<'_>, run: &Run, meter: &Meter) -> Result<bool, Error> {
        loop {
            let (frame, at): (&[u8], usize) = match self.writing {
                Writing::Nothing => return Ok(true),
                Writing::Request(at) => (self.request.frame(), at),
                Writing::Question(at) => (&self.question, at),
            };
            let Some(rest) = frame.get(at..).filter(|rest| !rest.is_empty()) else {
                if terms.acks == 0 && matches!(self.writing, Writing::Request(_)) {
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
            if !sent.is_question {
                let partitions = check(answer)?;
                if partitions != self.request.partitions() {
                    let asked = self.request.partitions();
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
        let took = now_ns.saturating_sub(sent.from_ns);
        let batches = self.request.partitions() as u64;
        let mut reading = meter.open();
        if terms.linger.is_zero() {
            reading.latencies.record(Duration::from_nanos(took));
        } else {
            // The first record arrived when the time to gather began, the others evenly after it.
            let linger = u64::try_from(terms.linger.as_nanos()).unwrap_or(0);
            for later in 1..=terms.records {
                let waited = linger * later / terms.records;
                reading.latencies.record_many(Duration::from_nanos(took + waited), batches);
            }
        }
        let counts = Counts {
            bytes: terms.value_bytes * batches,
            batch_bytes: terms.batch_bytes * batches,
            records: terms.records * batches,
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
