//! `cargo xtask test`: runs the suites of `table`, one line each, and sums up in the last line.
//!
//! A suite's output goes to a log under the target folder; its tail is shown when it fails. A suite whose tools are
//! missing is skipped by name, except in CI (`CI=true`), where a skip would be a silent pass.

mod broker;
mod client;
mod counts;
mod peer;
mod ports;
mod rust;
mod table;

use crate::workspace::{QUICK, Workspace};
use crate::{command, image};
use anyhow::{Result, bail};
use counts::Counts;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use table::{Run, SUITES, Suite, Tier, Tool};

/// What `cargo xtask test` takes.
#[derive(clap::Args)]
pub struct Options {
    /// Suites to run by name, whatever their tier; without one, all the short ones
    names: Vec<String>,
    /// The long suites too, and the long form of the others
    #[arg(long)]
    all: bool,
    /// Lists the suites and runs nothing
    #[arg(long)]
    list: bool,
    /// Runs the client suites against this broker, whichever it is, instead of one that is started for them
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
}

/// What a suite gets to know.
pub struct Job<'a> {
    workspace: &'a Workspace,
    /// The suite's name.
    name: &'static str,
    /// The server: as users have it where a long form wants one, else as it is built sooner. Empty when no suite of this run needs it.
    server: PathBuf,
    /// Whether the long form is asked for.
    long: bool,
    /// A broker to test instead of our own.
    bootstrap: Option<&'a str>,
    /// Where output goes.
    log: PathBuf,
    /// How long the suite may take.
    limit: Duration,
}

impl Job<'_> {
    /// A folder that is the suite's own.
    fn scratch(&self) -> PathBuf {
        self.workspace.scratch().join("run").join(self.name)
    }
}

/// Runs what the options ask for; true when nothing failed.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    if options.list {
        for suite in SUITES {
            println!("{:18} {:5}  {}", suite.name, suite.tier.name(), suite.about);
        }
        return Ok(true);
    }
    let suites = chosen(options)?;
    let no_server = |suite: &Suite| match suite.run {
        Run::Client(_) => options.bootstrap.is_some(),
        Run::Reference | Run::Image => true,
        Run::CargoTest { .. } | Run::Differential | Run::Comparison { .. } => false,
    };
    let is_long = |suite: &Suite| options.all || suite.tier != Tier::Short;
    let served: Vec<_> = suites.iter().filter(|suite| !no_server(suite)).collect();
    let profile = if served.iter().any(|suite| is_long(suite)) { "release" } else { QUICK };
    let server = if served.is_empty() { PathBuf::new() } else { workspace.build("headwater", profile)? };
    let (mut total, mut failed) = (Counts::default(), Vec::new());
    for suite in suites {
        let start = Instant::now();
        let log = workspace.scratch().join("logs").join(format!("{}.log", suite.name));
        let _none_yet = std::fs::remove_file(&log);
        let job = Job {
            workspace,
            name: suite.name,
            server: server.clone(),
            long: is_long(suite),
            bootstrap: options.bootstrap.as_deref(),
            log,
            limit: Duration::from_secs(60 * if options.all { suite.minutes_max * 4 } else { suite.minutes_max }),
        };
        let counts = run_suite(suite, &job);
        println!("suite {}: {counts} ({:.1} s)", suite.name, start.elapsed().as_secs_f32());
        if counts.failed > 0 {
            failed.push(suite.name);
        }
        total += counts;
    }
    if !failed.is_empty() {
        println!("failed: {}", failed.join(", "));
    }
    println!("{total}");
    Ok(total.failed == 0)
}

fn chosen(options: &Options) -> Result<Vec<&'static Suite>> {
    if options.names.is_empty() {
        return Ok(SUITES.iter().filter(|suite| options.all || suite.tier == Tier::Short).collect());
    }
    let named = options.names.iter().map(|name| match SUITES.iter().find(|suite| suite.name == name) {
        Some(suite) => Ok(suite),
        None => bail!("there is no suite `{name}`; `cargo xtask test --list` names them"),
    });
    named.collect()
}

/// The container image, from the build to a run of what is in it.
fn image(job: &Job<'_>) -> Result<Counts> {
    let (layout, root) = (job.scratch().join("image"), job.scratch().join("root"));
    let _none_yet = std::fs::remove_dir_all(job.scratch());
    image::make(job.workspace, &image::build(job.workspace)?, &layout)?;
    let version = image::verify(&layout, &root)?;
    std::fs::remove_dir_all(job.scratch())?;
    anyhow::ensure!(version.starts_with("headwater "), "the binary in the image says {version}");
    Ok(Counts::PASSED)
}

fn run_suite(suite: &Suite, job: &Job<'_>) -> Counts {
    let missing: Vec<&str> = suite.needs.iter().filter(|tool| !tool.is_there()).map(Tool::name).collect();
    if !missing.is_empty() {
        let ci = std::env::var("CI").is_ok_and(|value| value == "true");
        eprintln!("{}: {} not found{}", suite.name, missing.join(", "), if ci { ", which CI must have" } else { "" });
        return if ci { Counts::FAILED } else { Counts::SKIPPED };
    }
    eprintln!("{} ...", suite.name);
    let result = match suite.run {
        Run::CargoTest { arguments } => rust::run(job, arguments),
        Run::Client(client) => client::run(job, client),
        Run::Reference => peer::reference(job),
        Run::Differential => peer::differential(job),
        Run::Image => image(job),
        Run::Comparison { arguments } => peer::comparison(job, arguments),
    };
    let counts = match result {
        Ok(counts) => counts,
        Err(error) => {
            eprintln!("{}: {error:#}", suite.name);
            Counts::FAILED
        }
    };
    if counts.failed > 0 {
        eprintln!("---- {}, what failed and its end ----\n{}\n----", job.log.display(), command::excerpt(&job.log, 60));
    }
    counts
}
