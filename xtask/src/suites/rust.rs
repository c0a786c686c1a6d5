//! The suites that cargo runs.

use super::Job;
use super::counts::Counts;
use crate::command::{self, End};
use crate::workspace::{QUICK, read};
use anyhow::{Result, ensure};

/// Runs `cargo test` with the arguments. Tests are optimised and share the dependencies of the short form's server, since
/// a cold build of them twice would take longer than all the tests; but our own crates are built with debug assertions
/// and overflow checks on, which a release has not.
pub fn run(job: &Job<'_>, arguments: &[&str]) -> Result<Counts> {
    let mut cargo = job.workspace.cargo(&["test", "--profile", QUICK, "--no-fail-fast"]);
    for member in job.workspace.members() {
        for check in ["debug-assertions", "overflow-checks"] {
            cargo.args(["--config", &format!("profile.{QUICK}.package.{member}.{check}=true")]);
        }
    }
    cargo.args(arguments).env("HEADWATER_BIN", &job.server);
    if job.long {
        cargo.env("HEADWATER_TEST_ALL", "1");
    }
    let end = command::run_logged(&mut cargo, &job.log, job.limit)?;
    ensure!(end != End::TimedOut, "not done after {} s", job.limit.as_secs());
    Ok(Counts::of_cargo(&read(&job.log)?).with_success(end == End::Success))
}
