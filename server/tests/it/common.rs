//! Starts the binary on free ports in a temporary folder, and makes sure that it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The binary, without this machine's own settings.
pub fn headwater() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headwater"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEADWATER_")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end and gives back what it printed.
pub fn run(args: &[&str], input: &str) -> Output {
    let mut command = headwater();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("the command reads");
    child.wait_with_output().expect("the command ends")
}

/// What a successful command printed.
pub fn run_ok(args: &[&str], input: &str) -> String {
    let output = run(args, input);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{args:?}: {}\n{out}\n{err}", output.status);
    out
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running server. It is killed when the test ends, however that is.
pub struct Server {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    pub kafka: String,
    pub admin: String,
    /// From the start of the process to `ready`.
    pub took: Duration,
}

impl Server {
    /// Starts one and waits until it says `ready`.
    pub fn start(data_dir: &Path, more: &[&str]) -> Server {
        let started = now();
        let mut child = command(data_dir, more).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (mut kafka, mut admin, mut seen) = (String::new(), String::new(), String::new());
        loop {
            let mut line = String::new();
            if stdout.read_line(&mut line).expect("the output is text") == 0 {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server ended before it was ready:\n{seen}");
            }
            seen += &line;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["kafka", address, ..] => kafka = address.trim_end_matches(',').to_owned(),
                ["admin", address, ..] => admin = address.trim_start_matches("http://").to_owned(),
                ["ready"] => break,
                _ => {}
            }
        }
        Server { child, _stdout: stdout, kafka, admin, took: started.elapsed() }
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the server runs");
    }

    /// Asks for an end and gives back the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> Option<i32> {
        let until = now() + Duration::from_secs(30);
        loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => return status.code(),
                None if now() > until => panic!("the server does not end"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The status and body of a GET on the admin port.
    pub fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let host = if headers.contains("Host:") { String::new() } else { format!("Host: {}\r\n", self.admin) };
        http(&self.admin, &format!("GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n"))
    }

    /// Runs a command line tool against this server.
    pub fn tool(&self, args: &[&str], input: &str) -> String {
        run_ok(&[args, &["--bootstrap", &self.kafka]].concat(), input)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker to run command line tools against: the one that HEADWATER_BOOTSTRAP names, or a new server.
pub struct Broker {
    pub kafka: String,
    /// Tells names of this run from those of others.
    run: String,
    _own: Option<(tempfile::TempDir, Server)>,
}

impl Broker {
    pub fn start() -> Broker {
        let run = std::process::id().to_string();
        if let Ok(kafka) = std::env::var("HEADWATER_BOOTSTRAP") {
            return Broker { kafka, run, _own: None };
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        let server = Server::start(dir.path(), &[]);
        Broker { kafka: server.kafka.clone(), run, _own: Some((dir, server)) }
    }

    /// A name that nothing else on the broker has.
    pub fn name(&self, what: &str) -> String {
        static NAMES: AtomicU32 = AtomicU32::new(0);
        format!("{what}-{}-{}", self.run, NAMES.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs a command line tool to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        run(&[args, &["--bootstrap", &self.kafka]].concat(), "")
    }

    /// What a successful tool printed.
    pub fn tool(&self, args: &[&str]) -> String {
        self.feed(args, "")
    }

    /// The same for one that reads its input.
    pub fn feed(&self, args: &[&str], input: &str) -> String {
        run_ok(&[args, &["--bootstrap", &self.kafka]].concat(), input)
    }
}

/// `headwater serve` on free ports.
pub fn command(data_dir: &Path, more: &[&str]) -> Command {
    let mut command = headwater();
    let ports = ["--kafka", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--aws", "127.0.0.1:0"];
    command.arg("serve").arg("--data-dir").arg(data_dir).args(ports).args(more);
    command
}

/// Sends bytes and reads an HTTP answer.
pub fn http(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    stream.write_all(request.as_bytes()).expect("the request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in text");
    let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

#[allow(clippy::disallowed_methods, reason = "a test of a real process waits in real time")]
pub fn now() -> Instant {
    Instant::now()
}
