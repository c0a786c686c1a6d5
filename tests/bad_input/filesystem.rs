//! A small ext4 filesystem of one's own, for tests that fill or break it. That takes the rights of root; where they are
//! missing, the tests are skipped and say so.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A mounted filesystem. It must outlive every server that uses it.
pub struct Filesystem {
    folder: TempDir,
    thin: bool,
}

/// Runs a command to its end and returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the target folder's name is UTF-8")
}

/// Writes zeros until there is no space for another block.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
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

impl Filesystem {
    /// A filesystem of `size_mib`. With `backing_mib` its device has only so much room in fact, as a thinly provisioned disk:
    /// what is written beyond fails with EIO, until `enlarge`.
    pub fn make(test: &str, size_mib: u64, backing_mib: Option<u64>) -> Option<Filesystem> {
        match Filesystem::try_make(size_mib, backing_mib) {
            Ok(filesystem) => Some(filesystem),
            Err(error) => {
                println!("SKIPPED {test}: no filesystem of its own can be made: {error:#}");
                None
            }
        }
    }

    fn try_make(size_mib: u64, backing_mib: Option<u64>) -> Result<Filesystem> {
        fs::create_dir_all(crate::FOLDER)?;
        let folder = tempfile::Builder::new().prefix("headwater-").tempdir_in(crate::FOLDER)?;
        let mut filesystem = Filesystem { folder, thin: false };
        fs::create_dir(filesystem.mount())?;
        fs::create_dir(filesystem.backing())?;
        if let Some(mib) = backing_mib {
            run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs", text(&filesystem.backing())])?;
            filesystem.thin = true;
        }
        File::create(filesystem.image())?.set_len(size_mib << 20)?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&filesystem.image())])?;
        filesystem.attach()?;
        Ok(filesystem)
    }

    /// Where it is mounted.
    pub fn mount(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    fn backing(&self) -> PathBuf {
        self.folder.path().join("backing")
    }

    fn image(&self) -> PathBuf {
        self.backing().join("image")
    }

    fn attach(&self) -> Result<()> {
        run("mount", &["-o", "loop", text(&self.image()), text(&self.mount())]).map(|_| ())
    }

    /// Free bytes.
    pub fn free(&self) -> Result<u64> {
        let said = run("df", &["--output=avail", "--block-size=1", text(&self.mount())])?;
        said.lines().nth(1).and_then(|line| line.trim().parse().ok()).with_context(|| format!("df says {said}"))
    }

    /// Writes a file of that name that takes all the space that is left, to the last block.
    pub fn fill(&self, name: &str) -> Result<()> {
        fill(&self.mount().join(name))
    }

    /// Takes from a thin device all the room that it has not used, and that of a file's bytes from `from` on: writing there
    /// again fails with EIO, although they were written before.
    pub fn exhaust(&self, file: &Path, from: u64) -> Result<()> {
        ensure!(self.thin, "it has what it claims to have");
        for line in run("filefrag", &["-v", "-b4096", text(file)])?.lines() {
            // "   0:        0..    4095:      34816..     38911:   4096:             last,eof"
            let numbers: Vec<u64> = line.split([':', '.', ' ']).filter_map(|word| word.parse().ok()).collect();
            let &[_, logical, logical_end, physical, _, _] = numbers.as_slice() else { continue };
            let skipped = (from / 4096).saturating_sub(logical);
            if skipped <= logical_end - logical {
                let (offset, length) = ((physical + skipped) * 4096, (logical_end - logical + 1 - skipped) * 4096);
                let [offset, length] = [offset, length].map(|number| number.to_string());
                run("fallocate", &["--punch-hole", "--offset", &offset, "--length", &length, text(&self.image())])?;
            }
        }
        fill(&self.backing().join("filler"))
    }

    /// Gives a thin device all the room that it claims to have, and mounts the filesystem anew, as an administrator would.
    pub fn enlarge(&self, backing_mib: u64) -> Result<()> {
        ensure!(self.thin, "it has what it needs");
        run("umount", &[text(&self.mount())])?;
        run("mount", &["-o", &format!("remount,size={backing_mib}m"), text(&self.backing())])?;
        self.attach()
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        let gone = |path: &Path| run("umount", &[text(path)]).or_else(|_| run("umount", &["--lazy", text(path)]));
        let _never_mounted = gone(&self.mount());
        if self.thin {
            let _in_use = gone(&self.backing());
        }
    }
}
