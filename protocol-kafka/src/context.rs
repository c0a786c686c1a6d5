//! What every operation gets: the engine and the listener's own facts.

use crate::call::Call;
use crate::connection::FetchSessions;
use crate::connection::Spares;
use crate::group::Coordinator;
use crate::options::Options;
use crate::table;
use headwater_engine::Engine;
use headwater_protocol::budget::Budget;
use headwater_protocol::metrics::Metrics;
use headwater_protocol::waiting_room::WaitingRoom;
use headwater_protocol::{Phase, Shutdown, WaitEnds};
use kafka_protocol::protocol::StrBytes;
use std::sync::{Arc, OnceLock};
use tokio::sync::Semaphore;

const HEAVY_CHECKS_MAX: usize = 2;

/// The part of the memory for requests that answers may take beside it, while they are made.
const ANSWERS_PART: u64 = 4;

/// Shared by all connections of a listener.
pub struct Context {
    /// The engine.
    pub engine: Engine,
    /// The listener's settings, the advertised port filled in.
    pub options: Options,
    /// The cluster id on the wire: the data folder's id in URL-safe base64, as Kafka writes its own.
    pub cluster_id: StrBytes,
    /// Incremental fetch sessions. They belong to the broker, not to a connection: a client may go on with its session on a
    /// new one.
    pub(crate) fetch_sessions: FetchSessions,
    /// Consumer groups.
    pub(crate) groups: Coordinator,
    /// Memory for requests.
    pub(crate) budget: Arc<Budget>,
    /// Buffers for requests.
    pub(crate) spares: Arc<Spares>,
    /// Memory for answers that are made, and of those that wait to be sent.
    pub(crate) answers: Arc<Budget>,
    /// Batches that inflate to much are checked by replay threads, so many at once: each takes up to 64 MiB, and reads of
    /// what is not in memory need those threads too.
    pub(crate) heavy_checks: Semaphore,
    pub(crate) metrics: Arc<Metrics>,
    /// When long polls end.
    pub(crate) wait_ends: WaitEnds,
    /// Where connections wait whose long polls end with nothing. None when the system has no means for it.
    waiting_room: OnceLock<Option<WaitingRoom>>,
    shutdown: Option<Shutdown>,
}

impl Context {
    /// A context for a listener of `engine`, with counters of its own and no shutdown.
    pub fn new(engine: Engine, options: Options) -> Context {
        let ctx = Context {
            cluster_id: StrBytes::from_string(crate::map::cluster_id(engine.data_id())),
            fetch_sessions: FetchSessions::new(&options.limits, engine.node_epoch()),
            groups: Coordinator::new(engine.clone(), options.groups.clone()),
            budget: Budget::new(options.limits.request_memory_max),
            spares: Arc::default(),
            answers: Budget::new(options.limits.request_memory_max / ANSWERS_PART),
            heavy_checks: Semaphore::new(HEAVY_CHECKS_MAX),
            metrics: Arc::new(table::metrics()),
            wait_ends: WaitEnds::new(),
            waiting_room: OnceLock::new(),
            shutdown: None,
            engine,
            options,
        };
        ctx.metrics.show_budget(&ctx.budget);
        ctx
    }

    /// The same with counters that somebody else reads.
    #[must_use]
    pub fn with_metrics(self, metrics: Arc<Metrics>) -> Context {
        metrics.show_budget(&self.budget);
        Context { metrics, ..self }
    }

    /// The same with a shutdown, which long polls listen to.
    #[must_use]
    pub fn with_shutdown(self, shutdown: Shutdown) -> Context {
        Context { shutdown: Some(shutdown), ..self }
    }

    /// The listener's counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts an error in an answer; 0 is none.
    pub fn count_error(&self, call: &Call, code: i16) {
        if code != 0 {
            self.metrics.failed(call.operation, code);
        }
    }

    /// How many connections are given away to the waiting room.
    pub fn connections_waiting(&self) -> usize {
        self.waiting_room.get().and_then(Option::as_ref).map_or(0, WaitingRoom::len)
    }

    /// Where connections wait; it opens for the first one, or never: what is short then may be short again, and waiting goes on without.
    pub(crate) fn waiting_room(&self) -> Option<&WaitingRoom> {
        let open = || WaitingRoom::open(self.wait_ends, self.metrics.clone());
        let logged = || open().inspect_err(|error| tracing::warn!(%error, "there is no waiting room")).ok();
        self.waiting_room.get_or_init(logged).as_ref()
    }

    /// Whether the listener has stopped taking requests. A connection's requests are polled when it does, so a wait that looks
    /// whenever it is polled need not be woken for it.
    pub(crate) fn is_draining(&self) -> bool {
        self.shutdown.as_ref().is_some_and(|shutdown| shutdown.phase() >= Phase::Draining)
    }

    /// Waits until the listener stops taking requests.
    pub(crate) async fn draining(&self) {
        match self.shutdown.clone() {
            Some(mut shutdown) => shutdown.reached(Phase::Draining).await,
            None => std::future::pending().await,
        }
    }
}
