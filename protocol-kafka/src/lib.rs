//! Kafka's wire protocol over the Headwater engine.
//!
//! A request travels: `connection` reads a frame and its header, `table` names the handler, `codec` decodes the body, `op`
//! does the work on the engine, `map` translates what the engine says, and the answer goes back through `connection`, record
//! bytes as ranges of files. Codecs do no I/O and know no engine; only `map` knows both vocabularies.

mod broker_config;
mod call;
mod codec;
mod config_change;
mod connection;
mod context;
mod group;
mod limits;
mod map;
mod model;
mod op;
mod options;
mod resource_config;
mod table;
mod topic_config;
mod topic_name;
mod topics;

pub use broker_config::broker_settings_page;
pub use call::{Call, Close, Handler, Outcome, Reply, Running, Waiting};
pub use connection::{serve, serve_connection};
pub use context::Context;
pub use op::fetch::{LastFetch, LongPoll};
pub use options::{GroupOptions, Options};
pub use table::{Access, Action, Row, TABLE, metrics, operations_page};
pub use topic_config::{check_topic_setting, topic_settings_page};
