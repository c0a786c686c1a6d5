//! Real clients as the load of a case: Kafka's own producer-perf and consumer-perf for the Java client, a small Python program
//! for librdkafka. Each runs as a process of its own, on the generator's CPU, and is ended when something fails.

use super::server::{kafka, kafka_script, kafka_version};
use crate::kafka::Error;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

/// Drives librdkafka; carried along, so that a comparison needs no repository.
const LIBRDKAFKA: &str = include_str!("../../clients/librdkafka.py");
/// The package that brings librdkafka. What the client suites run (`tests/clients/requirements.txt`) is the same.
const CONFLUENT_KAFKA: &str = "confluent-kafka==2.16.1";
/// Bytes of a value.
pub const RECORD_BYTES: u64 = 1024;
/// Partitions of the topics.
pub const PARTITIONS: i32 = 4;
/// Values in the file that producer-perf draws from.
const VALUES: u64 = 1000;
/// What both producers are told; else they are as they come.
const PRODUCER: [&str; 3] = ["acks=all", "batch.size=65536", "linger.ms=5"];
/// A client has this long, and a second more for each 1,000 records.
const WAIT: Duration = Duration::from_secs(120);

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Client {
    /// Kafka's own, in Java.
    Java,
    /// librdkafka.
    Librdkafka,
}

/// What a client did, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Done {
    /// Records that were acknowledged, or read.
    pub records: u64,
    /// How long that took, without the start of the process.
    pub seconds: f64,
}

/// The clients, ready to run.
#[derive(Debug)]
pub struct Clients {
    dir: PathBuf,
    java: PathBuf,
    python: PathBuf,
}

impl Clients {
    /// Fetches what these clients need, unless it is here; `dir` takes their scripts and logs.
    pub fn prepare(wanted: &[Client], dir: &Path) -> Result<Self, Error> {
        let mut clients = Self { dir: dir.into(), java: PathBuf::new(), python: PathBuf::new() };
        if wanted.contains(&Client::Java) {
            check(Command::new("java").arg("-version"), "the java cases need a JDK, 17 or newer")?;
            kafka_version(dir).map_err(|error| {
                Error::Answer(format!("the java cases need Kafka's tools, which mvn fetches: {error}"))
            })?;
            clients.java = kafka_script(dir)?;
            fs::write(dir.join("values"), values())?;
        }
        if wanted.contains(&Client::Librdkafka) {
            clients.python = python()?;
            fs::write(dir.join("librdkafka.py"), LIBRDKAFKA)?;
        }
        Ok(clients)
    }

    /// Produces so many records.
    pub fn produce(&self, client: Client, to: SocketAddr, topic: &str, records: u64) -> Result<Done, Error> {
        let mut command = self.command(client, "producer-perf", "produce", to, topic, records);
        match client {
            Client::Java => {
                command.args(["--throughput", "-1", "--payload-file"]).arg(self.dir.join("values"));
                command.arg("--command-property").args(PRODUCER);
                self.run(command, records, produced)
            }
            Client::Librdkafka => {
                command.arg(RECORD_BYTES.to_string()).args(PRODUCER);
                self.run(command, records, counted)
            }
        }
    }

    /// Reads a topic that holds so many records.
    pub fn consume(&self, client: Client, from: SocketAddr, topic: &str, records: u64) -> Result<Done, Error> {
        let mut command = self.command(client, "consumer-perf", "consume", from, topic, records);
        match client {
            Client::Java => self.run(command, records, consumed),
            Client::Librdkafka => {
                command.arg(PARTITIONS.to_string());
                self.run(command, records, counted)
            }
        }
    }

    fn command(&self, client: Client, tool: &str, verb: &str, at: SocketAddr, topic: &str, records: u64) -> Command {
        let (at, records) = (at.to_string(), records.to_string());
        match client {
            Client::Java => {
                let mut command = kafka(&self.java, "tool");
                command.args([tool, "--bootstrap-server", &at, "--topic", topic, "--num-records", &records]);
                command
            }
            Client::Librdkafka => {
                let mut command = Command::new(&self.python);
                command.arg(self.dir.join("librdkafka.py")).args([verb, &at, topic, &records]);
                command
            }
        }
    }

    /// Runs a client to its end. It must have done as many records as it was asked for.
    fn run(&self, mut command: Command, records: u64, read: fn(&str) -> Option<Done>) -> Result<Done, Error> {
        let log = self.dir.join("client.log");
        let out = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let ended = Running(command.spawn()?).end(WAIT + Duration::from_secs(records / 1000));
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let last = said.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
        let status = ended.map_err(|error| Error::Answer(format!("the client was ended: {error}\n{last}")))?;
        match read(&said) {
            Some(done) if status.success() && done.records == records => Ok(done),
            Some(done) if status.success() => {
                Err(Error::Answer(format!("the client did {} records, not {records}\n{last}", done.records)))
            }
            _ => Err(Error::Answer(format!("the client failed ({status})\n{last}"))),
        }
    }
}

/// A process that does not outlive this value.
struct Running(Child);

impl Running {
    fn end(mut self, wait: Duration) -> io::Result<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < wait {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("not done after {} s", wait.as_secs())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ended_meanwhile = self.0.kill();
            let _ended_meanwhile = self.0.wait();
        }
    }
}

