//! Produce load over many partitions: each request carries a batch for each of some partitions, as a producer's linger makes
//! them. Open loop (on a schedule, whatever the server does) or closed (a number of requests in flight).

use anyhow::{Context, Result, anyhow, ensure};
use headwater_benches::kafka::batch::Batch;
use headwater_benches::kafka::produce::check;
use headwater_benches::kafka::wire::{Reader, Source, Writer};
use headwater_benches::kafka::{Error, PRODUCE};
use headwater_benches::latency::Latencies;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

/// A Produce request with room for the same batch in some partitions.
pub struct Request {
    frame: Vec<u8>,
    partitions_at: Vec<usize>,
}

impl Request {
    pub fn new(topic: &str, batch: &Batch, partitions: usize) -> Request {
        let mut writer = Writer::request(PRODUCE);
        writer.i16(-1).i16(-1).i32(30_000).count(1).string(topic).count(partitions);
        let mut partitions_at = Vec::new();
        for _ in 0..partitions {
            partitions_at.push(writer.bytes.len());
            writer.i32(0).count(batch.bytes.len()).raw(&batch.bytes);
        }
        Request { frame: writer.finish(), partitions_at }
    }

    fn bytes(&mut self, partitions: impl Iterator<Item = u64>) -> &[u8] {
        for (&at, partition) in self.partitions_at.iter().zip(partitions) {
            self.frame[at..at + 4].copy_from_slice(&(partition as u32).to_be_bytes());
        }
        &self.frame
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Reads one answer, whole.
fn receive(stream: &mut impl Read, answer: &mut Vec<u8>) -> Result<(), Error> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    answer.resize(usize::try_from(i32::from_be_bytes(size)).unwrap_or(0), 0);
    stream.read_exact(answer)?;
    Ok(())
}

fn check_answer(answer: &[u8]) -> Result<(), Error> {
    let mut reader = Reader::new(answer);
    reader.i32()?;
    check(reader).map(drop)
}

/// What is sent on a schedule.
#[derive(Clone, Copy)]
pub struct Schedule {
    pub connections: u64,
    /// Time between two requests of a connection.
    pub every: Duration,
    /// Partitions in a request.
    pub batches: u64,
    pub requests: u64,
}

/// Sends `schedule` to a topic of `partitions`, and returns the time from when each request should have been sent to its
/// answer, and how late the requests were sent at worst. Connection c has partitions c, c + connections, ...
pub fn open(
    address: SocketAddr,
    topic: &str,
    partitions: u64,
    batch: &Batch,
    schedule: Schedule,
) -> Result<(Latencies, Duration)> {
    let Schedule { connections, every, batches, requests } = schedule;
    ensure!(partitions.is_multiple_of(connections), "each connection has as many partitions");
    let streams = (0..connections).map(|_| connect(address)).collect::<Result<Vec<_>>>()?;
    let begin = Instant::now() + Duration::from_millis(50);
    thread::scope(|scope| {
        let mut pairs = Vec::new();
        for (number, stream) in (0..).zip(&streams) {
            let due = move |at: u64| begin + every * at as u32 + every * number / connections as u32;
            let sender = scope.spawn(move || {
                let mut request = Request::new(topic, batch, batches as usize);
                let mut next = 0;
                let mut stream = stream;
                let mut late = Duration::ZERO;
                for at in 0..requests {
                    thread::sleep(due(at).saturating_duration_since(Instant::now()));
                    late = late.max(due(at).elapsed());
                    let step = |_| {
                        let partition = next * connections + u64::from(number);
                        next = (next + 1) % (partitions / connections);
                        partition
                    };
                    stream.write_all(request.bytes((0..batches).map(step)))?;
                }
                Ok::<_, Error>(late)
            });
            let receiver = scope.spawn(move || {
                let mut latencies = Latencies::new();
                let mut stream = BufReader::new(stream);
                let mut answer = Vec::new();
                for at in 0..requests {
                    receive(&mut stream, &mut answer)?;
                    latencies.record(due(at).elapsed());
                    check_answer(&answer)?;
                }
                Ok::<_, Error>(latencies)
            });
            pairs.push((sender, receiver));
        }
        let (mut latencies, mut late) = (Latencies::new(), Duration::ZERO);
        for (sender, receiver) in pairs {
            late = late.max(sender.join().map_err(|_| anyhow!("a sender panicked"))??);
            latencies.add(&receiver.join().map_err(|_| anyhow!("a receiver panicked"))??);
        }
        Ok((latencies, late))
    })
}

/// Sends batches to a topic, `in_flight` requests at a time on each of some connections, until each partition has had `rounds`
/// of them or the server has gone. Returns how many of each partition were acknowledged, by connection; connection c has the
/// partitions c, c + connections, ...
pub fn closed(
    address: SocketAddr,
    topic: &str,
    partitions: u64,
    batch: &Batch,
    (connections, in_flight, batches): (u64, usize, u64),
    rounds: u64,
) -> Result<Vec<u64>> {
    ensure!(partitions.is_multiple_of(connections), "each connection has as many partitions");
    let own = partitions / connections;
    ensure!((own * rounds).is_multiple_of(batches), "requests are full");
    let mut acked = vec![0; usize::try_from(partitions)?];
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for number in 0..connections {
            workers.push(scope.spawn(move || {
                let stream = connect(address)?;
                let (permit, permits) = sync_channel::<()>(in_flight);
                thread::scope(|scope| {
                    let reader = stream.try_clone()?;
                    let total = own * rounds / batches;
                    let receiver = scope.spawn(move || {
                        let mut stream = BufReader::new(reader);
                        let (mut done, mut answer) = (0, Vec::new());
                        while done < total {
                            if receive(&mut stream, &mut answer).is_err() {
                                break;
                            }
                            check_answer(&answer)?;
                            done += 1;
                            let _the_sender_may_have_ended = permits.recv();
                        }
                        Ok::<_, Error>(done)
                    });
                    let mut request = Request::new(topic, batch, batches as usize);
                    let mut stream = &stream;
                    for at in 0..total {
                        let some = (at * batches..(at + 1) * batches).map(|at| at % own * connections + number);
                        if permit.send(()).is_err() || stream.write_all(request.bytes(some)).is_err() {
                            break;
                        }
                    }
                    receiver.join().map_err(|_| anyhow!("a receiver panicked"))?.context("an answer")
                })
            }));
        }
        for (number, worker) in (0..).zip(workers) {
            let done: u64 = worker.join().map_err(|_| anyhow!("a sender panicked"))??;
            for at in 0..done * batches {
                acked[(at % own * connections + number) as usize] += 1;
            }
        }
        Ok(acked)
    })
}
