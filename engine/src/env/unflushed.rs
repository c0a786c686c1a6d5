//! The WAL device of a server that does not wait for the medium: small blocks go through the page cache, large ones past it.
//!
//! A block in the page cache costs a copy, and the kernel's work on every page of it, twice. A large one that goes to the medium without a flush costs a fifth of
//! that, and its acknowledgement waits for the transfer, some hundred microseconds; a small one would wait as long for nothing. Both are the same promise: the
//! block outlives the process, and not the machine.
//!
//! The way is chosen for some megabytes at a time: where a block goes past the page cache to a place that it has dirty pages of, the kernel writes those back
//! first, which is right and slow.

use super::aligned::AlignedBuffer;
use super::disk::{Completed, DiskFile, WalDevice, WalWrite};
use super::portable::PortableDevice;
use super::uring::UringDevice;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Where blocks have so many bytes on average, the next ones go past the page cache. Those that wait for the medium grow meanwhile, so a load
/// does not go to and fro.
const DIRECT_MEAN: u64 = 128 << 10;
/// The way is chosen anew after so many bytes, or as many blocks as they are of that mean.
const TURN: u64 = 16 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Cached,
    Direct,
}

/// A file, opened both ways.
struct Pair {
    cached: Arc<dyn DiskFile>,
    direct: Arc<dyn DiskFile>,
}

/// Writes WAL blocks whichever way costs less.
pub(super) struct UnflushedDevice {
    cached: PortableDevice,
    direct: UringDevice,
    files: Vec<Pair>,
    /// How blocks are made and written.
    way: Way,
    /// How the last one was written.
    last: Way,
    turn: Turn,
    done: Vec<Completed>,
}

/// What was written since the way was chosen.
struct Turn {
    size: u64,
    bytes: u64,
    blocks: u64,
}

impl Turn {
    fn new(size: u64) -> Turn {
        Turn { size, bytes: 0, blocks: 0 }
    }

    /// Takes note of a block. Tells the way of those that follow, when it is time to choose.
    fn count(&mut self, block: usize) -> Option<Way> {
        self.bytes += block as u64;
        self.blocks += 1;
        let way = if self.bytes >= self.size {
            Way::Direct
        } else if self.blocks >= self.size / DIRECT_MEAN {
            Way::Cached
        } else {
            return None;
        };
        *self = Turn::new(self.size);
        Some(way)
    }
}

impl UnflushedDevice {
    /// A device for files in `dir`; an error where io_uring cannot write past the page cache there.
    pub(super) fn probe(dir: &Path) -> io::Result<UnflushedDevice> {
        let direct = UringDevice::probe(dir)?;
        if !direct.is_direct() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "nothing goes past the page cache here"));
        }
        Ok(UnflushedDevice {
            cached: PortableDevice::new(),
            direct,
            files: Vec::new(),
            way: Way::Cached,
            last: Way::Cached,
            turn: Turn::new(TURN),
            done: Vec::new(),
        })
    }

    /// Before a block that goes the other way: those on their way arrive, and it learns what is yet to be made durable.
    fn turn_to(&mut self, way: Way) -> io::Result<()> {
        if self.last != way {
            self.direct.reap_all(&mut self.done)?;
            std::mem::swap(self.cached.unsynced(), self.direct.unsynced());
            self.last = way;
            tracing::debug!(?way, "the WAL's blocks go another way");
        }
        Ok(())
    }
}

