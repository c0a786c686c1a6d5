//! The machine's disk: `std::fs` and a few Linux calls behind the `Disk` trait.
//!
//! Paths are taken as they are; `root` serves only to name the filesystem, for `sync_all` and `free_bytes`. Its descriptor is
//! held open from the start, because the kernel reports a write-back error to each descriptor that was open when it happened.
#![allow(clippy::disallowed_methods, reason = "this is the seam")]

use super::disk::{DirLock, Disk, DiskFile, OpenMode, WalDevice, WalMethod};
use super::portable::PortableDevice;
use super::real_file::RealFile;
use super::sys;
use super::unflushed::UnflushedDevice;
use super::uring::UringDevice;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// The machine's disk.
pub struct RealDisk {
    root: File,
}

impl RealDisk {
    /// A disk for the data folder `root`, which is made when it is missing.
    pub fn open(root: &Path) -> io::Result<RealDisk> {
        make_dirs(root)?;
        Ok(RealDisk { root: File::open(root)? })
    }
}

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        make_dirs(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        open_file(path, mode)
    }

    fn open_direct(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path) {
            Ok(file) => Ok(Arc::new(RealFile::new(file))),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.open(path, OpenMode::Write),
            Err(error) => Err(error),
        }
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir(path),
            other => other,
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is no UTF-8 is none of ours; its stand-in matches no file, and nobody looks for it.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        sys::syncfs(self.root.as_fd())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        sys::free_bytes(self.root.as_fd())
    }

    fn total_bytes(&self) -> io::Result<u64> {
        sys::total_bytes(self.root.as_fd())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirLock>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().write(true).create(true).truncate(false).open(path)?
            }
            other => other?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => {
                let message = format!("{} is in use by another process", path.display());
                Err(io::Error::new(io::ErrorKind::WouldBlock, message))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn wal_device(&self, method: WalMethod, dir: &Path) -> io::Result<Box<dyn WalDevice>> {
        let best: io::Result<Box<dyn WalDevice>> = match method {
            WalMethod::Portable => return Ok(Box::new(PortableDevice::new())),
            WalMethod::IoUring => return Ok(Box::new(UringDevice::probe(dir)?)),
            WalMethod::Auto => UringDevice::probe(dir).map(|device| Box::new(device) as _),
            WalMethod::Unflushed => UnflushedDevice::probe(dir).map(|device| Box::new(device) as _),
        };
        Ok(best.inspect(|device| tracing::info!(method = device.name(), "WAL device chosen")).unwrap_or_else(|error| {
            let device = PortableDevice::new();
            tracing::info!(method = device.name(), why = %error, "WAL device chosen; io_uring does not work here");
            Box::new(device)
        }))
    }
}

/// Opens a file for buffered reads and writes.
pub(super) fn open_file(path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
    let mut options = OpenOptions::new();
    options.read(true).write(mode != OpenMode::Read).create_new(mode == OpenMode::Create);
    Ok(Arc::new(RealFile::new(options.open(path)?)))
}

/// Holds the `flock`; the kernel lets go of it when the file closes, however the process ends.
struct RealLock {
    _file: File,
}

impl DirLock for RealLock {}

/// Makes the folders that are missing, each synced into the one above it.
fn make_dirs(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_dirs(parent)?;
    match fs::create_dir(path) {
        Ok(()) => {}
        // Another thread may have been faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(error),
    }
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests;
