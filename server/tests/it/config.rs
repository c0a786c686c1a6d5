//! `headwater config` and the command line as a user meets them.

use crate::common::{headwater, run, run_ok, text};

#[test]
fn show_names_the_source_of_each_value() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("headwater.toml");
    std::fs::File::create_new(&file).unwrap();
    let toml = "admin = \"127.0.0.1:7001\"\n[topic.defaults]\nretention.ms = 1000\n";
    std::io::Write::write_all(&mut std::fs::OpenOptions::new().write(true).open(&file).unwrap(), toml.as_bytes())
        .unwrap();
    let file = file.to_str().unwrap();
    let mut command = headwater();
    command.args(["config", "show", "--config", file, "--kafka", "127.0.0.1:7002", "--output", "json"]);
    let output = command.env("HEADWATER_DURABILITY", "os").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let find = |option: &str| {
        let row = rows.iter().find(|row| row["option"] == option).unwrap_or_else(|| panic!("{option} is missing"));
        (row["value"].as_str().unwrap().to_owned(), row["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(find("kafka"), ("127.0.0.1:7002".into(), "--kafka".into()));
    assert_eq!(find("durability"), ("os".into(), "HEADWATER_DURABILITY".into()));
    assert_eq!(find("admin"), ("127.0.0.1:7001".into(), format!("{file}:1")));
    assert_eq!(find("topic.defaults.retention.ms"), ("1000".into(), format!("{file}:3")));
    assert_eq!(find("aws"), ("127.0.0.1:4566".into(), "default".into()));
}

#[test]
fn check_answers_scripts() {
    assert!(run_ok(&["config", "check"], "").ends_with("The configuration is valid.\n"));
    let wrong = run(&["config", "check", "--kafka", "0.0.0.0:9092", "--output", "json"], "");
    assert_eq!(wrong.status.code(), Some(2));
    let answer: serde_json::Value = serde_json::from_slice(&wrong.stdout).unwrap();
    assert_eq!(answer["valid"], false);
    assert!(answer["problems"].as_array().is_some_and(|problems| problems.len() == 2), "{answer}");
    let missing = run(&["config", "show", "--config", "/nowhere/headwater.toml"], "");
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("/nowhere/headwater.toml: cannot be read"), "{}", text(&missing.stderr));
}

#[test]
fn wrong_command_lines_are_refused_before_anything_happens() {
    for args in [
        &["produce"][..],
        &["produce", "orders", "--acks", "2"],
        &["produce", "orders", "--acks", "1", "--idempotent"],
        &["consume", "orders", "--from", "yesterday"],
        &["topic", "create", "orders", "--partitions", "0"],
        &["topic", "delete-records", "orders", "--partition", "0", "--before", "-5"],
        &["topic", "alter", "orders"],
        &["topic", "alter", "orders", "--set", "retention.ms=1", "--delete", "retention.ms"],
        &["replay"],
        &["replay", "orders:"],
        &["replay", "orders:3-1"],
        &["replay", "orders", "--raw", "--format", "json"],
        &["group", "reset", "billing", "--to-latest"],
        &["group", "reset", "billing", "--topic", "orders"],
        &["group", "reset", "billing", "--topic", "orders", "--all-topics", "--to-latest"],
        &["group", "reset", "billing", "--topic", "orders", "--to-latest", "--shift-by", "-1"],
        &["completion", "csh"],
        &["log", "dump"],
        &["log", "dump", "a.log", "--topic", "orders"],
        &["log", "dump", "a.log", "--partition", "0"],
        &["topic", "list", "--timeout", "0"],
        &["serve", "--no-such-option"],
    ] {
        let output = run(args, "");
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_broker_that_is_not_there_is_explained() {
    let output = run(&["topic", "list", "--bootstrap", "127.0.0.1:1", "--timeout", "1"], "");
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("cannot connect to 127.0.0.1:1") && error.contains("headwater serve"), "{error}");
    assert!(!error.contains('\u{1b}'), "no colour in a pipe");
}
