//! Where connections wait whose client asks the same again and again, and is told each time that there is nothing.
//!
//! Most consumers do that most of the time. By a task of the runtime each answer costs a timer, a wake-up and a look at a dozen
//! places in memory that no cache holds any more. Here one thread serves them all, with an `epoll` of its own: it knows a
//! connection's question byte by byte, and the answer, which it sends when the wait is over. Waits end together
//! ([`WaitEnds`]), so it wakes some sixty times a second however many there are.
//!
//! It understands nothing. Whatever else a client sends, and whatever the socket says, makes it let go of the connection, with all that was read;
//! and the connection's task, which sleeps meanwhile, may take it back at any time, because there is news or because the server
//! stops.

use crate::metrics::Metrics;
use crate::wait_ends::WaitEnds;
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes read at once. A question that is longer is never the same.
const READ_SIZE: usize = 4096;

/// Connections looked at between two looks at the clock.
const EVENTS_MAX: usize = 256;

/// The bell's place among the seats.
const BELL: u64 = u64::MAX;

/// A question as it will come next, and its answer.
#[derive(Default)]
pub struct Visit {
    /// The question's frame and the answer's, side by side: what is looked at together is fetched from memory together.
    frames: Vec<u8>,
    /// Where the answer begins.
    answer: usize,
    /// Where the four bytes of the id stand in the question and in the answer.
    pub ids: (usize, usize),
    /// Where a number stands in the question that is one more each time, big-endian. After the largest comes 1.
    pub counter: Option<usize>,
    /// How long a question waits for its answer.
    pub wait: Duration,
    /// The operation and its version, for the counters.
    pub operation: (usize, i16),
}

/// A question without its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    /// Its id.
    pub id: i32,
    /// When it came.
    pub since: Instant,
    /// When its wait ends.
    pub due: Instant,
}

/// A connection that is back.
pub struct Left {
    /// The connection.
    pub stream: io::Result<TcpStream>,
    /// What was read and is no question.
    pub unread: Vec<u8>,
    /// What is left of an answer that the socket did not take.
    pub unsent: Vec<u8>,
    /// What waits for an answer, if something does.
    pub pending: Option<Pending>,
    /// When the last question was asked or answered.
    pub active: Instant,
    /// Whether the room let go of it: the client said something else, or the socket has something to say.
    pub was_let_go: bool,
    /// With the question that is expected next.
    pub visit: Visit,
}

/// The room, with its thread.
pub struct WaitingRoom {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    epoll: OwnedFd,
    bell: OwnedFd,
    ends: WaitEnds,
    metrics: Arc<Metrics>,
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    /// By number. A seat that became free is taken again: what was noted for it before means nothing then.
    taken: Vec<Option<Arc<Seat>>>,
    free: Vec<usize>,
    /// Seats to look at, by when.
    due: BTreeMap<Instant, Vec<usize>>,
    /// Until when the thread sleeps, unless it is woken.
    sleeps_until: Option<Instant>,
    is_closed: bool,
}

struct Seat(Mutex<Guest>);

struct Guest {
    /// None when it has left.
    stream: Option<TcpStream>,
    visit: Visit,
    /// When the question came that waits, and when its wait ends.
    pending: Option<(Instant, Instant)>,
    active: Instant,
    /// Set when nothing more is done here.
    is_leaving: bool,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    waker: Option<Waker>,
}

/// A connection's stay. When it is dropped, so is the connection.
pub struct Stay {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    number: usize,
}

