//! `headwater replay`.

use crate::common::{Server, headwater, run, run_ok, text};
use crate::proxy;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ApiKey, BrokerId, FetchResponse, ListOffsetsResponse};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// `headwater replay` against a server.
fn replay(server: &Server, args: &[&str]) -> Output {
    run(&[&["replay", "--bootstrap", &server.kafka], args].concat(), "")
}

/// What a successful replay printed.
fn replay_ok(server: &Server, args: &[&str]) -> String {
    run_ok(&[&["replay", "--bootstrap", &server.kafka], args].concat(), "")
}

/// A topic with the lines `0`, `1`, ... in partition 0, ten to a batch.
fn numbers(server: &Server, topic: &str, count: u32) {
    server.tool(&["topic", "create", topic, "--partitions", "2"], "");
    for first in (0..count).step_by(10) {
        let lines: String = (first..count.min(first + 10)).map(|number| format!("{number}\n")).collect();
        server.tool(&["produce", topic, "--partition", "0", "--compression", "lz4"], &lines);
        // Batches have times of their own, so that a time names one of them.
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.map(|number| format!("{number}\n")).collect()
}

#[test]
fn a_range_is_exact_by_offset_and_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    numbers(&server, "numbers", 50);
    assert_eq!(replay_ok(&server, &["numbers"]), lines(0..50));
    // Both ends lie inside of a batch.
    assert_eq!(replay_ok(&server, &["numbers:0", "--from", "13", "--to", "37"]), lines(13..37));

    let rows: Vec<Value> = replay_ok(&server, &["numbers:0", "--format", "json"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let time = |offset: usize| format!("@{}", rows[offset]["timestamp"]);
    assert_eq!((rows.len(), &rows[49]["offset"], &rows[49]["partition"]), (50, &49.into(), &0.into()));
    assert_eq!(replay_ok(&server, &["numbers", "--from", &time(10), "--to", &time(30)]), lines(10..30));
    assert_eq!(replay_ok(&server, &["numbers", "--from", &time(40), "--to", "2090-01-01"]), lines(40..50));
    assert_eq!(replay_ok(&server, &["numbers", "--from", "2090-01-01"]), "");

    // A file, and batches as they are stored.
    let file = dir.path().join("out");
    let path = file.to_str().unwrap();
    assert_eq!(replay_ok(&server, &["numbers", "--to", "12", "-o", path, "--delimiter", ";"]), "");
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written, lines(0..12).replace('\n', ";"));
    replay_ok(&server, &["numbers:0", "--from", "13", "--to", "37", "-o", path, "--raw"]);
    let dumped = run_ok(&["log", "dump", path, "--verify", "--records", "--output", "json"], "");
    let rows: Vec<Value> = dumped.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let values: Vec<_> = rows.iter().filter_map(|row| row["record"]["value"].as_str()).collect();
    assert_eq!(values.join("\n") + "\n", lines(13..37), "{dumped}");
    let codecs = rows.iter().filter_map(|row| row["batch"]["codec"].as_str());
    assert_eq!(codecs.collect::<Vec<_>>(), ["lz4"; 3]);

    // Everything that is there, of several topics; each partition in its order.
    server.tool(&["produce", "numbers", "--partition", "1"], "a\nb\n");
    server.tool(&["produce", "others", "--key-separator", "="], "key=value\n");
    let all = replay_ok(&server, &["numbers", "others", "--format", "json", "-q"]);
    let rows: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |topic: &str, partition: i32| -> Vec<&str> {
        let it = |row: &&Value| row["topic"] == topic && row["partition"] == partition;
        rows.iter().filter(it).map(|row| row["value"].as_str().unwrap()).collect()
    };
    assert_eq!(of("numbers", 0).concat(), lines(0..50).replace('\n', ""));
    assert_eq!((of("numbers", 1), of("others", 0)), (vec!["a", "b"], vec!["value"]));
    let bytes = replay(&server, &["others", "--format", "lengths"]).stdout;
    assert_eq!(bytes, b"\0\0\0\x03key\0\0\0\x05value");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn what_a_range_cannot_have_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    numbers(&server, "numbers", 20);
    let cases: [(&[&str], i32, &str); 6] = [
        (&["nothing"], 1, "there is no such topic"),
        (&["numbers:2"], 1, "topic numbers has 2 partitions; there is none with number 2"),
        (&["numbers", "--from", "5", "--to", "4"], 2, "the range ends before it begins"),
        (&["numbers", "--raw"], 2, "--raw writes one partition"),
        (&["numbers", "-o", "/nowhere/file"], 1, "cannot write /nowhere/file"),
        (&["numbers:0", "-o", "/dev/full"], 1, "No space left on device"),
    ];
    for (args, code, message) in cases {
        let output = replay(&server, args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(message), "{args:?}: {error}");
    }
    server.tool(&["topic", "delete-records", "numbers", "--partition", "0", "--before", "7"], "");
    let warned = replay(&server, &["numbers:0", "--from", "3", "--to", "9"]);
    assert_eq!((warned.status.code(), text(&warned.stdout)), (Some(0), lines(7..9)));
    let error = text(&warned.stderr);
    assert!(error.starts_with("warning: numbers/0 begins at offset 7: what was before it is deleted\n2 records, "));
    assert!(!error.contains('\r'), "no progress in a pipe: {error}");
    let past = replay(&server, &["numbers:0", "--from", "50"]);
    assert_eq!((past.status.code(), text(&past.stdout)), (Some(0), String::new()));
    assert!(text(&past.stderr).contains("ends at offset 20: it has nothing from 50 on"), "{}", text(&past.stderr));
    let quiet = replay(&server, &["numbers:0", "--from", "3", "--to", "9", "--quiet"]);
    assert_eq!((text(&quiet.stdout), text(&quiet.stderr)), (lines(7..9), String::new()));
    let batches = replay(&server, &["numbers", "--delimiter", "\\q"]);
    assert_eq!(batches.status.code(), Some(2));
}

/// More than all buffers between the log and a pipe that nobody reads.
const LARGE: usize = 96 << 20;

/// A topic with one partition that holds numbered lines of 1 KiB.
fn large(server: &Server) -> u64 {
    server.tool(&["topic", "create", "large"], "");
    let count = LARGE / 1024;
    let input: String = (0..count).map(|number| format!("{number:01023}\n")).collect();
    server.tool(&["produce", "large"], &input);
    count as u64
}

/// A replay of it that waits for whoever reads its output.
fn replaying(server: &Server) -> Child {
    let mut command = headwater();
    command.args(["replay", "large", "--bootstrap", &server.kafka]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    large(&server);
    let mut child = replaying(&server);
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(first, format!("{:01023}\n", 0));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn records_that_are_deleted_before_their_turn_make_it_fail() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let count = large(&server);
    let mut child = headwater()
        .args(["replay", "large", "--bootstrap", &server.kafka])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    // Some of it is on its way already; what lies behind that is deleted, but for the last record, and more is written.
    let before = (count - 1).to_string();
    server.tool(&["topic", "delete-records", "large", "--partition", "0", "--before", &before], "");
    server.tool(&["produce", "large"], "late\n");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("error: records of large/0 from offset ") && error.contains("were deleted"), "{error}");
    let numbers: Vec<u64> = (first + &rest).lines().map(|line| line.parse().unwrap()).collect();
    let gap = numbers.windows(2).position(|pair| pair[1] != pair[0] + 1).unwrap() as u64;
    assert_eq!(numbers.len() as u64, gap + 2, "what was on its way, and the last one");
    assert_eq!(numbers.last(), Some(&(count - 1)), "what was written meanwhile is not in the range");
}

#[test]
fn a_topic_that_is_made_anew_is_not_taken_for_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    large(&server);
    let mut child = replaying(&server);
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut all = String::new();
    reader.read_line(&mut all).unwrap();
    // The new one has the next offset and not the planned end.
    server.tool(&["topic", "delete", "large"], "");
    server.tool(&["topic", "create", "large"], "");
    let input: String = (1..LARGE / 1024).map(|_| format!("{:>1023}\n", "new")).collect();
    server.tool(&["produce", "large"], &input);
    reader.read_to_string(&mut all).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("topic large was deleted, and made again, while it was read ("), "{error}");
    assert!(error.ends_with("\nhint: what is missing of it is gone\n"), "no place to go on from: {error}");
    let is_old = |(number, line): (usize, &str)| line.parse() == Ok(number);
    assert!(all.lines().enumerate().all(is_old), "records of the new topic came");
}

