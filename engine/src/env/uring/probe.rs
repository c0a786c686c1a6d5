//! Finds out by a real write what of io_uring works in a folder.
#![allow(clippy::disallowed_methods, reason = "this is the seam")]

use super::{Setting, UringDevice, WalDevice, WalWrite};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Best first. Registered buffers without direct I/O would save too little to be worth a try.
const SETTINGS: [Setting; 3] = [
    Setting { direct: true, registered: true },
    Setting { direct: true, registered: false },
    Setting { direct: false, registered: false },
];

/// Tells probes of one process apart.
static PROBES: AtomicU64 = AtomicU64::new(0);

impl UringDevice {
    /// The best device that works for files in `dir`, or why none does.
    pub(in crate::env) fn probe(dir: &Path) -> io::Result<UringDevice> {
        let mut refused = None;
        for setting in SETTINGS {
            match UringDevice::try_out(setting, dir) {
                Ok(device) => {
                    tracing::debug!(?setting, "io_uring works");
                    return Ok(device);
                }
                Err(error) => {
                    tracing::info!(?setting, %error, "io_uring does not work so");
                    refused = Some(error);
                }
            }
        }
        Err(refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
    }

    /// A device that has proved itself by a durable and by an ordinary write to a file in `dir` that is gone afterwards.
    pub(super) fn try_out(setting: Setting, dir: &Path) -> io::Result<UringDevice> {
        let mut device = UringDevice::new(setting)?;
        let number = PROBES.fetch_add(1, Ordering::Relaxed);
        let path: PathBuf = dir.join(format!(".wal-probe-{}-{number}", std::process::id()));
        // One of that name can only be left over from a process that was killed in the midst of this.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let plain = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let opened = device.open(&path);
        fs::remove_file(&path)?;
        let file = opened?;
        let mut expected = Vec::new();
        for (tag, sync) in [(0u64, true), (1, false)] {
            let mut block = device.buffer(4096);
            block.extend_from_slice(format!("headwater probe {tag}").as_bytes());
            block.pad_to(4096);
            expected.extend_from_slice(block.as_slice());
            let mut done = Vec::new();
            device.submit(WalWrite {
                file: file.clone(),
                position: tag * 4096,
                block: Arc::new(block.into()),
                sync,
                tag,
            })?;
            device.reap(true, &mut done)?;
            for completed in done {
                completed.result?;
            }
        }
        drop(file);
        // The probe's file need not be flushed by the first real write.
        *device.unsynced() = Default::default();
        let mut read = vec![0; expected.len()];
        plain.read_exact_at(&mut read, 0)?;
        if read == expected {
            Ok(device)
        } else {
            Err(io::Error::other("the probe reads back other bytes than it wrote"))
        }
    }
}