impl WaitingRoom {
    /// An empty room. Its thread ends with it.
    pub fn open(ends: WaitEnds, metrics: Arc<Metrics>) -> io::Result<WaitingRoom> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &bell, EventData::new_u64(BELL), EventFlags::IN | EventFlags::ET)?;
        let shared = Arc::new(Shared { epoll, bell, ends, metrics, seats: Mutex::default() });
        let serves = shared.clone();
        let thread = std::thread::Builder::new().name("waiting-room".to_owned()).spawn(move || serves.run())?;
        Ok(WaitingRoom { shared, thread: Some(thread) })
    }

    /// Takes in a connection whose question waits. Nothing of it may be unread elsewhere. If there is no place for it, its stay is
    /// over at once.
    pub fn enter(&self, stream: TcpStream, mut visit: Visit, pending: Pending) -> Stay {
        put(&mut visit.frames, visit.ids.0, pending.id.to_be_bytes());
        let seat = Arc::new(Seat(Mutex::new(Guest {
            stream: Some(stream),
            visit,
            pending: Some((pending.since, pending.due)),
            active: pending.since,
            is_leaving: false,
            unread: Vec::new(),
            unsent: Vec::new(),
            waker: None,
        })));
        let number = self.shared.seat(&seat, pending.due);
        let mut guest = seat.0.lock();
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        let added = match &guest.stream {
            Some(stream) => epoll::add(&self.shared.epoll, stream, EventData::new_u64(number as u64), flags),
            None => Ok(()),
        };
        if let Err(error) = added {
            tracing::debug!(%error, "a connection does not wait with the others");
            guest.let_go();
        }
        drop(guest);
        Stay { shared: self.shared.clone(), seat, number }
    }
}

impl WaitingRoom {
    /// How many connections wait here.
    pub fn len(&self) -> usize {
        let seats = self.shared.seats.lock();
        seats.taken.len() - seats.free.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for WaitingRoom {
    fn drop(&mut self) {
        self.shared.close();
        self.shared.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Stay {
    /// Ready when the room has no more to do with it.
    pub fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut guest = self.seat.0.lock();
        if guest.is_leaving {
            return Poll::Ready(());
        }
        if guest.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            guest.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Takes the connection back.
    pub fn leave(self) -> Left {
        let mut guest = self.seat.0.lock();
        let stream = guest.stream.take().ok_or(io::ErrorKind::NotConnected.into());
        let left = stream.as_ref().map(|stream| epoll::delete(&self.shared.epoll, stream));
        if let Ok(Err(error)) = left {
            // It never was there, perhaps.
            tracing::debug!(%error, "a connection leaves the waiting room");
        }
        let visit = std::mem::take(&mut guest.visit);
        let id = i32::from_be_bytes(visit.id());
        Left {
            stream,
            unread: std::mem::take(&mut guest.unread),
            unsent: std::mem::take(&mut guest.unsent),
            pending: guest.pending.map(|(since, due)| Pending { id, since, due }),
            active: guest.active,
            was_let_go: guest.is_leaving,
            visit,
        }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut seats = self.shared.seats.lock();
        if let Some(place) = seats.taken.get_mut(self.number) {
            *place = None;
            seats.free.push(self.number);
        }
    }
}

impl Shared {
    /// Gives a seat its number, and notes when it is to be looked at.
    fn seat(&self, seat: &Arc<Seat>, due: Instant) -> usize {
        let mut seats = self.seats.lock();
        let number = seats.free.pop().unwrap_or(seats.taken.len());
        match seats.taken.get_mut(number) {
            Some(place) => *place = Some(seat.clone()),
            None => seats.taken.push(Some(seat.clone())),
        }
        if seats.is_closed {
            // Nobody looks any more.
            seat.0.lock().let_go();
            return number;
        }
        seats.due.entry(due).or_default().push(number);
        let wakes = seats.sleeps_until.is_none_or(|until| due < until);
        drop(seats);
        if wakes {
            self.ring();
        }
        number
    }

    /// Wakes the thread.
    fn ring(&self) {
        if let Err(error) = rustix::io::write(&self.bell, &1u64.to_ne_bytes()) {
            tracing::debug!(%error, "the waiting room's bell does not ring");
        }
    }

    fn run(&self) {
        let _closes = Closes(self);
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut buffer = [0; READ_SIZE];
        let (mut numbers, mut ended, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(timeout) = self.sleep() {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    return tracing::error!(%error, "the waiting room closes");
                }
            }
            let now = Instant::now();
            numbers.clear();
            ended.clear();
            for event in &events {
                let Ok(number) = usize::try_from(event.data.u64()) else { continue };
                numbers.push(number);
                // Said once, be it that there is something to read before it.
                let flags = event.flags;
                if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                    ended.push(number);
                }
            }
            let ready = self.seats.lock().at(&numbers);
            for (number, seat) in ready {
                let has_ended = ended.contains(&number);
                let due = seat.0.lock().read(now, has_ended, &mut buffer, &self.ends, &self.metrics);
                asked.extend(due.map(|due| (due, number)));
            }
            numbers.clear();
            self.seats.lock().take_due(now, &mut asked, &mut numbers);
            let due = self.seats.lock().at(&numbers);
            for (_, seat) in due {
                seat.0.lock().answer(now, &self.metrics);
            }
        }
    }

    /// How long to sleep: none when the room is closed. Without an end when nothing is due.
    fn sleep(&self) -> Option<Option<Timespec>> {
        let mut seats = self.seats.lock();
        let until = seats.due.first_key_value().map(|(due, _)| *due);
        seats.sleeps_until = until;
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        (!seats.is_closed).then(|| timeout.and_then(|timeout| Timespec::try_from(timeout).ok()))
    }

    /// Lets everybody go.
    fn close(&self) {
        let mut seats = self.seats.lock();
        seats.is_closed = true;
        seats.taken.iter().flatten().for_each(|seat| seat.0.lock().let_go());
    }
}

/// Closes the room when its thread ends, however it does.
struct Closes<'a>(&'a Shared);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Seats {
    /// Those with these numbers that are taken.
    fn at(&self, numbers: &[usize]) -> Vec<(usize, Arc<Seat>)> {
        let seats = || numbers.iter().filter_map(|&number| Some((number, self.taken.get(number)?.as_ref()?)));
        // Nobody looked at them for long. Plain reads fetch several from memory at a time, the counting below only one.
        let counts: usize = seats().map(|(_, seat)| Arc::strong_count(seat)).sum();
        std::hint::black_box(counts);
        seats().map(|(number, seat)| (number, seat.clone())).collect()
    }

