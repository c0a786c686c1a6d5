//! The suites that drive a broker with real clients. Their packages are fetched once, by each language's own tool, at
//! the versions that tests/clients pins, and kept under the target folder until those pins change.

use super::Job;
use super::broker::Broker;
use super::counts::Counts;
use super::table::Client;
use crate::command::{self, End};
use crate::workspace::read;
use anyhow::{Context, Result, ensure};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The release of Apache Kafka that is the reference, when none is on this machine yet.
pub const KAFKA_VERSION: &str = "4.4.0";

const INSTALL_WAIT_MAX: Duration = Duration::from_secs(600);

/// Runs the client's program against a server of its own, or against the broker that the options name.
pub fn run(job: &Job<'_>, client: Client) -> Result<Counts> {
    let mut program = prepare(job, client)?;
    if let Some(bootstrap) = job.bootstrap {
        return against(job, &mut program, bootstrap);
    }
    let broker = Broker::start(job)?;
    let mut counts = against(job, &mut program, &broker.bootstrap)?;
    if let Err(error) = broker.stop() {
        eprintln!("{}: {error:#}", job.name);
        counts.failed += 1;
    }
    Ok(counts)
}

/// Runs a prepared program against a broker.
pub fn against(job: &Job<'_>, program: &mut Command, bootstrap: &str) -> Result<Counts> {
    program.args(["--bootstrap", bootstrap]);
    if job.long {
        program.arg("--full");
    }
    let before = std::fs::metadata(&job.log).map_or(0, |log| log.len());
    let end = command::run_logged(program, &job.log, job.limit)?;
    let log = read(&job.log)?;
    let output = log.get(usize::try_from(before)?..).unwrap_or_default();
    for line in output.lines().filter(|line| line.starts_with("FAIL ")) {
        eprintln!("{}: {line}", job.name);
    }
    ensure!(end != End::TimedOut, "not done after {} s", job.limit.as_secs());
    let counts = Counts::of_summary(output).context("it ended without its summary line")?;
    Ok(counts.with_success(end == End::Success))
}

/// Installs what the client needs, and returns the command that runs its program.
pub fn prepare(job: &Job<'_>, client: Client) -> Result<Command> {
    match client {
        Client::Python { program, packages } => {
            let mut command = Command::new(python(job, packages)?);
            command.arg(job.workspace.root.join(program));
            Ok(command)
        }
        Client::Java => java(job),
        Client::Go(program) => go(job, program),
        Client::Node => node(job),
        Client::Tools => tools(job),
    }
}

/// A virtual environment with the packages that a file pins, one for each such file; returns its interpreter.
fn python(job: &Job<'_>, packages: &str) -> Result<PathBuf> {
    let pins = job.workspace.root.join(packages);
    let name = pins.file_stem().context("packages without a file")?;
    let folder = job.workspace.scratch().join("python").join(name);
    let interpreter = folder.join("bin").join("python");
    once(&folder, &[&pins], || {
        install(job, Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let mut pip = Command::new(&interpreter);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&pins);
        install(job, &mut pip)
    })?;
    Ok(interpreter)
}

/// Maven fetches the jars and compiles; java runs the classes without it.
fn java(job: &Job<'_>) -> Result<Command> {
    let project = job.workspace.root.join("tests/clients/java");
    let folder = job.workspace.scratch().join("java");
    let class_path = folder.join("class-path");
    let inputs = files_below(job, &project)?;
    once(&folder, &inputs, || {
        // Without the network first: then a second clone on this machine asks nobody.
        maven(job, &project, &folder, &["--offline"]).or_else(|_| maven(job, &project, &folder, &[]))
    })?;
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]).arg("-cp").arg(format!(
        "{}:{}",
        folder.join("classes").display(),
        read(&class_path)?.trim()
    ));
    command.arg("clients.Main");
    Ok(command)
}

fn maven(job: &Job<'_>, project: &Path, folder: &Path, options: &[&str]) -> Result<()> {
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--no-transfer-progress", "--quiet"]).args(options);
    maven.arg("--file").arg(project.join("pom.xml")).arg(format!("-Dbuild={}", folder.display()));
    install(job, maven.args(["compiler:compile", "dependency:build-classpath"]))
}

/// Go fetches the modules that go.sum names and builds; it keeps both in caches of its own.
fn go(job: &Job<'_>, program: &str) -> Result<Command> {
    let module = job.workspace.root.join("tests/clients/go");
    let folder = job.workspace.scratch().join("go").join(program);
    let binary = folder.join(program);
    once(&folder, &files_below(job, &module)?, || {
        let mut go = Command::new("go");
        // What is built is what the lock files say, whatever the environment would have it be.
        go.current_dir(&module).env("GOFLAGS", "-mod=readonly").env("GOWORK", "off").args(["build", "-buildvcs=false"]);
        install(job, go.arg("-o").arg(&binary).arg(format!("./{program}")))
    })?;
    Ok(Command::new(binary))
}

/// npm fetches the packages into a folder under the target folder; Node finds them there by its search path.
fn node(job: &Job<'_>) -> Result<Command> {
    let project = job.workspace.root.join("tests/clients/kafkajs");
    let folder = job.workspace.scratch().join("kafkajs");
    let pins = ["package.json", "package-lock.json"].map(|name| project.join(name));
    once(&folder, &pins, || {
        for pin in &pins {
            std::fs::copy(pin, folder.join(pin.file_name().context("no name")?))?;
        }
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]);
        install(job, &mut npm)
    })?;
    let mut command = Command::new("node");
    command.env("NODE_PATH", folder.join("node_modules")).arg(project.join("suite.js"));
    Ok(command)
}

/// The jars serve the comparison too, and are fetched when they are not there yet.
fn tools(job: &Job<'_>) -> Result<Command> {
    let script = job.workspace.root.join("benches/peers/kafka.sh");
    let run =
        |verb: &str| install(job, Command::new("bash").arg(&script).arg(verb).env("KAFKA_VERSION", KAFKA_VERSION));
    run("version").or_else(|_| run("fetch"))?;
    let mut command = Command::new("python3");
    command.arg(job.workspace.root.join("tests/clients/tools/suite.py"));
    Ok(command)
}

/// The files of a folder in the repository.
fn files_below(job: &Job<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        job.workspace.files()?.into_iter().map(|file| job.workspace.root.join(file)).collect();
    files.retain(|file| file.starts_with(folder));
    Ok(files)
}

fn install(job: &Job<'_>, command: &mut Command) -> Result<()> {
    let end = command::run_logged(command, &job.log, INSTALL_WAIT_MAX)?;
    ensure!(end == End::Success, "the client's packages could not be installed: {end:?}");
    Ok(())
}

/// Does `work`, which fills `folder`, unless it was done for the same inputs before.
fn once(folder: &Path, inputs: &[impl AsRef<Path>], work: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut hasher = DefaultHasher::new();
    folder.hash(&mut hasher); // scripts in a virtual environment name their folder
    for input in inputs {
        read(input.as_ref())?.hash(&mut hasher);
    }
    let stamp = folder.with_extension("stamp");
    let wanted = format!("{:016x}", hasher.finish());
    if read(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    let _none_yet = std::fs::remove_file(&stamp);
    std::fs::create_dir_all(folder)?;
    work()?;
    Ok(std::fs::write(&stamp, wanted)?)
}
