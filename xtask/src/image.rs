//! `cargo xtask image`: the container image without a container program. It builds the static binary, and writes an OCI image
//! layout: a folder that podman, skopeo, containerd and Docker can load.
//!
//! What the image says of itself (user, volume, ports, health check) is read from the last stage of `deploy/Containerfile`, so
//! that there is one place for it. The layer holds what that stage copies: the binary and the data folder.

mod containerfile;
mod elf;
mod layout;
mod tar;
mod verify;

pub use verify::verify;

use crate::workspace::{Workspace, capture, read};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name that the image gets where a loader takes it over.
const NAME: &str = "headwater:latest";

/// What `cargo xtask image` takes.
#[derive(clap::Args)]
pub struct Options {
    /// Where the layout goes; what is there is replaced [default: target/image]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A static binary to take instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Makes the image, and says how to load it.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let binary = match &options.binary {
        Some(path) => path.clone(),
        None => build(workspace)?,
    };
    let out = options.out.clone().unwrap_or_else(|| workspace.target.join("image"));
    let manifest = make(workspace, &binary, &out)?;
    let place = out.display();
    println!("image {NAME} in {place}, manifest {manifest}");
    println!("load it with one of");
    println!("  podman pull oci:{place}");
    println!("  skopeo copy oci:{place} docker-daemon:{NAME}");
    println!("  tar -C {place} -c . | docker load      (Docker 25 or newer)");
    Ok(())
}

/// Builds the static binary for this machine's own target, and returns its path. deploy/README.md says why not with musl.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let version = capture(Command::new("rustc").arg("-vV"))?;
    let target = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    // With a target that is named, the flags hold for the program alone and not for build scripts and macros.
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default() + " -C target-feature=+crt-static";
    let mut cargo = workspace.cargo(&["build", "--quiet", "--release", "--package", "headwater", "--target", target]);
    let status = cargo.env("RUSTFLAGS", flags.trim_start()).status()?;
    ensure!(status.success(), "the static build failed; it needs the C library's static form, libc.a");
    Ok(workspace.target.join(target).join("release").join("headwater"))
}

/// Writes the layout, and returns the manifest's digest.
pub fn make(workspace: &Workspace, binary: &Path, out: &Path) -> Result<String> {
    let stage = containerfile::Stage::last(&read(&workspace.root.join("deploy/Containerfile"))?)
        .context("deploy/Containerfile")?;
    let program = std::fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let kind = elf::static_program(&program).with_context(|| binary.display().to_string())?;
    if out.exists() {
        // Only what this command made, or nothing, is replaced.
        let is_ours = out.join("oci-layout").is_file() || std::fs::read_dir(out)?.next().is_none();
        ensure!(is_ours, "{} holds something else than an image layout", out.display());
        std::fs::remove_dir_all(out)?;
    }
    layout::write(out, &stage, &program, kind.architecture(), NAME)
}
