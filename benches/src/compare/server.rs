//! Starts and ends the servers that are compared.

use crate::sys;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// A server to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Apache Kafka, one KRaft node with default settings: acknowledges from the page cache.
    Kafka,
    /// Headwater with `--durability fsync`, its default.
    Headwater,
    /// Headwater with `--durability os`, which promises what Apache Kafka does.
    HeadwaterOs,
}

impl Kind {
    /// Its name in results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Headwater => "headwater",
            Self::HeadwaterOs => "headwater-os",
        }
    }
}

/// Where programs and data are.
pub struct Site {
    /// Servers keep their data and logs below it.
    pub dir: PathBuf,
    /// The CPU that servers run on; none: any.
    pub server_cpu: Option<usize>,
    /// The `headwater` program.
    pub headwater: PathBuf,
}

/// A server that runs until it is dropped.
pub struct Server {
    /// What it is.
    pub kind: Kind,
    /// Where it speaks Kafka.
    pub address: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// How long it took to start, empty.
    pub start_s: f64,
    running: Running,
}

enum Running {
    Child(Child),
    /// `peers/kafka.sh` knows the rest.
    Script {
        run: PathBuf,
    },
}

const START_WAIT: Duration = Duration::from_secs(60);
const STOP_WAIT: Duration = Duration::from_secs(60);

impl Server {
    /// Starts a server with an empty data folder and waits until it says that it serves.
    pub fn start(kind: Kind, site: &Site) -> io::Result<Self> {
        match kind {
            Kind::Kafka => Self::start_kafka(site),
            Kind::Headwater => Self::start_headwater(kind, "fsync", site),
            Kind::HeadwaterOs => Self::start_headwater(kind, "os", site),
        }
    }

    fn start_kafka(site: &Site) -> io::Result<Self> {
        let run = site.dir.join("kafka");
        let address = free_pair()?;
        let begun = Instant::now();
        let mut command = kafka_script("start");
        command.arg(address.port().to_string()).env("KAFKA_RUN", &run);
        // Deleted topics would otherwise keep their space for another minute.
        command.env("KAFKA_PROPS", "log.segment.delete.delay.ms=1000");
        if let Some(cpu) = site.server_cpu {
            command.env("KAFKA_CPUS", cpu.to_string());
        }
        succeed(&mut command)?;
        let pid = fs::read_to_string(run.join("pid"))?.trim().parse().map_err(io::Error::other)?;
        let start_s = begun.elapsed().as_secs_f64();
        Ok(Self { kind: Kind::Kafka, address, pid, start_s, running: Running::Script { run } })
    }

    fn start_headwater(kind: Kind, durability: &str, site: &Site) -> io::Result<Self> {
        let dir = site.dir.join(kind.name());
        fs::create_dir_all(&dir)?;
        let log = dir.join("out.log");
        let address = free_port()?;
        let mut command = match site.server_cpu {
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(cpu.to_string()).arg(&site.headwater);
                command
            }
            None => Command::new(&site.headwater),
        };
        command.arg("serve").arg("--data-dir").arg(dir.join("data")).args(["--durability", durability]);
        command.arg("--kafka").arg(address.to_string());
        command.arg("--aws").arg(free_port()?.to_string()).arg("--admin").arg(free_port()?.to_string());
        let out = File::create(&log)?;
        let begun = Instant::now();
        let child = command.stdin(std::process::Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        let pid = child.id();
        let mut server = Self { kind, address, pid, start_s: 0.0, running: Running::Child(child) };
        loop {
            let said = fs::read_to_string(&log)?;
            if said.lines().any(|line| line.trim() == "ready" || line.starts_with("ready ")) {
                server.start_s = begun.elapsed().as_secs_f64();
                return Ok(server);
            }
            let ended = match &mut server.running {
                Running::Child(child) => child.try_wait()?,
                Running::Script { .. } => None,
            };
            if ended.is_some() || begun.elapsed() > START_WAIT {
                return Err(io::Error::other(format!("{} did not start: {said}", kind.name())));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(&mut self) -> io::Result<()> {
        match &mut self.running {
            Running::Script { run } => {
                succeed(kafka_script("stop").arg(self.address.port().to_string()).env("KAFKA_RUN", run))
            }
            Running::Child(child) => {
                if child.try_wait()?.is_some() {
                    return Err(io::Error::other(format!("{} had ended before it was stopped", self.kind.name())));
                }
                sys::terminate(self.pid)?;
                let begun = Instant::now();
                while begun.elapsed() < STOP_WAIT {
                    if child.try_wait()?.is_some() {
                        return Ok(());
                    }
                    thread::sleep(Duration::from_millis(10));
                }
                child.kill()?;
                child.wait()?;
                Err(io::Error::other(format!("{} did not end after SIGTERM", self.kind.name())))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("compare: {error}");
        }
    }
}

fn kafka_script(verb: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/kafka.sh"));
    command.arg(verb);
    command
}

/// Which release of Apache Kafka runs; fetched when there is none yet.
pub fn kafka_version() -> io::Result<String> {
    let read = || {
        let out = kafka_script("version").output()?;
        let version = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        if out.status.success() && !version.is_empty() { Ok(version) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    read().or_else(|_: io::Error| {
        succeed(&mut kafka_script("fetch"))?;
        read()
    })
}

fn succeed(command: &mut Command) -> io::Result<()> {
    // Results go to standard output; what a server's script says does not belong there.
    let status = command.stdout(io::stderr()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?} failed: {status}"))) }
}

fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A free port whose successor is free as well: Apache Kafka's controller listens there.
fn free_pair() -> io::Result<SocketAddr> {
    for _ in 0..100 {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = first.local_addr()?;
        if let Some(next) = address.port().checked_add(1)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, next)).is_ok()
        {
            return Ok(address);
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
