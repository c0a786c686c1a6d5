//! Kafka's wire protocol over the Headwater engine.
//!
//! A request travels: `connection` reads a frame and its header, `table` names the handler, `codec` decodes the body, `op`
//! does the work on the engine, `map` translates what the engine says, and the answer goes back through `connection`, record
//! bytes as ranges of files. Codecs do no I/O and know no engine; only `map` knows both vocabularies.

mod call;
mod codec;
mod connection;
mod context;
mod map;
mod op;
mod options;
mod table;

pub use call::{Call, Close, Handler, Reply, Running};
pub use connection::serve;
pub use context::Context;
pub use options::Options;
pub use table::{Access, Action, Row, TABLE, operations_page};
