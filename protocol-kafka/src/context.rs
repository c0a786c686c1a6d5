//! What every operation gets: the engine and the listener's own facts.

use crate::connection::FetchSessions;
use crate::options::Options;
use headwater_engine::Engine;
use kafka_protocol::protocol::StrBytes;

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
}

impl Context {
    /// A context for a listener of `engine`.
    pub fn new(engine: Engine, options: Options) -> Context {
        let cluster_id = StrBytes::from_string(crate::map::cluster_id(engine.data_id()));
        let fetch_sessions = FetchSessions::new(options.limits.fetch_sessions_max);
        Context { engine, options, cluster_id, fetch_sessions }
    }
}
