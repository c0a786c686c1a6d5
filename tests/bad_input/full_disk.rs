//! A disk that fills up: producers are refused before it is full; what drains it still works, and then all is well again.

use crate::filesystem::Filesystem;
use crate::ledger::{Ended, Ledger};
use anyhow::{Context, Result, ensure};
use headwater_tests::calls;
use headwater_tests::client::Client;
use headwater_tests::server::Setup;
use std::path::Path;
use std::time::{Duration, Instant};

const KAFKA_STORAGE_ERROR: i16 = 56;
const SIZE_MIB: u64 = 640;
/// So much can be written again after some was freed.
const AGAIN_BYTES: u64 = 24 << 20;
/// Space that was freed is used again so soon at the latest.
const BACK_MAX: Duration = Duration::from_secs(5);
/// What is written between two looks at the free space may go below the server's reserve, but not far.
const FREE_MIB_MIN: u64 = 128;

fn setup(filesystem: &Filesystem) -> Result<Setup> {
    let mut setup = Setup::new(Path::new(crate::FOLDER))?;
    setup.data = filesystem.mount().join("data");
    Ok(setup)
}

/// Produces until a producer is refused, which must be for want of space and while there is some.
fn fill(filesystem: &Filesystem, client: &mut Client, ledger: &mut Ledger) -> Result<u64> {
    let ended = ledger.produce(client, 100_000, 10 << 30)?;
    ensure!(ended == Ended::Refused(KAFKA_STORAGE_ERROR), "filling the disk ends with {ended:?}");
    let free_mib = filesystem.free()? >> 20;
    ensure!(free_mib >= FREE_MIB_MIN, "producers are refused when {free_mib} MiB are left");
    Ok(free_mib)
}

/// Produces until a good part of what was freed is used again, and says how long the first batches took.
fn await_space(client: &mut Client, ledger: &mut Ledger) -> Result<Duration> {
    let begun = Instant::now();
    let until = ledger.bytes + AGAIN_BYTES;
    let mut first = None;
    while ledger.bytes < until {
        match ledger.produce(client, 100_000, until - ledger.bytes)? {
            Ended::Refused(KAFKA_STORAGE_ERROR) if begun.elapsed() < BACK_MAX => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Ended::Enough => {}
            ended => anyhow::bail!("producing after {:?} ends with {ended:?}", begun.elapsed()),
        }
        if first.is_none() && ledger.bytes + AGAIN_BYTES / 2 > until {
            first = Some(begun.elapsed());
        }
    }
    Ok(first.unwrap_or_default())
}

#[test]
fn a_full_disk_refuses_producers_and_can_be_drained() {
    let _alone = headwater_tests::alone();
    let Some(filesystem) = Filesystem::make("full-disk", SIZE_MIB) else { return };
    drained(&filesystem).unwrap_or_else(|error| panic!("{error:?}"));
}

fn drained(filesystem: &Filesystem) -> Result<()> {
    let setup = setup(filesystem)?;
    let server = setup.start()?;
    let mut client = Client::connect(server.kafka)?;
    // One of the usual kind, whose only segment could grow to a gigabyte; one that rolls.
    let mut usual = Ledger::create(&mut client, "usual", 1, &[])?;
    let mut rolling = Ledger::create(&mut client, "rolling", 2, &[("segment.bytes", "16777216")])?;
    let ended = rolling.produce(&mut client, 100_000, 80 << 20)?;
    ensure!(ended == Ended::Enough, "{ended:?}");
    let left = fill(filesystem, &mut client, &mut usual)?;
    println!("full-disk: refused with {left} MiB left, after {} MB", (usual.bytes + rolling.bytes) / 1_000_000);

    // Reading, and looking around.
    usual.verify(&mut client)?;
    rolling.verify(&mut client)?;
    let (code, _) = calls::offset(&mut client, "usual", 0, 0)?;
    ensure!(code == 0, "offsets for times are answered with error {code}");

    // Killed while full, it comes back, as full as it was.
    server.kill()?;
    let server = setup.start().context("starting on a full disk")?;
    println!("full-disk: ready {:.0?} after a kill while full", server.ready_after);
    let mut client = Client::connect(server.kafka)?;
    usual.verify(&mut client)?;
    rolling.verify(&mut client)?;
    fill(filesystem, &mut client, &mut rolling).context("after a restart")?;

    // Deleting records gives space back.
    for partition in 0..rolling.partitions {
        rolling.clear(&mut client, partition).context("on a full disk")?;
    }
    let waited = await_space(&mut client, &mut rolling).context("after deleting records")?;
    println!("full-disk: after DeleteRecords, producing goes on {waited:.0?} later");
    fill(filesystem, &mut client, &mut rolling)?;

    // A segment that still grows is given back too, when nothing in it is left.
    usual.clear(&mut client, 0)?;
    let waited = await_space(&mut client, &mut usual).context("after deleting all records of the usual topic")?;
    println!("full-disk: after DeleteRecords of an unrolled partition, producing goes on {waited:.0?} later");
    usual.verify(&mut client)?;
    fill(filesystem, &mut client, &mut usual)?;

    // So does deleting a topic.
    let id = calls::topics(&mut client)?.get("usual").context("the topic is there")?.0;
    let code = calls::delete_topic(&mut client, id)?;
    ensure!(code == 0, "deleting a topic on a full disk is answered with error {code}");
    let waited = await_space(&mut client, &mut rolling).context("after deleting a topic")?;
    println!("full-disk: after DeleteTopics, producing goes on {waited:.0?} later");

    server.terminate()?;
    let server = setup.start()?;
    rolling.verify(&mut Client::connect(server.kafka)?)?;
    server.terminate()?;
    setup.check_log()
}

