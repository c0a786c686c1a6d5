//! A small ext4 filesystem of one's own, for tests that fill or break it. That takes the rights of root; where they are
//! missing, the tests are skipped and say so.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SECTOR: u64 = 512;
/// Where the only partition of a breakable device begins.
const PARTITION_START: u64 = 2048;

/// A mounted filesystem. It must outlive every server that uses it.
pub struct Filesystem {
    folder: TempDir,
    /// The loop device, when the filesystem is on a partition of one.
    device: Option<String>,
    sectors: u64,
}

/// Runs a command to its end and returns what it printed.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the target folder's name is UTF-8")
}

impl Filesystem {
    /// A filesystem of `size_mib`.
    pub fn make(test: &str, size_mib: u64) -> Option<Filesystem> {
        told(test, Filesystem::try_make(size_mib, false))
    }

    /// A filesystem whose device can be broken and repaired.
    pub fn make_breakable(test: &str, size_mib: u64) -> Option<Filesystem> {
        told(test, Filesystem::try_make(size_mib, true))
    }

    fn try_make(size_mib: u64, breakable: bool) -> Result<Filesystem> {
        fs::create_dir_all(crate::FOLDER)?;
        let folder = tempfile::Builder::new().prefix("headwater-").tempdir_in(crate::FOLDER)?;
        let sectors = (size_mib << 20) / SECTOR - PARTITION_START;
        let mut filesystem = Filesystem { folder, device: None, sectors };
        fs::create_dir(filesystem.mount())?;
        let image = filesystem.folder.path().join("image");
        File::create(&image)?.set_len(size_mib << 20)?;
        if !breakable {
            run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&image)])?;
            run("mount", &["-o", "loop", text(&image), text(&filesystem.mount())])?;
            return Ok(filesystem);
        }
        let device = run("losetup", &["--find", "--show", text(&image)])?.trim().to_owned();
        filesystem.device = Some(device.clone());
        run("addpart", &[&device, "1", &PARTITION_START.to_string(), &sectors.to_string()])?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &format!("{device}p1")])?;
        filesystem.attach()?;
        Ok(filesystem)
    }

    fn attach(&self) -> Result<()> {
        let device = self.device.as_deref().context("it cannot be broken")?;
        run("mount", &[&format!("{device}p1"), text(&self.mount())]).map(|_| ())
    }

    /// Where it is mounted.
    pub fn mount(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// Free bytes.
    pub fn free(&self) -> Result<u64> {
        let said = run("df", &["--output=avail", "--block-size=1", text(&self.mount())])?;
        said.lines().nth(1).and_then(|line| line.trim().parse().ok()).with_context(|| format!("df says {said}"))
    }

    /// Writes a file of that name that takes all the space that is left, to the last block.
    pub fn fill(&self, name: &str) -> Result<()> {
        let mut file = File::create(self.mount().join(name))?;
        let zeros = vec![0; 1 << 20];
        let mut size = zeros.len();
        while size >= 4096 {
            match file.write_all(&zeros[..size]).and_then(|()| file.sync_all()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Shrinks the device under the mounted filesystem to its first mebibyte: reading and writing beyond fail with EIO. What
    /// was written before stays.
    ///
    /// A loop device over a file that cannot grow would do as well, but some kernels report a write that was cut short as
    /// done.
    pub fn break_device(&self) -> Result<()> {
        self.resize(PARTITION_START)
    }

    /// Gives the device its size back and mounts the filesystem anew, as an administrator would.
    pub fn repair_device(&self) -> Result<()> {
        self.resize(self.sectors)?;
        // The kernel lets go of a process's io_uring a moment after the process has ended.
        let patience = Instant::now() + Duration::from_secs(20);
        while let Err(error) = run("umount", &[text(&self.mount())]) {
            ensure!(Instant::now() < patience, error);
            std::thread::sleep(Duration::from_millis(50));
        }
        self.attach()
    }

    fn resize(&self, sectors: u64) -> Result<()> {
        let device = self.device.as_deref().context("it cannot be broken")?;
        run("resizepart", &[device, "1", &sectors.to_string()]).map(|_| ())
    }
}

fn told(test: &str, made: Result<Filesystem>) -> Option<Filesystem> {
    made.inspect_err(|error| println!("SKIPPED {test}: no filesystem of its own can be made: {error:#}")).ok()
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        let mount = self.mount();
        let _never_mounted = run("umount", &[text(&mount)]).or_else(|_| run("umount", &["--lazy", text(&mount)]));
        if let Some(device) = &self.device {
            let _never_added = run("delpart", &[device, "1"]);
            let _in_use = run("losetup", &["--detach", device]);
        }
    }
}
