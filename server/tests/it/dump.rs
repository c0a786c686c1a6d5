//! `headwater log dump`.

use crate::common::{Server, run, run_ok, text};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

/// The only segment of a data folder.
fn segment(data_dir: &Path) -> PathBuf {
    let mut segments = files(&data_dir.join("segments"));
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    assert_eq!(segments.len(), 1, "{segments:?}");
    segments.remove(0)
}

/// Every file with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for path in files(folder) {
        let file = writable(&path);
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        contents.insert(path, bytes);
    }
    contents
}

fn writable(path: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn flip_a_bit(path: &Path, position: u64) {
    let (file, mut byte) = (writable(path), [0]);
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

fn json(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_dump_shows_what_lies_in_a_segment_and_finds_a_flipped_bit() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    server.tool(&["topic", "create", "orders"], "");
    for line in ["one\n", "two\nthree\n"] {
        server.tool(&["produce", "orders", "--compression", "lz4"], line);
    }
    assert_eq!(server.stop(), Some(0));
    let segment = segment(dir.path());
    let path = segment.to_str().unwrap();

    let lines = run_ok(&["log", "dump", path, "--records", "--verify", "--output", "json"], "");
    let rows: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 5, "{lines}");
    assert_eq!(rows[0]["batch"]["codec"], "lz4");
    assert_eq!((&rows[2]["batch"]["base_offset"], &rows[2]["batch"]["records"]), (&1.into(), &2.into()));
    assert_eq!((&rows[4]["record"]["offset"], &rows[4]["record"]["value"]), (&2.into(), &"three".into()));
    let verified = run_ok(&["log", "dump", path, "--verify"], "");
    assert!(verified.contains("\n2 batches, 3 records, ") && verified.ends_with(" 0 problems\n"), "{verified}");
    let rows: Vec<&str> = verified.lines().skip(1).take(3).collect();
    let kind = rows[0].find("  KIND");
    assert!(
        kind.is_some() && rows[1..].iter().all(|row| Some(row.len()) == kind),
        "what has no kind ends before it: {verified}"
    );

    flip_a_bit(&segment, 65);
    let found = run(&["log", "dump", path, "--verify"], "");
    let shown = text(&found.stdout);
    assert_eq!(found.status.code(), Some(1), "{shown}");
    assert!(shown.contains("PROBLEM in the batch at position 0: corrupt batch: CRC"), "{shown}");
    let checked = run(&["check", "--data-dir", dir.path().to_str().unwrap()], "");
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stdout).contains("DAMAGED: orders partition 0"), "{}", text(&checked.stdout));
}

#[test]
fn a_dump_finds_the_files_of_a_topic_and_knows_where_they_end() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let dump = |more: &[&str]| run(&[&["log", "dump", "--data-dir", data_dir], more].concat(), "");
    let server = Server::start(dir.path(), &[]);
    let second = run(&["log", "dump", "--data-dir", data_dir, "--topic", "orders"], "");
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("stop the server first"), "{}", text(&second.stderr));
    server.tool(&["topic", "create", "orders", "--partitions", "3"], "");
    server.tool(&["topic", "create", "others"], "");
    server.tool(&["produce", "orders", "--partition", "2"], "one\ntwo\n");
    server.tool(&["produce", "orders", "--partition", "0"], "three\n");
    server.tool(&["produce", "others"], "four\n");
    assert_eq!(server.stop(), Some(0));

    let before = contents(dir.path());
    let shown = text(&dump(&["--topic", "orders", "--records", "--verify", "--output", "json"]).stdout);
    let rows = json(&shown);
    let batches: Vec<_> = rows.iter().filter_map(|row| row["batch"]["partition"].as_u64()).collect();
    assert_eq!(batches, [0, 2], "{shown}");
    let record = |row: &Value| (row["partition"].as_u64().unwrap(), row["value"].as_str().unwrap().to_owned());
    let records: Vec<_> = rows.iter().filter_map(|row| row.get("record")).map(record).collect();
    assert_eq!(records, [(0, "three".into()), (2, "one".into()), (2, "two".into())], "{shown}");
    let one = text(&dump(&["--topic", "orders", "--partition", "2", "--verify"]).stdout);
    assert!(one.starts_with("partition 2: ") && one.contains("\n1 batches, 2 records, "), "{one}");
    assert!(
        text(&dump(&["--topic", "orders", "--partition", "1"]).stdout).ends_with("0 batches, 0 records, 0 bytes\n")
    );
    for (more, why) in [
        (&["--topic", "nothing"][..], "there is no topic `nothing`"),
        (&["--topic", "orders", "--partition", "3"], "`orders` has no partition 3: its last one is 2"),
    ] {
        let refused = dump(more);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains(why), "{}", text(&refused.stderr));
    }
    assert!(contents(dir.path()) == before, "a dump changes nothing");

    // What stands behind the published bytes means nothing, and only the folder knows where they end.
    let name = one.lines().next().unwrap().trim_start_matches("partition 2: ").to_owned();
    let file = writable(Path::new(&name));
    let size = file.metadata().unwrap().len();
    file.write_all_at(b"left by a write that nobody was told of", size).unwrap();
    let known = dump(&["--topic", "orders", "--verify"]);
    assert!(known.status.success() && text(&known.stdout).ends_with(" 0 problems\n"), "{}", text(&known.stdout));
    assert_eq!(run(&["log", "dump", &name], "").status.code(), Some(1));
    // A lost end is another matter: the checkpoint says that it was there.
    file.set_len(size - 1).unwrap();
    let damaged = dump(&["--topic", "orders"]);
    assert_eq!(damaged.status.code(), Some(1));
    assert!(text(&damaged.stdout).contains("is cut off"), "{}", text(&damaged.stdout));
}