/// The interpreter of a virtual environment that has librdkafka.
fn python() -> Result<PathBuf, Error> {
    let peers = env::var_os("HEADWATER_PEERS").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache/headwater-peers"));
    let peers = peers.or_else(home).ok_or_else(|| Error::Answer("HOME and HEADWATER_PEERS are not set".into()))?;
    let folder = peers.join("python").join(CONFLUENT_KAFKA.replace("==", "-"));
    let interpreter = folder.join("bin/python");
    let import = || Command::new(&interpreter).args(["-c", "import confluent_kafka"]).output();
    if import().is_ok_and(|out| out.status.success()) {
        return Ok(interpreter);
    }
    let needs = "the librdkafka cases need python3 with venv";
    check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), needs)?;
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", CONFLUENT_KAFKA]);
    check(&mut pip, &format!("pip could not install {CONFLUENT_KAFKA}, which brings librdkafka"))?;
    Ok(interpreter)
}

/// Runs something that must succeed; `needs` says what is missing otherwise.
fn check(command: &mut Command, needs: &str) -> Result<(), Error> {
    match command.stdin(Stdio::null()).output() {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            Err(Error::Answer(format!("{needs} ({})\n{}", out.status, said.trim())))
        }
        Err(error) => Err(Error::Answer(format!("{needs} ({}: {error})", command.get_program().display()))),
    }
}

/// Values of printable characters, one a line, for producer-perf, which takes nothing but text from a file. It would spend longer
/// on making a value of its own than on sending it.
fn values() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'!' + ((state >> 32) % 94) as u8
    };
    let lines: Vec<Vec<u8>> = (0..VALUES).map(|_| (0..RECORD_BYTES).map(|_| draw()).collect()).collect();
    lines.join(&b'\n')
}

/// Reads what producer-perf says in the end: `N records sent, R records/sec (…), … 99th, … 99.9th.`
fn produced(said: &str) -> Option<Done> {
    let line = said.lines().rev().find(|line| line.contains("records sent") && line.contains("99.9th"))?;
    let (records, rest) = line.split_once(" records sent, ")?;
    let records: u64 = records.trim().parse().ok()?;
    let rate: f64 = rest.split_once(" records/sec")?.0.parse().ok()?;
    Some(Done { records, seconds: records as f64 / rate })
}

/// Reads the line of consumer-perf below its head, by the names in the head. Joining the group is not in the time.
fn consumed(said: &str) -> Option<Done> {
    let mut lines = said.lines().skip_while(|line| !line.starts_with("start.time"));
    let names: Vec<&str> = lines.next()?.split(", ").collect();
    let values = lines.map(|line| line.split(", ").collect::<Vec<_>>()).find(|values| values.len() == names.len())?;
    let value = |name: &str| values.get(names.iter().position(|of| *of == name)?).copied();
    let ms: f64 = value("fetch.time.ms")?.trim().parse().ok()?;
    Some(Done { records: value("data.consumed.in.nMsg")?.trim().parse().ok()?, seconds: ms / 1e3 })
}

/// Reads the last line of `librdkafka.py`.
fn counted(said: &str) -> Option<Done> {
    serde_json::from_str(said.lines().last()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_each_client_is_read() {
        let said = "Number of records read: 1000\n100 records sent, 20.0 records/sec (0.02 MB/sec), 318.2 ms avg latency, 1907.0 \
                    ms max latency.\n300000 records sent, 60000.000000 records/sec (58.6 MB/sec), 371.40 ms avg latency, 671.00 \
                    ms max latency, 350 ms 50th, 610 ms 95th, 654 ms 99th, 666 ms 99.9th.\n";
        assert_eq!(produced(said), Some(Done { records: 300_000, seconds: 5.0 }));
        assert_eq!(produced("100 records sent, 20.0 records/sec (0.02 MB/sec)"), None);
        let said = "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, \
                    fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\nWARNING: Exiting before all came\n\
                    2026-01-01 00:00:00:000, 2026-01-01 00:00:14:097, 12.7842, 0.9069, 13091, 928.6373, 3680, 10417, 1.2272, 1256.7\n";
        assert_eq!(consumed(said), Some(Done { records: 13_091, seconds: 10.417 }));
        assert_eq!(counted("a warning\n{\"records\": 7, \"seconds\": 0.5}\n"), Some(Done { records: 7, seconds: 0.5 }));
        assert_eq!(counted("Traceback"), None);
    }

    #[test]
    fn client_that_fails_or_does_less_fails_the_case_and_one_that_hangs_is_ended() {
        let dir = env::temp_dir().join(format!("headwater-clients-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let clients = Clients { dir: dir.clone(), java: PathBuf::new(), python: PathBuf::new() };
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            clients.run(command, 7, counted)
        };
        assert_eq!(run(r#"echo '{"records": 7, "seconds": 1}'"#).unwrap().records, 7);
        assert!(run(r#"echo '{"records": 6, "seconds": 1}'"#).unwrap_err().to_string().contains("6 records, not 7"));
        assert!(run(r#"echo '{"records": 7, "seconds": 1}'; exit 3"#).is_err());
        let hangs = Running(Command::new("sleep").arg("60").spawn().unwrap());
        assert_eq!(hangs.end(Duration::from_millis(50)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        fs::remove_dir_all(&dir).unwrap();
        let missing = check(&mut Command::new("no-such-program"), "this needs a program").unwrap_err();
        assert!(missing.to_string().starts_with("this needs a program (no-such-program"));
    }

    #[test]
    fn values_are_lines_of_the_right_size() {
        let values = values();
        let lines: Vec<&[u8]> = values.split(|&byte| byte == b'\n').collect();
        assert!(lines.len() as u64 == VALUES && lines.iter().all(|line| line.len() as u64 == RECORD_BYTES));
    }
}
