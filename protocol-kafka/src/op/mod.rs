//! One file per operation. Each has `handle`, and its row in `table.rs`; nothing else names it.

pub(crate) mod api_versions;
pub(crate) mod fetch;
pub(crate) mod init_producer_id;
pub(crate) mod produce;