/// A proxy that empties rows of Fetch's answers: `change` is told how many answers came before, and gives an error code and a
/// high watermark to a partition.
fn emptied(server: &Server, change: impl Fn(u32, i32) -> Option<(i16, i64)> + Send + Sync + 'static) -> String {
    let count = AtomicU32::new(0);
    proxy::start(&server.kafka, move |request| {
        request.ask_and(ApiKey::Fetch, |answer: &mut FetchResponse| {
            let before = count.fetch_add(1, Ordering::Relaxed);
            for row in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if let Some((error_code, high_watermark)) = change(before, row.partition_index) {
                    (row.error_code, row.high_watermark, row.records) = (error_code, high_watermark, None);
                }
            }
        })
    })
}

#[test]
fn an_empty_row_beside_an_error_is_not_taken_for_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    numbers(&server, "numbers", 20);
    server.tool(&["produce", "numbers", "--partition", "1"], "a\nb\n");
    for command in [&["replay", "--connections", "1"][..], &["consume"]] {
        // The leader of partition 0 moves, and the answer says nothing yet of partition 1.
        let moving = emptied(&server, |before, partition| match (before, partition) {
            (0, 0) => Some((ResponseError::NotLeaderOrFollower.code(), -1)),
            (0, _) => Some((0, 2)),
            _ => None,
        });
        let out = run_ok(&[command, &["numbers", "--bootstrap", &moving]].concat(), "");
        assert_eq!(out.lines().count(), 22, "{command:?}: {out}");
    }
}

