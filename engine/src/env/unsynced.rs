//! Remembers which WAL files hold writes that nobody has made durable yet.
//!
//! A durable block is worth nothing when an earlier block that recovery must read before it is lost. `fdatasync` of one file
//! says nothing about another, and a direct write with `RWF_DSYNC` says nothing even about other writes to the same file. So a
//! device keeps this list, and a write with `sync` that follows writes without it flushes their files as well.

use super::disk::DiskFile;
use std::sync::Arc;

/// Files with unsynced writes; a WAL has few, so a list will do.
#[derive(Default)]
pub(super) struct Unsynced {
    files: Vec<Arc<dyn DiskFile>>,
}

impl Unsynced {
    pub(super) fn add(&mut self, file: &Arc<dyn DiskFile>) {
        if !self.files.iter().any(|known| Arc::ptr_eq(known, file)) {
            self.files.push(file.clone());
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files, for the caller to flush. It must treat a failed flush as fatal: they are forgotten here.
    pub(super) fn take(&mut self) -> Vec<Arc<dyn DiskFile>> {
        std::mem::take(&mut self.files)
    }
}
