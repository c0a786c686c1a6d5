//! Start, health, metrics, refusals, the ways to end.

use crate::common::{Server, command, http, now, run, run_ok, text};
use rustix::process::Signal;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

#[test]
fn health_is_told_by_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"), &[]);
    let port = server.admin.rsplit(':').next().unwrap();
    assert_eq!(run_ok(&["health", "--admin", &format!("127.0.0.1:{port}")], ""), "ready\n");
    assert_eq!(run_ok(&["health", "--live", "--admin", &format!("0.0.0.0:{port}")], ""), "live\n");
    // Something else listens there: the Kafka port closes a connection that speaks HTTP.
    let wrong = run(&["health", "--admin", &server.kafka], "");
    assert_eq!(wrong.status.code(), Some(1), "{}", text(&wrong.stderr));
    let address = server.admin.clone();
    assert_eq!(server.stop(), Some(0));
    let nobody = run(&["health", "--admin", &address], "");
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("cannot ask"), "{}", text(&nobody.stderr));
}

#[test]
fn it_serves_keeps_what_it_was_told_and_ends_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let server = Server::start(&data_dir, &[]);
    assert_eq!(server.get("/health/live", ""), (200, "live\n".to_owned()));
    assert_eq!(server.get("/health/ready", ""), (200, "ready\n".to_owned()));

    server.tool(&["topic", "create", "orders", "--partitions", "3"], "");
    let lines: String = (0..1000).map(|number| format!("key-{}={number}\n", number % 7)).collect();
    server.tool(&["produce", "orders", "--key-separator", "=", "--idempotent", "--compression", "zstd"], &lines);
    let consumed = server.tool(&["consume", "orders", "--format", "key-value", "--key-separator", "="], "");
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&consumed), sorted(&lines));

    let (status, metrics) = server.get("/metrics", "");
    assert_eq!(status, 200);
    for line in [
        "headwater_appended_records_total 1000\n",
        "headwater_topics 1\n",
        "headwater_partitions 3\n",
        "headwater_disk_reserve_bytes 268435456\n",
        "headwater_disk_free_bytes ",
        "headwater_request_memory_max_bytes{protocol=\"kafka\"} 536870912\n",
        "headwater_start_time_seconds ",
        "headwater_memory_bytes{kind=\"anonymous\"} ",
        "headwater_requests_total{protocol=\"kafka\",api=\"Produce\",",
        "headwater_request_seconds_bucket{le=\"",
        "headwater_wal_round_seconds_count ",
        "# EOF\n",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert_eq!(server.stop(), Some(0));

    let checked = run_ok(&["check", "--data-dir", data_dir.to_str().unwrap()], "");
    assert!(checked.contains("1 topics, 3 partitions") && checked.ends_with("all is well\n"), "{checked}");

    let server = Server::start(&data_dir, &[]);
    let again = server.tool(&["consume", "orders", "--format", "key-value", "--key-separator", "="], "");
    assert_eq!(sorted(&again), sorted(&lines));
    server.tool(&["topic", "delete", "orders"], "");
    assert_eq!(server.tool(&["topic", "list", "--output", "json"], "").trim(), "[]");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn web_pages_and_foreign_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--admin-hosts", "broker.example"]);
    let own = format!("Origin: http://{}\r\n", server.admin);
    assert_eq!(server.get("/health/live", &own).0, 200);
    assert_eq!(server.get("/health/live", "Origin: http://evil.example\r\n").0, 403);
    assert_eq!(server.get("/health/live", "Origin: null\r\n").0, 403);
    assert_eq!(server.get("/health/live", "Host: evil.example\r\n").0, 403);
    assert_eq!(server.get("/health/live", "Host: broker.example:9600\r\n").0, 200);
    assert_eq!(server.get("/nothing", "").0, 404);
    let post =
        format!("POST /metrics HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", server.admin);
    assert_eq!(http(&server.admin, &post).0, 405);
    let long = format!("X: {}\r\n", "x".repeat(100_000));
    assert_eq!(server.get("/health/live", &long).0, 431);
    assert_eq!(server.get("/health/live", "").0, 200, "the others are unharmed");
}