#[test]
fn what_compaction_took_out_at_the_end_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    numbers(&server, "numbers", 20);
    let compacted = emptied(&server, |_, partition| (partition == 0).then_some((0, 20)));
    assert_eq!(run_ok(&["replay", "numbers", "--from", "15", "--bootstrap", &compacted], ""), "");
}

/// A proxy that leaves so many answers to Fetch without records: they are at another replica when one is named, and before
/// `local`, the first offset that is on the broker's own disk.
fn owing(server: &Server, answers: u32, replica: i32, local: Option<i64>) -> String {
    let count = AtomicU32::new(0);
    proxy::start(&server.kafka, move |request| {
        if request.key == ApiKey::ListOffsets as i16 {
            let is_local = request.frame.windows(8).any(|bytes| bytes == (-4_i64).to_be_bytes());
            return request.ask_and(ApiKey::ListOffsets, |answer: &mut ListOffsetsResponse| {
                for row in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|_| is_local) {
                    row.offset = local.unwrap_or(row.offset);
                }
            });
        }
        request.ask_and(ApiKey::Fetch, |answer: &mut FetchResponse| {
            if count.fetch_add(1, Ordering::Relaxed) < answers {
                for row in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    (row.records, row.preferred_read_replica) = (None, BrokerId(replica));
                }
            }
        })
    })
}

#[test]
fn an_empty_answer_is_a_hole_only_when_it_comes_again_and_is_about_what_the_broker_has_at_hand() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    numbers(&server, "numbers", 20);
    // Once, for whatever reason; from remote storage that takes its time; from a broker that names another.
    for (answers, replica, local) in [(1, -1, None), (4, -1, Some(20)), (3, 7, None)] {
        for command in ["replay", "consume"] {
            let late = owing(&server, answers, replica, local);
            let out = run_ok(&[command, "numbers", "--bootstrap", &late], "");
            assert_eq!(out, lines(0..20), "{command} after {answers} answers, {replica}, {local:?}");
        }
    }
    for (replica, local) in [(-1, Some(20)), (7, None)] {
        for command in ["replay", "consume"] {
            let never = owing(&server, u32::MAX, replica, local);
            let output = run(&[command, "numbers", "--bootstrap", &never, "--timeout", "1"], "");
            let error = text(&output.stderr);
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{command}: {error}");
            assert!(error.starts_with("error: numbers/0 at offset 0 does not come within 1 s: it is in "), "{error}");
        }
    }
}

