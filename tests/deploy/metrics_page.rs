//! The `/metrics` page of a server that has seen some traffic: which metrics there are, with which labels and values.

use anyhow::{Context, Result, ensure};
use headwater_tests::batch::{self, Codec, Source};
use headwater_tests::calls::{self, Wanted};
use headwater_tests::client::Client;
use headwater_tests::server::{Server, Setup};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, OffsetCommitRequest};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Below the target folder, so that it lies on a disk and not in memory.
const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
const TOPIC: &str = "orders";
const COORDINATOR_NOT_YET: [i16; 3] = [14, 15, 16];
const UNKNOWN_TOPIC: i16 = 3;

/// The labels of one metric, each with its values.
pub type Labels = BTreeMap<String, BTreeSet<String>>;

/// A page, by the names that queries use.
pub struct Page(BTreeMap<String, Labels>);

impl Page {
    /// Reads a page in the text format.
    pub fn parse(text: &str) -> Result<Page> {
        let mut metrics: BTreeMap<String, Labels> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let end = line.find(['{', ' ']).with_context(|| format!("no metric: {line}"))?;
            let labels = metrics.entry(line[..end].to_owned()).or_default();
            let Some((inside, value)) = line[end..].strip_prefix('{').and_then(|rest| rest.split_once("} ")) else {
                ensure!(line[end..].trim().parse::<f64>().is_ok(), "no number: {line}");
                continue;
            };
            ensure!(value.trim().parse::<f64>().is_ok(), "no number: {line}");
            for pair in inside.split("\",") {
                let (label, value) = pair.split_once("=\"").with_context(|| format!("no labels: {line}"))?;
                labels.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
            }
        }
        Ok(Page(metrics))
    }

    /// A metric's labels, if it is there.
    pub fn labels(&self, metric: &str) -> Option<&Labels> {
        self.0.get(metric)
    }

    /// Every metric's name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// A server with records written and read, a group that lags, and an error answered.
pub fn busy_server() -> Result<(Setup, Server)> {
    let setup = Setup::new(Path::new(FOLDER))?.option("--topic-auto-create", "false");
    let server = setup.start()?;
    let mut client = Client::connect(server.kafka)?;
    let (error, id) = calls::create_topic(&mut client, TOPIC, 2, &[])?;
    ensure!(error == 0, "CreateTopics answers {error}");
    let values: Vec<Vec<u8>> = (0..100).map(|number| format!("order {number}").into_bytes()).collect();
    for partition in 0..2 {
        let batch = batch::encode(&values, Source::NONE, Codec::None);
        ensure!(calls::produce(&mut client, TOPIC, partition, batch)?.0 == 0, "the batch is refused");
    }
    let wanted = Wanted { topic: TOPIC, id, partition: 0, offset: 0, bytes_max: 1 << 20, wait_ms: 100 };
    ensure!(calls::fetch(&mut client, 12, wanted)?.records.is_some_and(|records| !records.is_empty()), "no records");
    ensure!(calls::offset(&mut client, "nothing", 0, -1)?.0 == UNKNOWN_TOPIC, "there is a topic of that name");
    commit(&mut client)?;
    Ok((setup, server))
}

/// A group's first commit, half way through a partition.
fn commit(client: &mut Client) -> Result<()> {
    let group = StrBytes::from_static_str("billing");
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![group.clone()]);
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(50);
    let topic = OffsetCommitRequestTopic::default().with_name(calls::name(TOPIC)).with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(GroupId(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    for _ in 0..500 {
        client.call(4, &find)?;
        let answer = client.call(8, &commit)?;
        let error = answer.topics.first().and_then(|topic| topic.partitions.first()).context("no answer")?.error_code;
        if error == 0 {
            return Ok(());
        }
        ensure!(COORDINATOR_NOT_YET.contains(&error), "OffsetCommit answers {error}");
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("the group's coordinator does not come")
}

/// The body of a page of the admin port.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{path} is answered with {head}");
    Ok(body.to_owned())
}

#[test]
fn names_labels_and_values_of_a_page_are_read() {
    let page =
        Page::parse("# HELP a x\na_total{b=\"c\",d=\"e,f\"} 1\na_total{b=\"g\",d=\"\"} 2.5\nh 3\n# EOF\n").unwrap();
    let labels = page.labels("a_total").unwrap();
    assert_eq!(labels["b"].iter().collect::<Vec<_>>(), ["c", "g"]);
    assert_eq!(labels["d"].iter().collect::<Vec<_>>(), ["", "e,f"]);
    assert!(page.labels("h").unwrap().is_empty() && page.labels("i").is_none());
    assert!(Page::parse("a{b=\"c\"} x").is_err());
}
