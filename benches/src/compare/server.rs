//! Starts and ends the servers that are compared, unless they run already.

use crate::cli::resolve;
use crate::sys;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Fetches and runs Apache Kafka; carried along, so that a comparison needs no repository.
const KAFKA_SCRIPT: &str = include_str!("../../peers/kafka.sh");

/// A server to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Apache Kafka, one KRaft node with default settings: acknowledges from the page cache.
    Kafka,
    /// The same, which syncs every batch before it acknowledges (flush.messages=1).
    KafkaFlush,
    /// Headwater with `--durability fsync`, its default.
    Headwater,
    /// Headwater with `--durability os`, which promises what Apache Kafka does.
    HeadwaterOs,
    /// A sink that answers and stores nothing.
    Sink,
    /// A server that runs already, and its process, when it is on this machine.
    Running {
        /// What it is called in results.
        name: String,
        /// Where it speaks Kafka.
        address: SocketAddr,
        /// Its process.
        pid: Option<u32>,
    },
}

impl Kind {
    /// Reads `kafka`, `kafka-flush`, `headwater`, `headwater-os`, `sink` or `NAME=HOST:PORT[@PID]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((name, at)) = text.split_once('=') {
            let (address, pid) = match at.split_once('@') {
                None => (at, None),
                Some((address, pid)) => (address, Some(pid.parse().map_err(|_| format!("{pid} is no process id"))?)),
            };
            let address = resolve(address).map_err(|error| error.to_string())?;
            return Ok(Self::Running { name: name.into(), address, pid });
        }
        let kinds = [Self::Kafka, Self::KafkaFlush, Self::Headwater, Self::HeadwaterOs, Self::Sink];
        kinds
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| "is none of kafka, kafka-flush, headwater, headwater-os, sink and NAME=HOST:PORT@PID".into())
    }

    /// Its name in results.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Kafka => "kafka",
            Self::KafkaFlush => "kafka-flush",
            Self::Headwater => "headwater",
            Self::HeadwaterOs => "headwater-os",
            Self::Sink => "sink",
            Self::Running { name, .. } => name,
        }
    }

    /// Whether it is Apache Kafka, started here.
    #[must_use]
    pub fn is_kafka(&self) -> bool {
        matches!(self, Self::Kafka | Self::KafkaFlush)
    }
}

/// Where programs and data are, and settings.
pub struct Site {
    /// Servers keep their data and logs below it.
    pub dir: PathBuf,
    /// The CPU that servers run on.
    pub server_cpu: Option<usize>,
    /// The `headwater` program.
    pub headwater: PathBuf,
    /// Settings of Apache Kafka.
    pub kafka_config: Vec<(String, String)>,
    /// Settings of topics on Apache Kafka.
    pub kafka_topic_config: Vec<(String, String)>,
    /// Further options of `headwater serve`.
    pub headwater_options: Vec<String>,
}

/// A server that runs until it is dropped, if it was started here.
pub struct Server {
    /// Its name.
    pub name: String,
    /// Where it speaks Kafka.
    pub address: SocketAddr,
    /// Its process.
    pub pid: Option<u32>,
    /// How long it took to start, empty.
    pub start_s: Option<f64>,
    /// Settings of the topics that are made on it.
    pub topic_settings: Vec<(String, String)>,
    /// Whether what is produced can be fetched.
    pub stores: bool,
    running: Running,
}

enum Running {
    /// Somebody else's.
    Elsewhere,
    Child(Child),
    /// The script knows the rest.
    Script {
        script: PathBuf,
        run: PathBuf,
    },
}

const START_WAIT: Duration = Duration::from_secs(60);
const STOP_WAIT: Duration = Duration::from_secs(60);

impl Server {
    /// Starts a server with an empty data folder and waits until it says that it serves.
    pub fn start(kind: &Kind, site: &Site) -> io::Result<Self> {
        match kind {
            Kind::Kafka => Self::start_kafka(kind, &[], site),
            Kind::KafkaFlush => Self::start_kafka(kind, &["log.flush.interval.messages=1"], site),
            Kind::Headwater => Self::start_headwater(kind, "fsync", site),
            Kind::HeadwaterOs => Self::start_headwater(kind, "os", site),
            Kind::Sink => Self::start_sink(kind, site),
            Kind::Running { name, address, pid } => {
                let mut server = Self::new(name, *address, Running::Elsewhere);
                server.pid = *pid;
                Ok(server)
            }
        }
    }

    fn new(name: &str, address: SocketAddr, running: Running) -> Self {
        let topic_settings = Vec::new();
        Self { name: name.into(), address, pid: None, start_s: None, topic_settings, stores: true, running }
    }

