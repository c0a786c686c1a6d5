//! The files under deploy/, checked as far as that goes without the programs that they are for: queries against the metrics of
//! a running server, the unit by systemd where it is there, the container's rights and health check. That the image itself
//! is right is checked beside what makes it, in `xtask`.
#![allow(clippy::disallowed_methods, reason = "these tests run real processes, by the real clock")]

mod container;
mod kernel;
mod metrics_page;
mod promql;
mod queries;
mod unit_file;
mod yaml;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A file or folder under deploy/.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// A file under deploy/ as text.
fn deploy(name: &str) -> Result<String> {
    std::fs::read_to_string(path(name)).with_context(|| format!("deploy/{name}"))
}
