//! `cargo xtask check`: every step runs, so that one run shows all that is wrong.

use crate::workspace::{QUICK, Workspace};
use crate::{dependencies, documents, tidy};
use anyhow::Result;
use std::time::Instant;

/// What a step found: nothing to say is a pass.
type Findings = Result<Vec<String>>;

type Step = fn(&Workspace) -> Findings;

const STEPS: &[(&str, Step)] = &[
    ("fmt", |workspace| cargo(workspace, &["fmt", "--all", "--check"])),
    ("tidy", tidy::findings),
    ("dependencies", dependencies::findings),
    ("clippy", clippy),
    ("docs", documents::findings),
];

/// Runs the steps; true when all hold.
pub fn run(workspace: &Workspace) -> Result<bool> {
    let mut passed = true;
    for (name, step) in STEPS {
        let start = Instant::now();
        let findings = step(workspace).unwrap_or_else(|error| vec![format!("{error:#}")]);
        for finding in &findings {
            eprintln!("{name}: {finding}");
        }
        let verdict = if findings.is_empty() { "ok" } else { "FAILED" };
        println!("check {name}: {verdict} ({:.1} s)", start.elapsed().as_secs_f32());
        passed &= findings.is_empty();
    }
    Ok(passed)
}

/// In the tests' profile, because its build scripts and macros are those that they need anyway.
fn clippy(workspace: &Workspace) -> Findings {
    cargo(workspace, &["clippy", "--quiet", "--profile", QUICK, "--workspace", "--all-targets", "--", "-D", "warnings"])
}

/// A cargo command that prints its own findings.
fn cargo(workspace: &Workspace, arguments: &[&str]) -> Findings {
    let status = workspace.cargo(arguments).status()?;
    Ok(if status.success() { vec![] } else { vec![format!("cargo {} failed", arguments.join(" "))] })
}
