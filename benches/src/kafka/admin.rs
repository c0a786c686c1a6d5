//! Topics made and deleted, their leaders and end offsets.

use super::connection::Connection;
use super::error::Error;
use super::wire::{Source, Writer};
use super::{CREATE_TOPICS, DELETE_TOPICS, LIST_OFFSETS, METADATA};
use std::thread;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(60);
const WAIT_MS: i32 = 30_000;

/// Makes a topic with one replica (an existing one is kept) and waits until all its partitions serve.
pub fn ensure_topic(connection: &mut Connection, topic: &str, partitions: i32) -> Result<(), Error> {
    ensure_topic_with(connection, topic, partitions, &[])
}

/// The same with settings of the topic.
pub fn ensure_topic_with(
    connection: &mut Connection,
    topic: &str,
    partitions: i32,
    settings: &[(String, String)],
) -> Result<(), Error> {
    let mut request = Writer::request(CREATE_TOPICS);
    request.count(1).string(topic).i32(partitions).i16(1).count(0).count(settings.len());
    for (name, value) in settings {
        request.string(name).string(value);
    }
    request.i32(WAIT_MS).i8(0);
    let mut answer = connection.call(request.finish())?;
    answer.i32()?;
    for _ in 0..answer.count()? {
        answer.string()?;
        let code = answer.i16()?;
        let message = answer.string()?.unwrap_or_default();
        if code != 36 {
            Error::check("CreateTopics", code, || format!("{topic} {message}"))?;
        }
    }
    await_leaders(connection, topic, partitions, WAIT)
}

/// Waits until all partitions of a topic serve. A broker may name itself the leader before it acts as one, so they are asked
/// for their offsets too, which only a leader answers.
pub fn await_leaders(connection: &mut Connection, topic: &str, partitions: i32, wait: Duration) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let attempt = partition_count(connection, topic)
            .and_then(|count| offsets(connection, topic, count, End::Latest).map(|_| count));
        match attempt {
            Ok(count) if count == partitions => return Ok(()),
            Ok(count) => return Err(Error::Answer(format!("{topic} has {count} partitions, not {partitions}"))),
            Err(error) if error.is_transient() && begun.elapsed() < wait => thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(error),
        }
    }
}

/// Asks for the metadata of a topic: [`partition_count`] as a frame, for whoever has a connection of another kind.
#[must_use]
pub fn metadata_request(topic: &str) -> Vec<u8> {
    let mut request = Writer::request(METADATA);
    // No auto-creation, no authorized operations.
    request.count(1).string(topic).i8(0).i8(0).i8(0);
    request.finish()
}

/// How many partitions a topic has; an error as long as one of them has no leader.
pub fn partition_count(connection: &mut Connection, topic: &str) -> Result<i32, Error> {
    let mut answer = connection.call(metadata_request(topic))?;
    answer.i32()?;
    for _ in 0..answer.count()? {
        answer.i32()?;
        answer.string()?;
        answer.i32()?;
        answer.string()?;
    }
    answer.string()?;
    answer.i32()?;
    let mut partitions = 0;
    for _ in 0..answer.count()? {
        Error::check("Metadata", answer.i16()?, || topic.into())?;
        answer.string()?;
        answer.i8()?;
        for _ in 0..answer.count()? {
            let code = answer.i16()?;
            let partition = answer.i32()?;
            Error::check("Metadata", code, || format!("{topic}-{partition}"))?;
            let leader = answer.i32()?;
            Error::check("Metadata", if leader < 0 { 5 } else { 0 }, || format!("{topic}-{partition}"))?;
            answer.i32()?;
            for _ in 0..3 {
                for _ in 0..answer.count()? {
                    answer.i32()?;
                }
            }
            partitions += 1;
        }
        answer.i32()?;
    }
    Ok(partitions)
}

/// Which end of a partition.
#[derive(Clone, Copy)]
pub enum End {
    /// The first offset that is kept.
    Earliest,
    /// The offset that the next record gets.
    Latest,
}

/// The offsets at one end of each partition.
pub fn offsets(connection: &mut Connection, topic: &str, partitions: i32, end: End) -> Result<Vec<i64>, Error> {
    let time = if matches!(end, End::Latest) { -1 } else { -2 };
    let asked: Vec<(i32, i64)> = (0..partitions).map(|partition| (partition, time)).collect();
    let mut offsets = vec![-1; asked.len()];
    for (partition, offset) in offsets_at(connection, topic, &asked)? {
        if let Some(slot) = usize::try_from(partition).ok().and_then(|at| offsets.get_mut(at)) {
            *slot = offset;
        }
    }
    match offsets.iter().position(|&offset| offset < 0) {
        None => Ok(offsets),
        Some(partition) => Err(Error::Answer(format!("ListOffsets left out {topic}-{partition}"))),
    }
}

/// The first offsets at or after a time, by partition; -1 where there is none.
pub fn offsets_at(connection: &mut Connection, topic: &str, times: &[(i32, i64)]) -> Result<Vec<(i32, i64)>, Error> {
    let mut request = Writer::request(LIST_OFFSETS);
    request.i32(-1).i8(0).count(1).string(topic).count(times.len());
    for &(partition, time) in times {
        request.i32(partition).i32(-1).i64(time);
    }
    let mut answer = connection.call(request.finish())?;
    answer.i32()?;
    let mut offsets = Vec::with_capacity(times.len());
    for _ in 0..answer.count()? {
        answer.string()?;
        for _ in 0..answer.count()? {
            let partition = answer.i32()?;
            Error::check("ListOffsets", answer.i16()?, || format!("{topic}-{partition}"))?;
            answer.i64()?;
            offsets.push((partition, answer.i64()?));
            answer.i32()?;
        }
    }
    Ok(offsets)
}

/// Deletes a topic.
pub fn delete_topic(connection: &mut Connection, topic: &str) -> Result<(), Error> {
    let mut request = Writer::request(DELETE_TOPICS);
    request.count(1).string(topic).i32(WAIT_MS);
    let mut answer = connection.call(request.finish())?;
    answer.i32()?;
    for _ in 0..answer.count()? {
        answer.string()?;
        Error::check("DeleteTopics", answer.i16()?, || topic.into())?;
    }
    Ok(())
}