/// Somebody else takes the space, all of it. The server may go on, refusing producers, or stop and say why; once there is space
/// again, everything acknowledged is there.
#[test]
fn a_disk_filled_by_others_loses_nothing() {
    let _alone = headwater_tests::alone();
    let Some(filesystem) = Filesystem::make("foreign-file", SIZE_MIB) else { return };
    filled(&filesystem).unwrap_or_else(|error| panic!("{error:?}"));
}

fn filled(filesystem: &Filesystem) -> Result<()> {
    let setup = setup(filesystem)?;
    let mut server = setup.start()?;
    let mut client = Client::connect(server.kafka)?;
    let mut ledger = Ledger::create(&mut client, "t", 4, &[("segment.bytes", "1048576")])?;
    let ended = ledger.produce(&mut client, 50_000, 32 << 20)?;
    ensure!(ended == Ended::Enough, "{ended:?}");
    filesystem.fill("foreign")?;
    // While there is no space at all, it is written to for longer than it takes to notice, and over a checkpoint or two.
    let begun = Instant::now();
    let (mut refused, mut lost) = (0, false);
    while begun.elapsed() < Duration::from_secs(13) && !lost {
        match ledger.produce(&mut client, 1_000, 1 << 20)? {
            Ended::Enough => {}
            Ended::Refused(code) => {
                ensure!(code == KAFKA_STORAGE_ERROR, "producing is refused with error {code}");
                refused += 1;
                // This is not data: it may be refused, too, but not do harm.
                if refused % 50 == 1 {
                    let _refused_too = calls::create_topic(&mut client, &format!("made-{refused}"), 1, &[])?;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Ended::Lost => lost = true,
        }
    }
    let ended = if lost { Some(server.wait(Duration::from_secs(10))?) } else { server.ended()? };
    println!("foreign-file: {refused} times refused; the server {ended:?}; {} bytes left", filesystem.free()?);
    match ended {
        None => server.kill()?,
        Some(status) => {
            ensure!(status.code() == Some(4), "it ended with {status}");
            let log = setup.log_text();
            let why = log.lines().find(|line| line.contains("can no longer promise durability"));
            println!("foreign-file: {}", why.with_context(|| format!("it does not say why it ended:\n{log}"))?);
        }
    }
    // Without any space at all it may come up or say that it cannot.
    match setup.start() {
        Ok(server) => {
            println!("foreign-file: it starts on a disk without space");
            ledger.verify(&mut Client::connect(server.kafka)?)?;
            server.kill()?;
        }
        Err(error) => {
            println!("foreign-file: it does not start on a disk without space: {}", last_line(&format!("{error:#}")))
        }
    }
    std::fs::remove_file(filesystem.mount().join("foreign"))?;
    let server = setup.start().context("when there is space again")?;
    let mut client = Client::connect(server.kafka)?;
    ledger.verify(&mut client)?;
    let ended = ledger.produce(&mut client, 50_000, 8 << 20)?;
    ensure!(ended == Ended::Enough, "{ended:?}");
    ledger.verify(&mut client)?;
    server.terminate()?;
    setup.check_log()
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| line.contains("error")).unwrap_or(text)
}