    /// Notes whom to look at, and says who is to be looked at now.
    fn take_due(&mut self, now: Instant, asked: &mut Vec<(Instant, usize)>, out: &mut Vec<usize>) {
        for (due, number) in asked.drain(..) {
            self.due.entry(due).or_default().push(number);
        }
        while let Some(first) = self.due.first_entry().filter(|first| *first.key() <= now) {
            out.append(&mut first.remove());
        }
    }
}

impl Guest {
    /// Reads what came. When it is the question, and the client has not ended the connection behind it, says when to look again.
    fn read(
        &mut self,
        now: Instant,
        has_ended: bool,
        buffer: &mut [u8],
        ends: &WaitEnds,
        metrics: &Metrics,
    ) -> Option<Instant> {
        let stream = self.stream.as_ref().filter(|_| !self.is_leaving)?;
        let got = match rustix::net::recv(stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, got)) => buffer.get(..got).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => return None,
            // The task reads the end.
            Err(_) => &[],
        };
        metrics.traffic().received(got.len());
        if self.pending.is_some() || has_ended || !self.visit.is_asked_by(got) {
            self.unread = got.to_vec();
            self.let_go();
            return None;
        }
        let due = ends.end(now, self.visit.wait);
        self.pending = Some((now, due));
        self.active = now;
        Some(due)
    }

    /// Answers the question whose wait is over.
    fn answer(&mut self, now: Instant, metrics: &Metrics) {
        let Some(stream) = self.stream.as_ref().filter(|_| !self.is_leaving) else { return };
        let Some((since, _)) = self.pending.filter(|(_, due)| *due <= now) else { return };
        let answer = self.visit.answer();
        let sent = match rustix::net::send(stream, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            // The task reads the end.
            Err(_) => return self.let_go(),
        };
        let unsent = answer.get(sent..).unwrap_or_default().to_vec();
        let (operation, version) = self.visit.operation;
        metrics.answered(operation, version, now - since);
        metrics.traffic().sent_memory(sent);
        self.pending = None;
        self.active = now;
        if !unsent.is_empty() {
            self.unsent = unsent;
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        self.is_leaving = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Visit {
    /// Of these whole frames.
    pub fn new(question: &[u8], answer: &[u8]) -> Visit {
        Visit { frames: [question, answer].concat(), answer: question.len(), ..Visit::default() }
    }

    /// The question that is expected next, with an id of no meaning.
    pub fn question(&self) -> &[u8] {
        self.frames.get(..self.answer).unwrap_or_default()
    }

    /// The answer to the question that came last.
    fn answer(&mut self) -> &[u8] {
        let id = self.id();
        put(&mut self.frames, self.answer + self.ids.1, id);
        self.frames.get(self.answer..).unwrap_or_default()
    }

    /// Whether these bytes are the question. The next one is expected from then on.
    fn is_asked_by(&mut self, bytes: &[u8]) -> bool {
        let Some(id) = bytes.get(self.ids.0..).and_then(<[u8]>::first_chunk) else { return false };
        put(&mut self.frames, self.ids.0, *id);
        if self.question() != bytes {
            return false;
        }
        if let Some(counter) = self.counter.and_then(|at| slot(&mut self.frames, at)) {
            *counter = i32::from_be_bytes(*counter).checked_add(1).unwrap_or(1).to_be_bytes();
        }
        true
    }

    /// The id of the question that came last.
    fn id(&self) -> [u8; 4] {
        self.frames.get(self.ids.0..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default()
    }

    /// The number that the next question is expected to have.
    pub fn count(&self) -> Option<i32> {
        self.frames.get(self.counter?..).and_then(<[u8]>::first_chunk).map(|count| i32::from_be_bytes(*count))
    }
}

/// Four bytes at a place.
fn slot(bytes: &mut [u8], at: usize) -> Option<&mut [u8; 4]> {
    bytes.get_mut(at..)?.first_chunk_mut()
}

fn put(bytes: &mut [u8], at: usize, value: [u8; 4]) {
    if let Some(slot) = slot(bytes, at) {
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const SOON: Duration = Duration::from_secs(5);

    fn room() -> WaitingRoom {
        WaitingRoom::open(WaitEnds::new(), Arc::new(Metrics::new("test", [("ask", 0, 0)]))).unwrap()
    }

    /// Both ends of a connection, the client's first.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        let server = listener.accept().unwrap().0;
        server.set_nonblocking(true).unwrap();
        (client, server)
    }

    /// The question is an id and a number, the answer an id and a letter.
    fn visit(count: i32) -> Visit {
        let mut visit = Visit::new(&[[0; 4], count.to_be_bytes()].concat(), b"....a");
        visit.counter = Some(4);
        visit
    }

    fn pending(id: i32) -> Pending {
        let now = Instant::now();
        Pending { id, since: now, due: now }
    }

    fn wait_until_over(stay: &Stay) {
        let patience = Instant::now() + SOON;
        while stay.poll_over(&mut Context::from_waker(Waker::noop())).is_pending() {
            assert!(Instant::now() < patience, "it stays");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn answer(client: &mut TcpStream) -> (i32, u8) {
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        (i32::from_be_bytes(*answer.first_chunk().unwrap()), answer[4])
    }

    #[test]
    fn questions_are_answered_until_one_is_another() {
        let room = room();
        let (mut client, server) = pair();
        let stay = room.enter(server, visit(i32::MAX), pending(7));
        assert_eq!(answer(&mut client), (7, b'a'));
        for (id, count) in [(8_i32, i32::MAX), (-9, 1), (10, 2)] {
            client.write_all(&[id.to_be_bytes(), count.to_be_bytes()].concat()).unwrap();
            assert_eq!(answer(&mut client), (id, b'a'));
        }
        assert_eq!(room.len(), 1);
        // A number that was there already.
        client.write_all(&[[0; 4], 2_i32.to_be_bytes()].concat()).unwrap();
        wait_until_over(&stay);
        let left = stay.leave();
        assert_eq!((left.pending, left.was_let_go, left.visit.count()), (None, true, Some(3)));
        assert_eq!(left.unread, [0, 0, 0, 0, 0, 0, 0, 2]);
        assert!(room.is_empty());
    }

    /// The thread hears of the question and of the end behind it at once.
    #[test]
    fn a_client_that_asks_and_leaves_is_let_go() {
        let room = room();
        let (mut client, server) = pair();
        let stay = room.enter(server, visit(1), pending(7));
        assert_eq!(answer(&mut client), (7, b'a'));
        let seats = room.shared.seats.lock();
        room.shared.ring();
        std::thread::sleep(Duration::from_millis(20));
        let question = [8_i32.to_be_bytes(), 1_i32.to_be_bytes()].concat();
        client.write_all(&question).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        drop(seats);
        wait_until_over(&stay);
        let left = stay.leave();
        assert_eq!((left.unread, left.pending, left.was_let_go), (question, None, true));
    }

    #[test]
    fn a_room_whose_thread_has_ended_keeps_nobody() {
        let mut room = room();
        let (_client, server) = pair();
        let due = Instant::now() + Duration::from_secs(3600);
        let stay = room.enter(server, visit(1), Pending { due, ..pending(7) });
        drop(Closes(&room.shared));
        wait_until_over(&stay);
        room.shared.ring();
        room.thread.take().unwrap().join().unwrap();
        let (_client, server) = pair();
        let late = room.enter(server, visit(1), Pending { due, ..pending(7) });
        wait_until_over(&late);
        let noted = room.shared.seats.lock().due.values().flatten().count();
        assert_eq!(noted, 1, "only what was noted before");
    }

    #[test]
    fn what_the_socket_does_not_take_is_left_to_the_task() {
        let room = room();
        let (mut client, mut server) = pair();
        let mut before = 0;
        while let Ok(sent) = server.write(&[0; 64 << 10]) {
            before += sent;
        }
        let stay = room.enter(server, visit(1), pending(7));
        wait_until_over(&stay);
        let left = stay.leave();
        assert_eq!((left.unsent.as_slice(), left.pending), (&b"\0\0\0\x07a"[..], None));
        drop(left);
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), before);
    }

    #[test]
    fn a_room_that_closes_lets_everybody_go() {
        let room = room();
        let (_client, server) = pair();
        let due = Instant::now() + Duration::from_secs(3600);
        let stay = room.enter(server, visit(1), Pending { due, ..pending(7) });
        assert!(stay.poll_over(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(room);
        wait_until_over(&stay);
        assert_eq!(stay.leave().pending.unwrap().due, due);
    }

    /// What was noted for a seat before means nothing to who sits there now.
    #[test]
    fn a_place_is_taken_again() {
        let room = room();
        let soon = Instant::now() + Duration::from_millis(50);
        for _ in 0..3 {
            let (mut client, server) = pair();
            let stay = room.enter(server, visit(1), Pending { due: soon, ..pending(7) });
            assert_eq!((stay.number, room.len()), (0, 1));
            drop(stay);
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "the connection goes with the stay");
        }
        let (mut client, server) = pair();
        let later = Instant::now() + Duration::from_millis(200);
        let stay = room.enter(server, visit(1), Pending { due: later, ..pending(8) });
        assert_eq!(stay.number, 0);
        assert_eq!(answer(&mut client), (8, b'a'));
        assert!(Instant::now() >= later, "it was answered when another was due");
    }
}
