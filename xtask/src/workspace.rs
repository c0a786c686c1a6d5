//! What cargo and git know about the workspace: folders, packages, tracked files.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The profile of what is checked and of the tests: `Cargo.toml` says what it leaves out.
pub const QUICK: &str = "quick";

/// The workspace that this run works on.
pub struct Workspace {
    /// The folder of the top `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target folder, wherever the environment puts it.
    pub target: PathBuf,
    /// `cargo metadata`, with the dependencies that this machine's platform builds.
    pub metadata: Value,
}

impl Workspace {
    /// Asks cargo.
    pub fn load() -> Result<Self> {
        let version = capture(Command::new("rustc").arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        let text = capture(Command::new("cargo").args(["metadata", "--format-version=1", "--filter-platform", host]))?;
        let metadata: Value = serde_json::from_str(&text).context("cargo metadata")?;
        let folder = |key: &str| metadata[key].as_str().map(PathBuf::from).with_context(|| format!("no {key}"));
        Ok(Workspace { root: folder("workspace_root")?, target: folder("target_directory")?, metadata })
    }

    /// Where logs, client packages and brokers' data go.
    pub fn scratch(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// Names of the workspace's own packages.
    pub fn members(&self) -> Vec<&str> {
        let ids: Vec<&Value> = self.metadata["workspace_members"].as_array().into_iter().flatten().collect();
        self.packages().filter(|package| ids.contains(&&package["id"])).filter_map(|p| p["name"].as_str()).collect()
    }

    /// Every package that cargo knows here.
    pub fn packages(&self) -> impl Iterator<Item = &Value> {
        self.metadata["packages"].as_array().into_iter().flatten()
    }

    /// The files of the repository, tracked or about to be, relative to the root.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut git = Command::new("git");
        git.current_dir(&self.root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = capture(&mut git)?;
        let names = listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        Ok(names.filter(|path| self.root.join(path).is_file()).collect())
    }

    /// A cargo command in the workspace's root.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(&self.root).args(arguments);
        command
    }

    /// Builds a program, and returns its path. The whole workspace is named although one program is built: then the features of the
    /// dependencies, and with them their builds, are the same for every program.
    pub fn build(&self, program: &str, profile: &str) -> Result<PathBuf> {
        let status =
            self.cargo(&["build", "--quiet", "--profile", profile, "--workspace", "--bin", program]).status()?;
        ensure!(status.success(), "the {profile} build of {program} failed");
        Ok(self.target.join(profile).join(program))
    }
}

/// A command's standard output; an error when it fails.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A file as text, with its name in the error.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
