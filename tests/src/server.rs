//! The server as a process of its own: started on free loopback ports, killed or ended, and started again on the same folder.

use anyhow::{Context, Result, bail, ensure};
use headwater_benches::kafka::process::Usage;
use headwater_benches::sys;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server that is not ready after this time has failed to start.
const READY_WAIT: Duration = Duration::from_secs(60);
/// A server that has not ended so long after SIGTERM hangs.
const END_WAIT: Duration = Duration::from_secs(30);

/// The server program: `HEADWATER_BIN`, or the one that cargo builds.
pub fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| match std::env::var_os("HEADWATER_BIN") {
        Some(path) => Ok(path.into()),
        None => build().map_err(|error| format!("{error:#}")),
    });
    found.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Builds it in the profile of tests, into the target folder that this test lies in.
fn build() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this.ancestors().nth(3).context("the test program lies in no target folder")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--profile", "quick", "--package", "headwater", "--target-dir"]).arg(target);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    ensure!(cargo.status()?.success(), "the server could not be built");
    Ok(target.join("quick").join("headwater"))
}

/// A folder for one test, and how its server is started.
pub struct Setup {
    folder: TempDir,
    /// Where the server keeps its data.
    pub data: PathBuf,
    /// Where its messages go.
    pub log: PathBuf,
    options: Vec<OsString>,
    under: Vec<OsString>,
}

impl Setup {
    /// A new folder below `parent`. It is removed at the end, unless the test fails and `HEADWATER_TEST_KEEP` is set.
    pub fn new(parent: &Path) -> Result<Setup> {
        fs::create_dir_all(parent)?;
        let folder = tempfile::Builder::new().prefix("headwater-").tempdir_in(parent)?;
        let (data, log) = (folder.path().join("data"), folder.path().join("server.log"));
        Ok(Setup { folder, data, log, options: Vec::new(), under: Vec::new() })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Adds an option of `headwater serve`.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Setup {
        self.options.extend([name.into(), value.into()]);
        self
    }

    /// Lets the server be run by another program, whose last arguments are the server's own command line.
    #[must_use]
    pub fn under(mut self, command: &[&str]) -> Setup {
        self.under = command.iter().map(Into::into).collect();
        self
    }

    fn command(&self) -> Result<Command> {
        let program = program()?;
        let mut command = match self.under.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.arg("serve").arg("--data-dir").arg(&self.data);
        command.args(["--kafka", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(&self.options);
        // They are the test's; to the server they would be unknown options.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEADWATER_")) {
            command.env_remove(name);
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        Ok(command)
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&self) -> Result<Server> {
        let mut command = self.command()?;
        let begun = Instant::now();
        let mut child = command.spawn().context("the server cannot be run")?;
        let output = child.stdout.take().context("no pipe")?;
        let listening = listen(output);
        let mut server = Server {
            child,
            kafka: ([127, 0, 0, 1], 0).into(),
            admin: ([127, 0, 0, 1], 0).into(),
            ready_after: Duration::ZERO,
        };
        match listening.recv_timeout(READY_WAIT) {
            Ok((at, kafka, admin)) => {
                (server.kafka, server.admin, server.ready_after) = (kafka, admin, at - begun);
                Ok(server)
            }
            Err(_) => {
                let status = server.child.try_wait()?;
                bail!("the server is not ready ({status:?}):\n{}", self.log_tail());
            }
        }
    }

    /// Starts the server and kills it after `wait`, whatever it is at.
    pub fn start_and_kill(&self, wait: Duration) -> Result<()> {
        let mut child = self.command()?.spawn()?;
        thread::sleep(wait);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts a server that is expected not to come up, and returns how it ended.
    pub fn start_in_vain(&self) -> Result<ExitStatus> {
        let mut child = self.command()?.spawn()?;
        let deadline = Instant::now() + READY_WAIT;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        child.kill()?;
        child.wait()?;
        bail!("the server started, or hangs:\n{}", self.log_tail());
    }

    /// What the server has logged.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// An error when the log speaks of a panic.
    pub fn check_log(&self) -> Result<()> {
        match self.log_text().lines().find(|line| line.contains("panic")) {
            None => Ok(()),
            Some(line) => bail!("the server panicked: {line}\n{}", self.log_tail()),
        }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- the end of the server's log ----\n{}\n----", self.log_tail());
            if std::env::var_os("HEADWATER_TEST_KEEP").is_some() {
                eprintln!("kept: {}", self.folder.path().display());
                self.folder.disable_cleanup(true);
            }
        }
    }
}

/// Reads the server's output: tells when it is ready, and where it listens. The pipe is read to its end, so that it never
/// fills.
fn listen(output: ChildStdout) -> Receiver<(Instant, SocketAddr, SocketAddr)> {
    let (sender, receiver) = channel();
    let read = move || {
        let (mut kafka, mut admin) = (None, None);
        for line in BufReader::new(output).lines().map_while(|line| line.ok()) {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("kafka"), Some(at)) => kafka = at.trim_end_matches(',').parse().ok(),
                (Some("admin"), Some(at)) => admin = at.trim_start_matches("http://").parse().ok(),
                (Some("ready"), None) => {
                    if let (Some(kafka), Some(admin)) = (kafka, admin) {
                        let _nobody_waits = sender.send((Instant::now(), kafka, admin));
                    }
                }
                _ => {}
            }
        }
    };
    thread::Builder::new().name("server-output".into()).spawn(read).expect("a thread");
    receiver
}

/// A server that is ready. Dropped, it is killed.
pub struct Server {
    child: Child,
    /// Where it speaks Kafka.
    pub kafka: SocketAddr,
    /// Where its health and metrics are.
    pub admin: SocketAddr,
    /// How long it took from the start of the process to `ready`.
    pub ready_after: Duration,
}

impl Server {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Anonymous memory (RssAnon) in MiB.
    pub fn anonymous_mib(&self) -> Result<f64> {
        Ok(Usage::of(self.pid())?.anonymous_mb * 1e6 / f64::from(1 << 20))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, most: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + most;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the server has not ended after {most:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Kills it (SIGKILL), which it must not have ended before.
    pub fn kill(mut self) -> Result<()> {
        self.kill_now()
    }

    /// The same, for whoever holds on to it.
    pub fn kill_now(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server had ended before it was killed: {status}");
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM), which it must do without an error.
    pub fn terminate(mut self) -> Result<Duration> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server had ended before it was asked to: {status}");
        }
        let begun = Instant::now();
        sys::terminate(self.pid())?;
        let status = self.wait(END_WAIT)?;
        ensure!(status.success(), "the server ended with {status} after SIGTERM");
        Ok(begun.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}
