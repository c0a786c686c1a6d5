//! Remembers which WAL files hold writes that nobody has made durable yet.
//!
//! A durable block is worth nothing when an earlier block that recovery must read before it is lost. `fdatasync` of one file
//! says nothing about another, and a direct write with `RWF_DSYNC` says nothing even about other writes to the same file. So a
//! device keeps this list, and a write with `sync` that follows writes without it flushes their files as well. It also knows whether anything failed: from
//! then on nothing is called durable.

use super::disk::DiskFile;
use std::sync::Arc;

/// Files with unsynced writes; a WAL has few, so a list will do.
#[derive(Default)]
pub(super) struct Unsynced {
    files: Vec<Arc<dyn DiskFile>>,
    /// A write or flush has failed: nothing is called durable any more.
    pub(super) has_failed: bool,
}

impl Unsynced {
    pub(super) fn add(&mut self, file: &Arc<dyn DiskFile>) {
        if !self.holds(file) {
            self.files.push(file.clone());
        }
    }

    /// Nothing to make durable, and nothing failed.
    pub(super) fn is_clean(&self) -> bool {
        self.files.is_empty() && !self.has_failed
    }

    pub(super) fn holds(&self, file: &Arc<dyn DiskFile>) -> bool {
        self.files.iter().any(|known| Arc::ptr_eq(known, file))
    }

    /// The files, for the caller to flush. It must treat a failed flush as fatal: they are forgotten here.
    pub(super) fn take(&mut self) -> Vec<Arc<dyn DiskFile>> {
        std::mem::take(&mut self.files)
    }
}
