//! Every bound of the network side, in one place.

use std::time::Duration;

/// What clients may take of the server. Each bound is answered, when reached, as the protocol says; where it has no words for
/// it, the connection closes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of one listener; one more is closed at once.
    pub connections_max: usize,
    /// Bytes of one request.
    pub request_bytes_max: usize,
    /// Bytes of one request that carries no records. What is decoded of it takes up to `decoded_factor` times as much.
    pub control_request_bytes_max: usize,
    /// Bytes of memory for requests, and for answers that are not ranges of files, of all connections of a listener. Answers that are
    /// being made may take a quarter of it beside.
    pub request_memory_max: u64,
    /// How much larger than its frame a decoded request may be; its memory is taken from `request_memory_max` in advance.
    pub decoded_factor: usize,
    /// Requests of one connection that wait for the medium; the next is read when one of them is answered.
    pub pending_requests_max: usize,
    /// Bytes of requests of one connection that wait for the medium.
    pub pending_bytes_max: usize,
    /// Bytes that the system may hold of what a connection was sent and has not taken; none lets the system decide, which
    /// gives more to those who take it fast.
    pub send_buffer_bytes: Option<usize>,
    /// Bytes of answers of one connection that wait for the client to read them, ranges of files included.
    pub unread_bytes_max: u64,
    /// A connection without a request for so long closes.
    pub idle_max: Duration,
    /// A connection that stops in the middle of a request, or reads nothing of an answer, for so long closes.
    pub stall_max: Duration,
    /// A request that takes `stall_max` and is still slower than this many bytes in a second closes its connection, so that
    /// memory is not held by a byte now and then.
    pub request_rate_min: u64,
    /// After a shutdown has begun, requests in flight have so long.
    pub drain_max: Duration,
    /// How long an append waits when the engine is busy before it is refused.
    pub busy_wait_max: Duration,
    /// Incremental fetch sessions.
    pub fetch_sessions_max: usize,
    /// Partitions of all incremental fetch sessions together.
    pub fetch_session_partitions_max: usize,
    /// Bytes of records in one fetch answer, whatever the client asks for.
    pub fetch_bytes_max: usize,
    /// How long a fetch may wait for data, whatever the client asks for.
    pub fetch_wait_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 10_000,
            request_bytes_max: 100 << 20,
            control_request_bytes_max: 8 << 20,
            request_memory_max: 512 << 20,
            decoded_factor: 32,
            pending_requests_max: 64,
            pending_bytes_max: 32 << 20,
            send_buffer_bytes: None,
            unread_bytes_max: 1 << 20,
            idle_max: Duration::from_secs(600),
            stall_max: Duration::from_secs(30),
            request_rate_min: 1 << 20,
            drain_max: Duration::from_secs(10),
            busy_wait_max: Duration::from_secs(5),
            fetch_sessions_max: 1_000,
            fetch_session_partitions_max: 1_000_000,
            fetch_bytes_max: 55 << 20,
            fetch_wait_max: Duration::from_secs(300),
        }
    }
}