impl WalDevice for UnflushedDevice {
    fn name(&self) -> &'static str {
        "unflushed"
    }

    fn depth(&self) -> usize {
        self.direct.depth()
    }

    fn open(&mut self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let (cached, direct) = (self.cached.open(path)?, self.direct.open(path)?);
        self.files.push(Pair { cached: cached.clone(), direct });
        Ok(cached)
    }

    fn buffer(&mut self, capacity: usize) -> AlignedBuffer {
        self.direct.buffer(capacity)
    }

    fn gathers(&self) -> bool {
        self.way == Way::Cached
    }

    fn submit(&mut self, mut write: WalWrite) -> io::Result<()> {
        write.check()?;
        if self.done.len() >= self.depth() {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "as many writes as may be have not been reaped"));
        }
        let Some(pair) = self.files.iter().find(|pair| Arc::ptr_eq(&pair.cached, &write.file)) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file of another device"));
        };
        let direct = pair.direct.clone();
        let way = if write.block.whole().is_some() { self.way } else { Way::Cached };
        self.way = self.turn.count(write.block.len()).unwrap_or(self.way);
        self.turn_to(way)?;
        match way {
            Way::Direct => {
                write.file = direct;
                self.direct.submit(write)
            }
            Way::Cached => {
                self.cached.submit(write)?;
                self.cached.reap(true, &mut self.done)
            }
        }
    }

    fn reap(&mut self, wait: bool, out: &mut Vec<Completed>) -> io::Result<()> {
        let has_some = !self.done.is_empty();
        out.append(&mut self.done);
        self.direct.reap(wait && !has_some, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Disk, OpenMode, RealDisk, WalBytes, WalMethod};
    use bytes::Bytes;

    const FILE: usize = 2 << 20;

    type Files = Vec<Arc<dyn DiskFile>>;

    fn device(files: usize) -> Option<(tempfile::TempDir, UnflushedDevice, Files)> {
        let folder = tempfile::tempdir().unwrap();
        let mut device = match UnflushedDevice::probe(folder.path()) {
            Ok(device) => device,
            // Where io_uring or direct writes are refused there is nothing to test.
            Err(error) => {
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let disk = RealDisk::open(folder.path()).unwrap();
        let open = |number: usize| {
            let path = folder.path().join(number.to_string());
            disk.open(&path, OpenMode::Create).unwrap().set_size(FILE as u64).unwrap();
            device.open(&path).unwrap()
        };
        let files = (0..files).map(open).collect();
        Some((folder, device, files))
    }

    fn block(device: &mut UnflushedDevice, size: usize, byte: u8) -> WalBytes {
        let mut block = WalBytes::new(device.buffer(size));
        if device.gathers() {
            block.put(&vec![byte; size / 2]);
            block.put_apart(Bytes::from(vec![byte; size / 2]));
        } else {
            block.put(&vec![byte; size]);
        }
        block
    }

    fn write(device: &mut UnflushedDevice, file: &Arc<dyn DiskFile>, position: usize, block: WalBytes, sync: bool) {
        let write = WalWrite { file: file.clone(), position: position as u64, block: Arc::new(block), sync, tag: 7 };
        device.submit(write).unwrap();
    }

    fn finish(device: &mut UnflushedDevice, count: usize) -> Vec<Completed> {
        let mut done = Vec::new();
        while done.len() < count {
            device.reap(true, &mut done).unwrap();
        }
        assert_eq!(done.len(), count);
        done
    }

    /// Round and round the files, as the log goes, with large blocks, then small ones, then large ones again. A turn is 2 MiB or 16 blocks here, and
    /// some blocks are in flight when it ends.
    #[test]
    fn whichever_way_blocks_go_the_last_one_is_read() {
        let Some((folder, mut device, files)) = device(3) else { return };
        device.turn = Turn::new(FILE as u64);
        let mut expected = vec![vec![0; FILE]; files.len()];
        let mut ways = Vec::new();
        let mut byte = 0;
        for (lap, size) in [512 << 10, 512 << 10, 8 << 10, 8 << 10, 32 << 10, 256 << 10, 256 << 10].iter().enumerate() {
            let number = lap % files.len();
            let mut position = 0;
            let mut in_flight = 0;
            while position + size <= FILE {
                byte = byte % 250 + 1;
                let next = block(&mut device, *size, byte);
                write(&mut device, &files[number], position, next, byte % 5 == 0);
                expected[number][position..position + size].fill(byte);
                position += size;
                in_flight += 1;
                if in_flight == 3 || position + size > FILE {
                    assert!(finish(&mut device, in_flight).iter().all(|completed| completed.result.is_ok()));
                    in_flight = 0;
                }
            }
            ways.push(device.last);
        }
        use Way::{Cached, Direct};
        assert_eq!(ways, [Cached, Direct, Cached, Cached, Cached, Cached, Direct]);
        drop((device, files));
        let disk = RealDisk::open(folder.path()).unwrap();
        for (number, expected) in expected.iter().enumerate() {
            let file = disk.open(&folder.path().join(number.to_string()), OpenMode::Read).unwrap();
            assert!(file.slice(0, FILE).unwrap() == *expected, "file {number}");
        }
    }

    #[test]
    fn what_one_way_has_not_made_durable_the_other_does() {
        for way in [Way::Cached, Way::Direct] {
            let Some((_folder, mut device, files)) = device(2) else { return };
            (device.way, device.last) = (way, way);
            let first = block(&mut device, 1 << 20, 1);
            write(&mut device, &files[0], 0, first, false);
            let other = if way == Way::Cached { Way::Direct } else { Way::Cached };
            device.way = other;
            device.turn_to(other).unwrap();
            let Pair { cached, direct } = &device.files[0];
            let (written, unsynced) = match way {
                Way::Cached => (cached.clone(), device.direct.unsynced()),
                Way::Direct => (direct.clone(), device.cached.unsynced()),
            };
            assert!(unsynced.holds(&written), "what went {way:?} is known");
            let second = block(&mut device, 4096, 1);
            write(&mut device, &files[1], 0, second, true);
            let done = finish(&mut device, 2);
            assert!(done.iter().all(|completed| completed.result.is_ok()));
            assert!(!device.direct.unsynced().holds(&written) && !device.cached.unsynced().holds(&written));
        }
    }

    #[test]
    fn after_a_failure_nothing_is_durable_either_way() {
        for (way, other) in [(Way::Cached, Way::Direct), (Way::Direct, Way::Cached)] {
            let Some((folder, mut device, files)) = device(2) else { return };
            let read_only =
                RealDisk::open(folder.path()).unwrap().open(&folder.path().join("0"), OpenMode::Read).unwrap();
            device.files[0] = Pair { cached: read_only.clone(), direct: read_only.clone() };
            (device.way, device.last) = (way, way);
            let next = block(&mut device, 8192, 1);
            write(&mut device, &read_only, 0, next, false);
            device.way = other;
            let next = block(&mut device, 8192, 1);
            write(&mut device, &files[1], 0, next, true);
            let done = finish(&mut device, 2);
            assert!(done.iter().all(|completed| completed.result.is_err()), "{way:?}, then {other:?}");
        }
    }

    #[test]
    fn what_is_not_reaped_is_bounded() {
        let Some((_folder, mut device, files)) = device(1) else { return };
        for _ in 0..device.depth() {
            let next = block(&mut device, 8192, 1);
            write(&mut device, &files[0], 0, next, false);
        }
        let block = Arc::new(block(&mut device, 8192, 1));
        let one_more = WalWrite { file: files[0].clone(), position: 0, block, sync: false, tag: 7 };
        assert_eq!(device.submit(one_more).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }

    #[test]
    fn a_file_of_another_device_is_refused() {
        let Some((folder, mut device, _)) = device(1) else { return };
        let disk = RealDisk::open(folder.path()).unwrap();
        let mut other = disk.wal_device(WalMethod::Portable, folder.path()).unwrap();
        let file = other.open(&folder.path().join("0")).unwrap();
        let block = Arc::new(block(&mut device, 4096, 1));
        assert!(device.submit(WalWrite { file, position: 0, block, sync: false, tag: 0 }).is_err());
    }
}
