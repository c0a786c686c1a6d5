//! Writes that fail under a running server. It must stop at once, say why and end with a code of its own: what failed once is
//! never called safe. When the disk is right again, everything acknowledged is there.

use crate::filesystem::Filesystem;
use crate::ledger::{Ended, Ledger};
use anyhow::{Context, Result, ensure};
use headwater_tests::client::Client;
use headwater_tests::server::{Server, Setup};
use std::path::Path;
use std::time::Duration;

/// The server was running and stopped because it could no longer promise durability.
const ENGINE_FAILED: i32 = 4;

/// Produces until the server goes away, which it must do by itself.
fn load_until_it_stops(mut server: Server, setup: &Setup, client: &mut Client, ledger: &mut Ledger) -> Result<String> {
    let ended = ledger.produce(client, 100_000, 1 << 30)?;
    ensure!(ended == Ended::Lost, "producing ends with {ended:?}");
    let status = server.wait(Duration::from_secs(20)).context("after it closed its connections")?;
    ensure!(status.code() == Some(ENGINE_FAILED), "it ended with {status}");
    let log = setup.log_text();
    let why = log.lines().find(|line| line.contains("can no longer promise durability"));
    let why = why.with_context(|| format!("it does not say why it ended:\n{log}"))?;
    setup.check_log()?;
    Ok(why.to_owned())
}

fn recovers(setup: &Setup, ledger: &mut Ledger) -> Result<Duration> {
    let server = setup.start().context("when the disk is right again")?;
    let mut client = Client::connect(server.kafka)?;
    ledger.verify(&mut client)?;
    let ended = ledger.produce(&mut client, 10_000, 1 << 20)?;
    ensure!(ended == Ended::Enough, "producing when the disk is right again ends with {ended:?}");
    ledger.verify(&mut client)?;
    let ready = server.ready_after;
    server.terminate()?;
    Ok(ready)
}

/// Breaks a device under a server, with each kind of WAL. `load` breaks it and says why the server stopped.
fn breaks(test: &str, load: impl Fn(&Filesystem, Server, &Setup, &mut Client, &mut Ledger) -> Result<String>) {
    let _alone = headwater_tests::alone();
    for method in ["auto", "portable"] {
        let Some(filesystem) = Filesystem::make_breakable(test, 1_024) else { return };
        let run = || -> Result<()> {
            let mut setup = Setup::new(Path::new(crate::FOLDER))?.option("--wal-method", method);
            setup.data = filesystem.mount().join("data");
            let server = setup.start()?;
            let mut client = Client::connect(server.kafka)?;
            let mut ledger = Ledger::create(&mut client, "t", 4, &[])?;
            let why = load(&filesystem, server, &setup, &mut client, &mut ledger)?;
            println!("{test} ({method}): after {} MB: {why}", ledger.bytes / 1_000_000);
            filesystem.repair_device()?;
            let ready = recovers(&setup, &mut ledger)?;
            println!("{test} ({method}): ready {ready:.0?} after the disk is right again, nothing lost");
            Ok(())
        };
        run().unwrap_or_else(|error| panic!("{method}: {error:?}"));
    }
}

/// Every write and read of the device fails with EIO, from some moment under load on.
#[test]
fn an_io_error_under_load_stops_the_server() {
    breaks("io-error", |filesystem, server, setup, client, ledger| {
        std::thread::scope(|scope| {
            let breaks = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(400));
                filesystem.break_device()
            });
            let why = load_until_it_stops(server, setup, client, ledger);
            breaks.join().map_err(|_| anyhow::anyhow!("breaking the device panicked"))??;
            why
        })
    });
}

/// The same while nobody writes: the next thing that is written is the WAL, and its write is the one to fail.
#[test]
fn an_io_error_of_the_wal_stops_the_server() {
    breaks("wal-io-error", |filesystem, server, setup, client, ledger| {
        // Too little for a piece of a segment to be full, and be written behind the acks.
        let ended = ledger.produce(client, 10_000, 400_000)?;
        ensure!(ended == Ended::Enough, "{ended:?}");
        filesystem.break_device()?;
        let acknowledged = ledger.bytes;
        let why = load_until_it_stops(server, setup, client, ledger)?;
        ensure!(ledger.bytes == acknowledged, "batches were acknowledged on a broken disk");
        ensure!(why.contains("the WAL failed") && why.contains("os error 5"), "it was no EIO of the WAL: {why}");
        Ok(why)
    });
}

/// The same without the rights of root: a limit on the size of files lets the writes of a segment fail.
#[test]
fn a_failing_write_stops_the_server() {
    let _alone = headwater_tests::alone();
    for method in ["auto", "portable"] {
        let run = || -> Result<()> {
            // The smallest WAL does not grow.
            let setup = Setup::new(Path::new(crate::FOLDER))?.option("--wal-method", method);
            let limited = "trap '' XFSZ; ulimit -f 49152; exec \"$@\"";
            let setup = setup.option("--wal-size-max", "32MiB").under(&["bash", "-c", limited, "limited"]);
            let server = setup.start()?;
            let mut client = Client::connect(server.kafka)?;
            let mut ledger = Ledger::create(&mut client, "t", 1, &[])?;
            let why = load_until_it_stops(server, &setup, &mut client, &mut ledger)?;
            println!("failing-write ({method}): after {} MB: {why}", ledger.bytes / 1_000_000);
            ensure!(why.contains("writing a segment failed"), "it was no segment that could not be written: {why}");
            let setup = setup.under(&[]);
            recovers(&setup, &mut ledger)?;
            Ok(())
        };
        run().unwrap_or_else(|error| panic!("{method}: {error:?}"));
    }
}