#[test]
fn a_dump_says_what_lies_in_the_wal_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().to_str().unwrap();
    let args = ["log", "dump", "--data-dir", data_dir, "--topic", "orders", "--verify"];
    let mut server = Server::start(dir.path(), &[]);
    server.tool(&["topic", "create", "orders"], "");
    server.tool(&["produce", "orders"], "one\n");
    assert_eq!(server.stop(), Some(0));
    server = Server::start(dir.path(), &[]);
    for line in ["two\n", "three\n"] {
        server.tool(&["produce", "orders"], line);
    }
    server.signal(Signal::KILL);
    assert_eq!(server.wait(), None);

    // The WAL alone is synced before an acknowledgement: a power cut may take any of the segment's later bytes.
    let segment = segment(dir.path());
    let whole = run_ok(&args, "");
    assert!(whole.contains("\n3 batches, 3 records, ") && whole.ends_with(" 0 problems\n"), "{whole}");
    let positions: Vec<u64> = whole.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    let [0, second, third] = positions[..3] else { panic!("{whole}") };
    let size = writable(&segment).metadata().unwrap().len();
    let lost = |found: u64| format!("{found} batches, {found} records, ");
    let check = |found: u64, from: u64| {
        let before = contents(dir.path());
        let shown = run_ok(&args, "");
        let note = format!("  NOTE the {} bytes from position {from} on lie in the write-ahead log", size - from);
        assert!(shown.contains(&note) && shown.contains(&lost(found)), "{note}\n{shown}");
        assert!(shown.ends_with(&format!(", {} more in the WAL, 0 problems\n", size - from)), "{shown}");
        assert!(contents(dir.path()) == before, "a dump changes nothing");
    };
    flip_a_bit(&segment, third + 65);
    check(2, third);
    writable(&segment).set_len(third + 3).unwrap();
    check(2, third);
    writable(&segment).set_len(third).unwrap();
    check(2, third);
    writable(&segment).write_all_at(&vec![0; usize::try_from(size - second).unwrap()], second).unwrap();
    check(1, second);
    let rows = json(&run_ok(&[&args[..], &["--output", "json"]].concat(), ""));
    assert_eq!(rows[1]["note"]["position"], second);
    // What the checkpoint covers is not in the WAL any more.
    flip_a_bit(&segment, 65);
    assert_eq!(run(&args, "").status.code(), Some(1));
    flip_a_bit(&segment, 65);

    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.tool(&["consume", "orders"], ""), "one\ntwo\nthree\n");
    assert_eq!(server.stop(), Some(0));
    let healed = run_ok(&args, "");
    assert!(healed.contains("\n3 batches, 3 records, ") && !healed.contains("WAL"), "{healed}");
}

#[test]
fn a_dump_of_a_segment_that_was_never_there_for_good_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    server.tool(&["topic", "create", "orders"], "");
    server.tool(&["produce", "orders"], "one\n");
    server.signal(Signal::KILL);
    assert_eq!(server.wait(), None);
    #[allow(clippy::disallowed_methods, reason = "what a power cut does to a file whose folder was not synced")]
    std::fs::remove_file(segment(dir.path())).unwrap();
    let shown = run_ok(&["log", "dump", "--data-dir", dir.path().to_str().unwrap(), "--topic", "orders"], "");
    assert!(shown.contains("bytes from position 0 on lie in the write-ahead log"), "{shown}");
    assert!(shown.contains("\n0 batches, 0 records, 0 bytes, "), "{shown}");
}
