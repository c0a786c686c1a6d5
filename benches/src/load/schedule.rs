//! When requests are due.
//!
//! An open loop sends on a fixed schedule, whatever the server does; latency counts from the moment at which a request was due, so
//! that the requests which a stalled server keeps from being sent count too. A closed loop sends when an earlier request is
//! answered.

use serde::Serialize;

/// How fast a load is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Rate {
    /// As fast as answers come: a closed loop.
    Closed,
    /// So many records per second.
    Records(f64),
    /// So many value bytes per second.
    Bytes(f64),
}

impl Rate {
    /// Reads `5000`, `5000/s`, `20MB` or `20MB/s`; `max` is a closed loop.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is no rate: 5000 (records/s), 20MB (bytes/s) or max");
        let text = text.trim().trim_end_matches("/s");
        if text == "max" {
            return Ok(Self::Closed);
        }
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let number: f64 = digits.parse().map_err(|_| wrong())?;
        if !(number.is_finite() && number > 0.0) {
            return Err(wrong());
        }
        match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" => Ok(Self::Records(number)),
            "kb" => Ok(Self::Bytes(number * 1e3)),
            "mb" => Ok(Self::Bytes(number * 1e6)),
            "gb" => Ok(Self::Bytes(number * 1e9)),
            _ => Err(wrong()),
        }
    }

    /// Requests per second, each of so many records and value bytes; `None` in a closed loop.
    #[must_use]
    pub fn requests_per_s(self, records: u64, value_bytes: u64) -> Option<f64> {
        match self {
            Self::Closed => None,
            Self::Records(rate) => Some(rate / records.max(1) as f64),
            Self::Bytes(rate) => Some(rate / value_bytes.max(1) as f64),
        }
    }
}

/// The schedule of one connection among several, which take turns.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Nanoseconds between two requests of all connections.
    interval_ns: f64,
    connections: u64,
    connection: u64,
}

impl Schedule {
    /// The schedule of a connection, so many requests a second in all.
    #[must_use]
    pub fn new(requests_per_s: f64, connections: u64, connection: u64) -> Self {
        Self { interval_ns: 1e9 / requests_per_s, connections, connection }
    }

    /// When its `nth` request is due, in nanoseconds from the start.
    #[must_use]
    pub fn due_ns(&self, nth: u64) -> u64 {
        ((nth * self.connections + self.connection) as f64 * self.interval_ns) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_units() {
        assert_eq!(Rate::parse("5000"), Ok(Rate::Records(5000.0)));
        assert_eq!(Rate::parse("1.5MB/s"), Ok(Rate::Bytes(1.5e6)));
        assert_eq!(Rate::parse("max"), Ok(Rate::Closed));
        for wrong in ["", "-1", "0", "5 apples", "inf"] {
            assert!(Rate::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Rate::Bytes(1e6).requests_per_s(10, 10_000), Some(100.0));
        assert_eq!(Rate::Records(50.0).requests_per_s(10, 10_000), Some(5.0));
    }

    #[test]
    fn connections_take_turns_and_no_time_is_lost_over_an_hour() {
        let of = |connection| Schedule::new(3.0, 2, connection);
        assert_eq!((of(0).due_ns(0), of(1).due_ns(0), of(0).due_ns(1)), (0, 333_333_333, 666_666_666));
        assert_eq!(of(0).due_ns(3600 * 3 / 2), 3_600_000_000_000);
    }
}
