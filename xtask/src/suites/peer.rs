//! Suites that need another broker beside ours, or none at all.

use super::Job;
use super::broker::Broker;
use super::counts::Counts;
use super::table::{Run, SUITES};
use super::{client, ports};
use crate::command::{self, End};
use crate::workspace::{QUICK, read};
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Duration;

/// Fetches and runs Apache Kafka; see the file itself.
const KAFKA: &str = "benches/peers/kafka.sh";

/// The golden cases.
const CASES: &str = "tests/golden/kafka";

/// Runs every client suite against Apache Kafka.
pub fn reference(job: &Job<'_>) -> Result<Counts> {
    let kafka = Kafka::start(job)?;
    let mut total = Counts::default();
    for suite in SUITES {
        if let Run::Client(of) = suite.run {
            let mut program = client::prepare(job, of)?;
            total += client::against(job, &mut program, &kafka.bootstrap())?;
        }
    }
    Ok(total)
}

/// Runs the benchmark that compares the two; it fails when a server or a load fails, not over the figures, which are for
/// people to read.
pub fn comparison(job: &Job<'_>, arguments: &[&str]) -> Result<Counts> {
    let mut compare = Command::new(&job.server);
    compare.args(["bench", "compare"]).args(arguments).args(["--name", job.name]);
    compare.arg("--out").arg(job.workspace.scratch().join("results")).current_dir(&job.workspace.root);
    let end = command::run_logged(&mut compare, &job.log, job.limit)?;
    ensure!(end != End::TimedOut, "not done after {} s", job.limit.as_secs());
    eprintln!("{}", command::excerpt(&job.log, 30));
    Ok(Counts { passed: u64::from(end == End::Success), ..Counts::default() }.with_success(end == End::Success))
}

/// Plays the golden cases live against Apache Kafka and Headwater side by side, and compares their answers.
pub fn differential(job: &Job<'_>) -> Result<Counts> {
    // Built before a server waits for it; as in `Workspace::build`, the whole workspace is named for its features.
    let build = ["build", "--quiet", "--profile", QUICK, "--workspace", "--example", "golden-record"];
    ensure!(job.workspace.cargo(&build).status()?.success(), "the build of golden-record failed");
    let kafka = Kafka::start(job)?;
    let broker = Broker::start(job)?;
    let mut program = Command::new(job.workspace.target.join(QUICK).join("examples/golden-record"));
    program.current_dir(&job.workspace.root).args(["differ", &kafka.bootstrap(), &broker.bootstrap, CASES]);
    let end = command::run_logged(&mut program, &job.log, job.limit)?;
    ensure!(end != End::TimedOut, "not done after {} s", job.limit.as_secs());
    let log = read(&job.log)?;
    log.lines().filter(|line| line.starts_with("FAIL ")).for_each(|line| eprintln!("{}: {line}", job.name));
    let mut counts = Counts::of_summary(&log).context("it ended without its summary line")?;
    if let Err(error) = broker.stop() {
        eprintln!("{}: {error:#}", job.name);
        counts.failed += 1;
    }
    Ok(counts.with_success(end == End::Success))
}

/// One node of Apache Kafka; stopped and wiped when dropped.
struct Kafka<'a> {
    job: &'a Job<'a>,
    port: String,
}

impl<'a> Kafka<'a> {
    fn start(job: &'a Job<'a>) -> Result<Kafka<'a>> {
        let port = ports::free(2)?.to_string(); // the second is for its controller
        let kafka = Kafka { job, port };
        std::fs::create_dir_all(job.scratch())?;
        // It does not start when it is not on this machine yet; fetching asks the registry, so only then.
        if kafka.script("start").is_err() {
            kafka.script("fetch")?;
            kafka.script("start")?;
        }
        Ok(kafka)
    }

    fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn script(&self, verb: &str) -> Result<()> {
        let mut command = Command::new("bash");
        command.arg(self.job.workspace.root.join(KAFKA)).arg(verb).env("KAFKA_RUN", self.job.scratch().join("kafka"));
        command.env("KAFKA_VERSION", client::KAFKA_VERSION);
        if verb != "fetch" {
            command.arg(&self.port);
        }
        let end = command::run_logged(&mut command, &self.job.log, Duration::from_secs(600))?;
        ensure!(end == End::Success, "{KAFKA} {verb}: {end:?}");
        Ok(())
    }
}

impl Drop for Kafka<'_> {
    fn drop(&mut self) {
        for verb in ["stop", "wipe"] {
            if let Err(error) = self.script(verb) {
                eprintln!("{error:#}");
            }
        }
    }
}
