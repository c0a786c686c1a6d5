//! Consumers that wait for records which do not come, as most consumers do most of the time: each asks again when its wait of
//! half a second, the default of clients, is over.

use crate::figure;
use crate::usage::{CpuWatch, memory_mb};
use anyhow::{Result, ensure};
use headwater_benches::kafka::FETCH;
use headwater_benches::kafka::admin;
use headwater_benches::kafka::connection::Connection;
use headwater_benches::kafka::wire::{Reader, Source, Writer};
use headwater_tests::server::Setup;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The clients' default of fetch.max.wait.ms.
const WAIT: Duration = Duration::from_millis(500);

pub fn run(consumers: u64, seconds: u64, with_session: bool) {
    let _alone = headwater_tests::alone();
    if let Err(error) = measure(consumers, seconds, with_session) {
        panic!("{error:?}");
    }
}

fn measure(consumers: u64, seconds: u64, with_session: bool) -> Result<()> {
    let setup = Setup::new(Path::new(crate::FOLDER))?;
    let server = setup.start()?;
    admin::ensure_topic(&mut Connection::open(server.kafka)?, "quiet", i32::try_from(consumers)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answers = Arc::new(AtomicU64::new(0));
    let what = format!("{consumers} consumers {} a session", if with_session { "with" } else { "without" });
    runtime.block_on(async {
        let mut waiting = JoinSet::new();
        for number in 0..consumers {
            // Clients start when they like: their requests come evenly.
            let begin = WAIT * number as u32 / consumers as u32;
            waiting.spawn(consumer(server.kafka, number as i32, begin, with_session, answers.clone()));
        }
        tokio::time::sleep(WAIT * 3).await;
        let (before, watch) = (answers.load(Ordering::Relaxed), CpuWatch::start(server.pid())?);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let (cpu, percent) = watch.read()?;
        let answers = answers.load(Ordering::Relaxed) - before;
        if let Some(ended) = waiting.try_join_next() {
            ended??;
        }
        println!(
            "{what}: {:.0} answers in a second, {:.1} us of CPU time for each, {:.1} MB of memory",
            answers as f64 / seconds as f64,
            cpu * 1e6 / answers.max(1) as f64,
            memory_mb(server.pid())?
        );
        // An answer that comes early would have the client ask more often than it wants to.
        let most = consumers * 1_000 * seconds / WAIT.as_millis() as u64;
        // One that comes late is the machine's: a small form need not be the only one to use it.
        let least = if headwater_tests::is_long() { most * 8 / 10 } else { 1 };
        ensure!((least..most * 11 / 10).contains(&answers), "{answers} answers where {most} are due");
        figure(&format!("{what}, CPU of {seconds} s"), percent, "% of a core", 2.0);
        Ok::<_, anyhow::Error>(())
    })?;
    server.kill()?;
    setup.check_log()
}

/// Waits for records at the end of a partition, again and again.
async fn consumer(
    address: SocketAddr,
    partition: i32,
    begin: Duration,
    with_session: bool,
    answers: Arc<AtomicU64>,
) -> Result<()> {
    tokio::time::sleep(begin).await;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut session, mut epoch) = (0, if with_session { 0 } else { -1 });
    let mut answer = Vec::new();
    loop {
        let partitions: &[i32] = if epoch > 0 { &[] } else { &[partition] };
        stream.write_all(&request(session, epoch, partitions)).await?;
        let size = stream.read_i32().await?;
        answer.resize(usize::try_from(size)?, 0);
        stream.read_exact(&mut answer).await?;
        let mut reader = Reader::new(&answer);
        // Correlation id and throttle time.
        reader.i64()?;
        let error = reader.i16()?;
        ensure!(error == 0, "a fetch answers error {error}");
        session = reader.i32()?;
        ensure!((session != 0) == with_session, "the session is {session}");
        epoch += i32::from(with_session);
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

fn request(session: i32, epoch: i32, partitions: &[i32]) -> Vec<u8> {
    let mut writer = Writer::request(FETCH);
    writer.i32(-1).i32(WAIT.as_millis() as i32).i32(1).i32(50 << 20).i8(0).i32(session).i32(epoch);
    writer.count(usize::from(!partitions.is_empty()));
    if !partitions.is_empty() {
        writer.string("quiet").count(partitions.len());
        for partition in partitions {
            writer.i32(*partition).i32(-1).i64(0).i64(-1).i32(1 << 20);
        }
    }
    writer.count(0).string("");
    writer.finish()
}