    fn start_kafka(kind: &Kind, properties: &[&str], site: &Site) -> io::Result<Self> {
        let run = site.dir.join(kind.name());
        let script = kafka_script(&site.dir)?;
        let address = free_pair()?;
        let begun = Instant::now();
        let mut command = kafka(&script, "start");
        command.arg(address.port().to_string()).env("KAFKA_RUN", &run);
        // Deleted topics would otherwise keep their space for another minute.
        let mut properties: Vec<String> = properties.iter().map(|&line| line.to_owned()).collect();
        properties.push("log.segment.delete.delay.ms=1000".into());
        properties.extend(site.kafka_config.iter().map(|(name, value)| format!("{name}={value}")));
        command.env("KAFKA_PROPS", properties.join("\n"));
        if let Some(cpu) = site.server_cpu {
            command.env("KAFKA_CPUS", cpu.to_string());
        }
        succeed(&mut command)?;
        let pid = fs::read_to_string(run.join("pid"))?.trim().parse().map_err(io::Error::other)?;
        let mut server = Self::new(kind.name(), address, Running::Script { script, run });
        server.pid = Some(pid);
        server.start_s = Some(begun.elapsed().as_secs_f64());
        server.topic_settings.clone_from(&site.kafka_topic_config);
        Ok(server)
    }

    fn start_headwater(kind: &Kind, durability: &str, site: &Site) -> io::Result<Self> {
        let address = free_port()?;
        let data = site.dir.join(kind.name()).join("data");
        let mut arguments: Vec<String> = vec!["serve".into(), "--data-dir".into(), data.display().to_string()];
        arguments.extend(["--durability", durability, "--kafka"].map(String::from));
        arguments.push(address.to_string());
        for option in ["--aws", "--admin"] {
            arguments.extend([option.into(), free_port()?.to_string()]);
        }
        arguments.extend(site.headwater_options.iter().cloned());
        Self::start_child(kind, address, &arguments, site)
    }

    fn start_sink(kind: &Kind, site: &Site) -> io::Result<Self> {
        let address = free_port()?;
        let arguments = ["bench", "sink", "--listen", &address.to_string()].map(String::from);
        let mut server = Self::start_child(kind, address, &arguments, site)?;
        server.stores = false;
        Ok(server)
    }

    fn start_child(kind: &Kind, address: SocketAddr, arguments: &[String], site: &Site) -> io::Result<Self> {
        let dir = site.dir.join(kind.name());
        fs::create_dir_all(&dir)?;
        let log = dir.join("out.log");
        let mut command = match site.server_cpu {
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(cpu.to_string()).arg(&site.headwater);
                command
            }
            None => Command::new(&site.headwater),
        };
        // They are the generator's; to the server they would be unknown options.
        let own = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEADWATER_"));
        own.for_each(|(name, _)| _ = command.env_remove(name));
        let out = File::create(&log)?;
        let begun = Instant::now();
        let child = command.args(arguments).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        let pid = child.id();
        let mut server = Self::new(kind.name(), address, Running::Child(child));
        server.pid = Some(pid);
        loop {
            let said = fs::read_to_string(&log)?;
            if said.lines().any(|line| line.trim() == "ready" || line.starts_with("ready ")) {
                server.start_s = Some(begun.elapsed().as_secs_f64());
                return Ok(server);
            }
            let ended = match &mut server.running {
                Running::Child(child) => child.try_wait()?,
                Running::Script { .. } | Running::Elsewhere => None,
            };
            if ended.is_some() || begun.elapsed() > START_WAIT {
                return Err(io::Error::other(format!("{} did not start: {said}", kind.name())));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(&mut self) -> io::Result<()> {
        match &mut self.running {
            Running::Elsewhere => Ok(()),
            Running::Script { script, run } => {
                succeed(kafka(script, "stop").arg(self.address.port().to_string()).env("KAFKA_RUN", run))
            }
            Running::Child(child) => {
                if child.try_wait()?.is_some() {
                    return Err(io::Error::other(format!("{} had ended before it was stopped", self.name)));
                }
                sys::terminate(child.id())?;
                let begun = Instant::now();
                while begun.elapsed() < STOP_WAIT {
                    if child.try_wait()?.is_some() {
                        return Ok(());
                    }
                    thread::sleep(Duration::from_millis(10));
                }
                child.kill()?;
                child.wait()?;
                Err(io::Error::other(format!("{} did not end after SIGTERM", self.name)))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{}: {error}", self.name);
        }
    }
}

/// Puts the script into a folder.
pub fn kafka_script(dir: &Path) -> io::Result<PathBuf> {
    let script = dir.join("kafka.sh");
    fs::write(&script, KAFKA_SCRIPT)?;
    Ok(script)
}

/// A call of that script.
pub fn kafka(script: &Path, verb: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg(script).arg(verb);
    command
}

/// Which release of Apache Kafka runs; fetched when there is none yet.
pub fn kafka_version(dir: &Path) -> io::Result<String> {
    let script = kafka_script(dir)?;
    let read = || {
        let out = kafka(&script, "version").output()?;
        let version = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        if out.status.success() && !version.is_empty() { Ok(version) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    read().or_else(|_: io::Error| {
        succeed(&mut kafka(&script, "fetch"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_or_given_by_address() {
        assert_eq!(Kind::parse("kafka-flush"), Ok(Kind::KafkaFlush));
        let running = Kind::parse("other=127.0.0.1:9092@77").unwrap();
        assert_eq!(running.name(), "other");
        assert!(matches!(running, Kind::Running { pid: Some(77), .. }));
        assert!(Kind::parse("other").is_err() && Kind::parse("other=127.0.0.1:9092@x").is_err());
    }
}
