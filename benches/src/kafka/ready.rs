//! Waits until a topic serves: every partition has a leader and takes a record.

use super::admin;
use super::batch::{Batch, Shape};
use super::connection::Connection;
use super::error::Error;
use super::produce::{Request, check};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Waits until every partition of `topic` took a record of one byte, and returns how long that took and how many there are.
/// With `partitions` the topic is made when it is missing. A server that does not accept connections yet is waited for.
pub fn wait(
    address: SocketAddr,
    topic: &str,
    partitions: Option<i32>,
    wait: Duration,
) -> Result<(Duration, i32), Error> {
    let begun = Instant::now();
    let batch = Shape::plain(1, 1).batch()?;
    let mut done = 0;
    loop {
        match attempt(address, topic, partitions, &batch, &mut done) {
            Ok(count) => return Ok((begun.elapsed(), count)),
            Err(error) if begun.elapsed() < wait && (error.is_transient() || matches!(error, Error::Io(_))) => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Tries the partitions that have not taken their record yet.
fn attempt(
    address: SocketAddr,
    topic: &str,
    partitions: Option<i32>,
    batch: &Batch,
    done: &mut i32,
) -> Result<i32, Error> {
    let mut connection = Connection::open(address)?;
    if let Some(partitions) = partitions {
        admin::ensure_topic(&mut connection, topic, partitions)?;
    }
    let count = admin::partition_count(&mut connection, topic)?;
    let mut request = Request::new(topic, -1, batch, 1);
    while *done < count {
        request.aim(0, *done);
        connection.send(request.frame())?;
        check(connection.receive()?)?;
        *done += 1;
    }
    Ok(count)
}