#[test]
fn what_stands_in_the_way_of_a_start_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], i32, &str); 5] = [
        (&["--kafka", &address], 3, "cannot listen on kafka ="),
        (&["--kafka", "0.0.0.0:0"], 2, "--insecure-no-auth"),
        (&["--kafka", "nonsense"], 2, "write HOST:PORT"),
        (&["--durability", "maybe"], 2, "must be fsync or os"),
        (&["--topic-default", "retention.ms=soon"], 2, "retention.ms"),
    ];
    for (more, code, message) in cases {
        let args = [&["serve", "--data-dir", dir.path().to_str().unwrap(), "--admin", "127.0.0.1:0"], more].concat();
        let output = run(&args, "");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {error}");
        assert!(error.contains(message) && output.stdout.is_empty(), "{more:?}: {error}");
    }
}

#[test]
fn one_data_folder_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let second = command(dir.path(), &[]).stdin(Stdio::null()).output().unwrap();
    let error = text(&second.stderr);
    assert_eq!(second.status.code(), Some(3), "{error}");
    assert!(error.contains("in use by another process"), "{error}");
    let checked = run(&["check", "--data-dir", dir.path().to_str().unwrap()], "");
    assert_eq!(checked.status.code(), Some(1));
    assert!(text(&checked.stderr).contains("stop the server first"), "{}", text(&checked.stderr));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_drain_lets_a_long_poll_go_and_ends_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--log-level", "warn"]);
    server.tool(&["topic", "create", "quiet"], "");
    let follow = ["consume", "quiet", "--follow", "--timeout", "1", "--bootstrap", &server.kafka];
    let mut consumer = crate::common::headwater().args(follow).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let asked = now();
    assert_eq!(server.stop(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "the drain waited for the fetch");
    assert_eq!(consumer.wait().unwrap().code(), Some(1), "the consumer gives up after its time");
}

#[test]
fn a_second_signal_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    // A client that asks and asks and reads nothing: its answers keep the drain busy.
    let mut greedy = TcpStream::connect(&server.kafka).unwrap();
    greedy.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let api_versions = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    while greedy.write_all(&api_versions.repeat(1000)).is_ok() {}
    server.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(server.get("/health/live", "").0, 200, "it drains");
    assert!(server.get("/health/ready", "").1.contains("shutting down"), "and says so");
    server.signal(Signal::INT);
    assert_eq!(server.wait(), Some(130));
}

#[test]
fn a_damaged_disk_stops_the_server_with_a_code_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    server.tool(&["topic", "create", "orders"], "");
    // With a file where the folder was, the first segment of a topic cannot be made, which is a failed write.
    let segments = dir.path().join("segments");
    std::fs::remove_dir_all(&segments).unwrap();
    std::fs::File::create_new(&segments).unwrap();
    let failed = run(&["produce", "orders", "--timeout", "2", "--bootstrap", &server.kafka], "lost\n");
    assert!(!failed.status.success(), "nothing may be acknowledged");
    assert_eq!(server.wait(), Some(4));
}

#[test]
fn an_empty_start_is_quick_and_small() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let (_, metrics) = server.get("/metrics", "");
    let line = metrics.lines().find_map(|line| line.strip_prefix("headwater_memory_bytes{kind=\"anonymous\"} "));
    let anonymous: u64 = line.and_then(|value| value.parse().ok()).unwrap();
    assert!(anonymous < 30 << 20, "{anonymous} bytes of anonymous memory");
    // The bound is 100 ms on an idle machine in release; this one only catches a start that waits for something.
    assert!(server.took < Duration::from_secs(5), "ready after {:?}", server.took);
    server.signal(Signal::INT);
    let mut server = server;
    assert_eq!(server.wait(), Some(0));
}
