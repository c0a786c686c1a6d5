//! Bringing what readers want from the medium into memory, without keeping appends waiting.
//!
//! Nothing is as fast as letting the kernel read far ahead, but what the medium was asked for by then stands before every write of the log:
//! four readers with windows of 16 MiB made producers wait for 150 to 380 ms. So while acknowledgements wait for the medium, cold reads
//! ask for small pieces, one after the other, all of them together. Decision 0012 has figures.
//!
//! Not covered: the scrub, compaction and indexes that are made anew, which read in small steps of their own; and windows that the kernel
//! began before the first append, for as long as their reader is slower than the medium.

use super::files::SegmentFile;
use crate::partition::millis;
use parking_lot::Mutex;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is asked for at a time beside appends: some 0.4 ms of a medium that reads 1.2 GB/s.
const PIECE: u64 = 512 << 10;
/// Who has appended is expected to append again for so long.
const APPENDS_STAY: Duration = Duration::from_secs(1);

/// What all cold reads of an engine share.
#[derive(Default)]
pub struct Loads {
    /// Appends are expected until then, in milliseconds of the monotonic clock.
    appends_until: AtomicU64,
    /// Held while the medium is asked for a piece beside appends.
    turn: Mutex<()>,
}

impl Loads {
    /// Notes that somebody waits for the medium to take what is appended.
    pub fn note_append(&self, now: Duration) {
        self.appends_until.store(millis(now + APPENDS_STAY), Ordering::Relaxed);
    }

    /// Whether somebody probably waits for the medium to take what is appended.
    pub fn is_beside_appends(&self, now: Duration) -> bool {
        millis(now) < self.appends_until.load(Ordering::Relaxed)
    }

    /// Waits until `[position, end)` is in memory, without looking at it. False when it is not all there after all.
    pub fn bring_in(&self, file: &SegmentFile, position: u64, end: u64, now: Duration) -> io::Result<bool> {
        file.settle(end)?;
        let disk_file = file.disk_file();
        if disk_file.size()? < end {
            return Err(file.too_short());
        }
        let size = end.saturating_sub(position);
        if disk_file.is_resident(position, size) {
            return Ok(true);
        }
        self.load(position, end, now, |at, size, ahead| disk_file.load(at, size, ahead))?;
        Ok(disk_file.is_resident(position, size))
    }

    fn load(
        &self,
        position: u64,
        end: u64,
        now: Duration,
        mut ask: impl FnMut(u64, u64, bool) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.is_beside_appends(now) {
            return ask(position, end.saturating_sub(position), true);
        }
        let mut at = position;
        while at < end {
            let piece = PIECE.min(end - at);
            let _turn = self.turn.lock();
            ask(at, piece, false)?;
            at += piece;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_appends_the_medium_is_asked_for_pieces_alone() {
        let loads = Loads::default();
        let asked = |now| {
            let mut asked = Vec::new();
            let load = loads.load(100, 2 * PIECE + 150, now, |at, size, ahead| {
                asked.push((at, size, ahead));
                Ok(())
            });
            load.map(|()| asked).unwrap()
        };
        let at_once = vec![(100, 2 * PIECE + 50, true)];
        let now = Duration::from_secs(5);
        assert_eq!(asked(now), at_once);
        loads.note_append(now);
        let pieces = vec![(100, PIECE, false), (100 + PIECE, PIECE, false), (100 + 2 * PIECE, 50, false)];
        assert_eq!(asked(now), pieces);
        assert_eq!(asked(now + APPENDS_STAY), at_once);
        loads.note_append(now);
        let failed = loads.load(0, 2 * PIECE, now, |_, _, _| Err(io::ErrorKind::Other.into()));
        assert!(failed.is_err() && loads.turn.try_lock().is_some());
    }
}
