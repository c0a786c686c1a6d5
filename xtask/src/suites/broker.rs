//! A server for a client suite: started on free loopback ports with its own data folder, and ended by SIGTERM. That it
//! ends by itself, and cleanly, is part of what the suite tests.

use super::{Job, ports};
use crate::command;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const READY_WAIT_MAX: Duration = Duration::from_secs(30);
const END_WAIT_MAX: Duration = Duration::from_secs(30);

/// A running server. Dropped before `stop`, it is killed.
pub struct Broker {
    child: Child,
    /// Where its Kafka listener is.
    pub bootstrap: String,
    data: PathBuf,
}

impl Broker {
    /// Starts it and waits for its ready line.
    pub fn start(job: &Job<'_>) -> Result<Broker> {
        let data = job.scratch().join("data");
        let _none_yet = std::fs::remove_dir_all(&data);
        std::fs::create_dir_all(&data)?;
        let first = ports::free(3)?;
        let [kafka, aws, admin] = [0, 1, 2].map(|next| format!("127.0.0.1:{}", first + next));
        let log = command::append(&job.log)?;
        let mut serve = Command::new(&job.server);
        serve.arg("serve").arg("--data-dir").arg(&data).args(["--kafka", &kafka, "--aws", &aws, "--admin", &admin]);
        // As kafka.sh starts the reference: a group's first member need not wait three seconds for others, and fewer partitions
        // are made faster.
        serve.args(["--groups-initial-rebalance-delay-ms", "0", "--groups-offsets-partitions", "4"]);
        serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.try_clone()?);
        let mut child = serve.spawn().with_context(|| format!("cannot run {}", job.server.display()))?;
        let ready = ready_line(&mut child, log)?;
        let broker = Broker { child, bootstrap: kafka, data };
        match ready.recv_timeout(READY_WAIT_MAX) {
            Ok(()) => Ok(broker),
            Err(_) => bail!("the server printed no ready line"),
        }
    }

    /// Asks it to end; an error when it had ended before, does not end, or ends with an error.
    pub fn stop(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended during the suite: {status}");
        }
        command::signal("TERM", &[self.child.id()]);
        let deadline = Instant::now() + END_WAIT_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status} after SIGTERM");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("the server still ran {} s after SIGTERM", END_WAIT_MAX.as_secs());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped_already = self.child.wait();
        let _kept = std::fs::remove_dir_all(&self.data);
    }
}

/// Copies the server's output to the log, and tells when `ready` came by.
fn ready_line(child: &mut Child, mut log: File) -> Result<mpsc::Receiver<()>> {
    let output = child.stdout.take().context("no pipe")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("server-output".into()).spawn(move || {
        for line in BufReader::new(output).lines().map_while(|line| line.ok()) {
            let _log_full = writeln!(log, "{line}");
            if line.trim() == "ready" {
                let _nobody_waits = sender.send(());
            }
        }
    })?;
    Ok(receiver)
}
