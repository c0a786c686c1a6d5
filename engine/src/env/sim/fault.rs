//! Errors that a test asks for.

use std::io;
use std::path::Path;

/// What fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultOp {
    /// `read_at` and `slice`.
    Read,
    /// `write_at`, and WAL writes, whose completion carries the error.
    Write,
    /// `sync`, `sync_dir`, the syncing half of a WAL write with `sync`, and `sync_all`, which asks for each dirty file.
    Sync,
}

/// An error that waits for its moment.
pub(super) struct Fault {
    pub(super) op: FaultOp,
    /// How many matching operations are left until it strikes.
    pub(super) left: u64,
    pub(super) path: Box<dyn Fn(&Path) -> bool + Send>,
}

/// The errors that wait.
#[derive(Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    /// Whether this operation fails. Each fault strikes once.
    pub(super) fn strikes(&mut self, op: FaultOp, path: &Path) -> bool {
        let mut struck = false;
        self.0.retain_mut(|fault| {
            if fault.op != op || !(fault.path)(path) {
                return true;
            }
            fault.left = fault.left.saturating_sub(1);
            struck |= fault.left == 0;
            fault.left > 0
        });
        struck
    }
}

pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

pub(super) fn enospc() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}
