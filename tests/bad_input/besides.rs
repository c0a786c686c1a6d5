//! Runs an attack beside the bystanders, and looks at the server before, during and after it.

use crate::bystander::Bystanders;
use anyhow::{Context, Result, ensure};
use headwater_benches::kafka::process::Usage;
use headwater_tests::calls;
use headwater_tests::client::Client;
use headwater_tests::server::{Server, Setup};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// A bystander may wait so long at most, and one time in a hundred so long: the machine does other things too, and attackers
/// and bystanders share its cores.
const LATENCY_MAX: Duration = Duration::from_secs(3);
const LATENCY_P99_MAX: Duration = Duration::from_millis(1_500);

/// Runs `attack` against a server of its own; anonymous memory may grow by `growth_mib_max`. A failure panics.
pub fn besides(test: &str, growth_mib_max: f64, attack: impl FnOnce(&Server) -> Result<String>) {
    let _alone = headwater_tests::alone();
    let setup = Setup::new(Path::new(crate::FOLDER)).expect("a folder");
    if let Err(error) = run(&setup, test, growth_mib_max, attack) {
        panic!("{test}: {error:?}");
    }
}

fn run(setup: &Setup, test: &str, growth_mib_max: f64, attack: impl FnOnce(&Server) -> Result<String>) -> Result<()> {
    let mut server = setup.start()?;
    let bystanders = Bystanders::start(server.kafka)?;
    thread::sleep(Duration::from_millis(300));
    let before = server.anonymous_mib()?;
    let (stop, pid) = (AtomicBool::new(false), server.pid());
    let begun = Instant::now();
    let (outcome, peak) = thread::scope(|scope| -> Result<_> {
        let watch = || {
            let mut peak = 0.0;
            while !stop.load(Ordering::Relaxed) {
                peak = Usage::of(pid).map_or(0.0, |usage| usage.anonymous_mb).max(peak);
                thread::sleep(Duration::from_millis(5));
            }
            peak * 1e6 / f64::from(1 << 20)
        };
        let watch = Builder::new().name("memory".into()).spawn_scoped(scope, watch)?;
        let outcome = attack(&server);
        stop.store(true, Ordering::Relaxed);
        let peak = watch.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
        Ok((outcome, peak))
    })?;
    let lasted = begun.elapsed();
    // Whatever the attack left behind is over soon.
    thread::sleep(Duration::from_millis(200));
    let after = server.anonymous_mib()?;
    let fared = bystanders.finish();
    ensure!(server.ended()?.is_none(), "the server ended: {:?}", server.ended()?);
    let told = outcome.context("the attack")?;
    let fared = fared?;
    answers(server.kafka).context("a new client, afterwards")?;
    setup.check_log()?;
    let stopped = server.terminate().context("ending the server afterwards")?;
    println!(
        "{test}: {told}; {lasted:.1?}; memory {before:.0} MiB before, {peak:.0} at most, {after:.0} after; bystanders: \
         {} batches, p50 {:.1} ms, p99 {:.1} ms, max {:.0} ms; ended in {stopped:.0?}",
        fared.records,
        fared.latency.p50_us / 1e3,
        fared.latency.p99_us / 1e3,
        fared.latency.max_us / 1e3,
    );
    ensure!(peak - before < growth_mib_max, "memory grew by {:.0} MiB, over {growth_mib_max}", peak - before);
    ensure!(fared.latency.max_us < LATENCY_MAX.as_micros() as f64, "a bystander waited {} us", fared.latency.max_us);
    let p99 = fared.latency.p99_us;
    ensure!(p99 < LATENCY_P99_MAX.as_micros() as f64, "one time in a hundred, a bystander waited {p99} us");
    Ok(())
}

fn answers(address: SocketAddr) -> Result<()> {
    let mut client = Client::connect(address)?;
    ensure!(calls::topics(&mut client)?.contains_key("bystanders"), "a topic is missing");
    Ok(())
}

/// A connection without manners.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Sends bytes; that the server closes the connection meanwhile is as good.
pub fn send(stream: &mut TcpStream, bytes: &[u8]) {
    let _closed_already = stream.write_all(bytes);
}

/// Reads until the server closes the connection, and returns what it said. An error when it does not close it.
pub fn read_to_end(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut said = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(said),
            Ok(read) => said.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(said),
            Err(error) => return Err(error).context("the server keeps the connection open"),
        }
    }
}

/// An ApiVersions request, which every server answers, and that it is answered.
pub fn ping(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255])?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size))?];
    stream.read_exact(&mut answer)?;
    ensure!(answer.starts_with(&[0, 0, 0, 7, 0, 0]), "an odd answer to ApiVersions: {answer:?}");
    Ok(())
}
