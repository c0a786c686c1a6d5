//! `headwater bench` against a real server: each scenario for a second or so, and what it counts.
#![allow(clippy::disallowed_methods, reason = "these tests run real processes on a real disk, by the real clock")]

use anyhow::{Context, Result, ensure};
use headwater_tests::alone;
use headwater_tests::server::{Server, Setup, program};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Below the target folder, so that it lies on a disk and not in memory.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// Runs a scenario and returns its phases.
fn bench(server: &Server, arguments: &str) -> Result<Vec<Value>> {
    let mut command = Command::new(program()?);
    command.arg("bench").args(arguments.split(' ')).args(["--broker", &server.kafka.to_string(), "--quiet"]);
    command.args(["--pid", &server.pid().to_string(), "--output", "json"]);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bench {arguments}: {said}");
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(report["machine"]["cores"].as_u64() > Some(0), "no machine in {report}");
    Ok(report["phases"].as_array().context("no phases")?.clone())
}

/// A number of the first kind of traffic in a phase.
fn count(phase: &Value, flow: usize, name: &str) -> u64 {
    phase["flows"][flow][name].as_u64().unwrap_or_else(|| panic!("no {name} in {phase}"))
}

#[test]
fn every_scenario_runs_and_counts_what_it_should() {
    let _alone = alone();
    scenarios().unwrap_or_else(|error| panic!("{error:?}"));
}

fn scenarios() -> Result<()> {
    let setup = Setup::new(Path::new(FOLDER))?;
    let server = setup.start()?;

    let phases = bench(&server, "produce --topic closed --megabytes 20 --compression lz4 --keys zipf")?;
    let records = count(&phases[0], 0, "records");
    ensure!(count(&phases[0], 0, "bytes") == records * 1024 && records >= 20_000_000 / 1024, "{phases:?}");
    ensure!(phases[0]["cost"]["server"]["anonymous_mb"].as_f64() > Some(1.0), "no memory of the server");

    let phases = bench(&server, "consume --topic closed --passes 2 --consumers 3")?;
    ensure!(phases.len() == 1 && count(&phases[0], 0, "records") == 2 * records, "{phases:?}");

    // 1,000 records per second for a second, each a request; every one of them has a latency.
    let phases = bench(&server, "produce --topic open --batch-records 1 --rate 1000 --duration 1")?;
    ensure!(count(&phases[0], 0, "records") == 1000 && count(&phases[0], 0, "latencies") == 1000, "{phases:?}");

    for (arguments, asked) in [("--rate 300", Some(300)), ("--rate max", None)] {
        let topic = asked.map_or("ping", |_| "flow");
        let phases = bench(&server, &format!("end-to-end --topic {topic} --duration 1 {arguments}"))?;
        let flow = usize::from(asked.is_some());
        let came = count(&phases[0], flow, "records");
        ensure!(came == count(&phases[0], flow, "latencies") && came > 0, "{phases:?}");
        ensure!(asked.is_none_or(|asked| came == asked), "{came} of {asked:?}");
    }

    for by in ["", " --by-time"] {
        let phases = bench(&server, &format!("replay --topic replayed{} --megabytes 10 --consumers 7{by}", by.len()))?;
        ensure!(count(&phases[0], 0, "records") == count(&phases[1], 0, "records"), "{phases:?}");
    }

    let phases = bench(&server, "mixed --topic mixed --duration 1 --rate 2MB --replayed-megabytes 10")?;
    ensure!(phases.len() == 3 && count(&phases[1], 0, "records") == count(&phases[2], 0, "records"), "{phases:?}");
    ensure!(count(&phases[2], 1, "records") > 0, "nothing was replayed");

    // A request for 50 partitions every 25.6 ms.
    let phases = bench(&server, "partitions --topic many --partitions 200 --duration 1 --rate 2MB")?;
    ensure!(count(&phases[0], 0, "records") == 40 * 50, "{phases:?}");

    // Two shards of five records every 5.12 ms; with a linger, each record has its latency.
    let phases = bench(&server, "shards --topic shards --shards 2 --duration 1")?;
    let records = count(&phases[0], 0, "records");
    ensure!(records == 196 * 10 && records == count(&phases[0], 0, "latencies"), "{phases:?}");

    setup.check_log()?;
    server.terminate()?;
    Ok(())
}

#[test]
fn errors_say_what_is_wrong() {
    let _alone = alone();
    let setup = Setup::new(Path::new(FOLDER)).expect("a folder");
    let server = setup.start().expect("a server");
    let error = |arguments: &str| bench(&server, arguments).expect_err(arguments).to_string();
    assert!(error("produce --topic no/name --megabytes 1").contains("INVALID_TOPIC"));
    let first = "produce --topic two --partitions 2 --megabytes 1";
    bench(&server, first).expect(first);
    assert!(error("produce --topic two --partitions 3 --megabytes 1").contains("2 partitions, not 3"));
    assert!(error("produce --topic two --partitions 2 --acks 7").contains("acks is all, 1 or 0"));
    server.terminate().expect("an end");
}

/// Two servers that run already, one of them a sink, so that nothing must be fetched or pinned.
#[test]
fn compare_runs_interleaved_rounds_and_prints_ratios() {
    let _alone = alone();
    let setup = Setup::new(Path::new(FOLDER)).expect("a folder");
    let server = setup.start().expect("a server");
    let mut command = Command::new(program().expect("the program"));
    command.args(["bench", "compare", "--no-pin", "--rounds", "2", "--round-mb", "20", "--warm-mb", "10"]);
    command.args(["--settle-ms", "0", "--cases", "produce-64k,fetch-64k", "--output", "json", "--dir", FOLDER]);
    command.arg(format!("--servers=ours={}@{},sink", server.kafka, server.pid()));
    let output = command.output().expect("a run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let produce = &result["cases"][0];
    assert_eq!(produce["rounds"][0].as_array().map(Vec::len), Some(2));
    assert_eq!(produce["ratios"][1][0][0], "server CPU s/GB");
    // A sink holds nothing that could be fetched.
    assert_eq!(result["cases"][1]["rounds"][1].as_array().map(Vec::len), Some(0));
    server.terminate().expect("an end");
}