#[test]
fn connections_stay_bounded_when_leaders_move() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    server.tool(&["topic", "create", "wide", "--partitions", "60"], "");
    let input: String = (0..600).map(|number| format!("{number}={number}\n")).collect();
    server.tool(&["produce", "wide", "--key-separator", "="], &input);
    let (opened, answers) = (Arc::new(AtomicU32::new(0)), AtomicU32::new(0));
    let seen = opened.clone();
    let moving = proxy::start(&server.kafka, move |request| {
        // A connection begins with it.
        if request.key == ApiKey::ApiVersions as i16 {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        request.ask_and(ApiKey::Fetch, |answer: &mut FetchResponse| {
            if answers.fetch_add(1, Ordering::Relaxed) < 4 {
                for row in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    (row.error_code, row.records) = (ResponseError::NotLeaderOrFollower.code(), None);
                }
            }
        })
    });
    let out = run_ok(&["replay", "wide", "--connections", "2", "--bootstrap", &moving], "");
    assert_eq!(out.lines().count(), 600);
    assert_eq!(opened.load(Ordering::Relaxed), 3, "one to ask where everything is, two to read");
}

/// A proxy that lets records of `numbers/0` be deleted when reading begins.
fn trimming(server: &Server, before: &'static str) -> String {
    let (kafka, count) = (server.kafka.clone(), AtomicU32::new(0));
    proxy::start(&server.kafka, move |request| {
        if request.key == ApiKey::Fetch as i16 && count.fetch_add(1, Ordering::Relaxed) == 0 {
            let args = ["topic", "delete-records", "numbers", "--partition", "0", "--before", before];
            run_ok(&[&args[..], &["--bootstrap", &kafka]].concat(), "");
        }
        request.ask()
    })
}

#[test]
fn a_gap_ends_with_the_range_and_is_told_when_nothing_comes_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    numbers(&server, "numbers", 20);
    let output = run(&["replay", "numbers:0", "--from", "3", "--to", "9", "--bootstrap", &trimming(&server, "12")], "");
    let error = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{error}");
    let told = "records of numbers/0 from offset 3 to 9 were deleted before they were read\n";
    assert!(error.contains(&format!("error: {told}")), "{error}");

    // What was not there at the start is no loss, but worth a word.
    let output = run(&["consume", "numbers", "--partition", "0", "--from", "3", "--bootstrap", &server.kafka], "");
    let error = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), lines(12..20)), "{error}");
    assert_eq!(error, "warning: numbers/0 begins at offset 12: what was before it is deleted\n");

    let trimming = trimming(&server, "20");
    let output = run(&["consume", "numbers", "--partition", "0", "--from", "13", "--bootstrap", &trimming], "");
    let error = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{error}");
    let told = "warning: records of numbers/0 from offset 13 to 20 were deleted before they were read\n";
    assert_eq!(error, told);
}

#[test]
fn a_partition_that_ends_before_its_planned_end_makes_it_fail() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    numbers(&server, "numbers", 20);
    let cut = emptied(&server, |_, partition| (partition == 0).then_some((0, 7)));
    for command in [&["replay", "numbers:0"][..], &["consume", "numbers"]] {
        let output = run(&[command, &["--bootstrap", &cut, "--timeout", "1"]].concat(), "");
        let error = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{command:?}: {error}");
        let wanted =
            "error: numbers/0 ends at offset 7 now, before 20, which it had when reading began: its log was cut";
        assert!(error.starts_with(wanted), "{command:?}: {error}");
    }
}

#[test]
fn a_damaged_batch_ends_it_after_everything_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    numbers(&server, "numbers", 30);
    assert_eq!(server.stop(), Some(0));
    let mut segment = None;
    for folder in std::fs::read_dir(dir.path().join("segments")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            if is_log && std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
                segment = Some(path);
            }
        }
    }
    let file = std::fs::OpenOptions::new().read(true).write(true).open(segment.unwrap()).unwrap();
    // The second of three batches: its length lies 8 bytes behind the end of the first one.
    let mut length = [0; 4];
    file.read_exact_at(&mut length, 8).unwrap();
    let in_second = u64::from(u32::from_be_bytes(length)) + 12 + 70;
    let mut byte = [0];
    file.read_exact_at(&mut byte, in_second).unwrap();
    file.write_all_at(&[byte[0] ^ 1], in_second).unwrap();

    let server = Server::start(dir.path(), &[]);
    let output = replay(&server, &["numbers"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(text(&output.stdout), lines(0..10));
    assert!(error.contains("numbers/0 at offset 10") && error.contains("10 records were written before"), "{error}");
    let hint = text(&replay(&server, &["numbers:0", "--from", "3"]).stderr);
    assert!(hint.ends_with("hint: what is missing begins here: numbers:0 --from 10\n"), "{hint}");
    assert_eq!(replay_ok(&server, &["numbers:0", "--from", "20"]), lines(20..30), "the rest can be had");
}
