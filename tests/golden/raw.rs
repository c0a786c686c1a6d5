//! Frames that no client means to send, and what becomes of them: cut short, too long, with lengths that cannot be, with
//! versions and keys that nobody knows. Made from the layouts for every operation of the reference at every version, so that
//! an operation that becomes served here is compared at once.
//!
//! A question behind each frame tells whether the connection still lives: what is seen is a list of answers that ends with
//! `lives` or `closed`. `raw.json` holds what was seen of the reference, by kind of frame and operation.

use crate::codec;
use crate::mask::Masks;
use crate::play;
use crate::player::Apis;
use crate::scenario::{self, Answer};
use crate::schema::{Api, Field, Kind, Versions};
use crate::wire::Wire;
use anyhow::{Context, Result, bail, ensure};
use headwater_protocol_kafka::TABLE;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// What was seen, by kind and by the name of the operation or of the frame.
pub type Seen = BTreeMap<String, BTreeMap<String, Vec<Answer>>>;

/// One frame, or what pretends to be one.
struct Frame {
    kind: String,
    /// The operation, if it is one's.
    api: Option<String>,
    /// The operation, or a name for a frame that is none of an operation's.
    name: String,
    version: i16,
    bytes: Vec<u8>,
    /// Whether nothing may follow it: the frame promises more bytes than it has.
    is_last: bool,
}

/// Operations without frames, as long as none of them is served: the reference leaves some of these unanswered.
pub const LATER: &[&str] = &[
    "AddOffsetsToTxn",
    "AddPartitionsToTxn",
    "AlterShareGroupOffsets",
    "ConsumerGroupDescribe",
    "ConsumerGroupHeartbeat",
    "DeleteShareGroupOffsets",
    "DeleteShareGroupState",
    "DescribeShareGroupOffsets",
    "EndTxn",
    "GetTelemetrySubscriptions",
    "InitializeShareGroupState",
    "PushTelemetry",
    "ReadShareGroupState",
    "ReadShareGroupStateSummary",
    "ShareAcknowledge",
    "ShareFetch",
    "ShareGroupDescribe",
    "ShareGroupHeartbeat",
    "StreamsGroupDescribe",
    "StreamsGroupHeartbeat",
    "StreamsGroupTopologyDescriptionUpdate",
    "TxnOffsetCommit",
    "UnregisterController",
    "WriteShareGroupState",
    "WriteTxnMarkers",
];

const CORRELATION: i32 = 7;
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);

/// Sends every frame; what is seen.
pub fn watch(apis: &Apis, address: SocketAddr) -> Result<Seen> {
    let node = Wire::new(address).exchange(&apis["Metadata"], 9, &json!({ "Topics": [] }))?;
    let mut masks = Masks::new(node["Brokers"][0]["NodeId"].as_i64().context("no broker in Metadata")?);
    // Some errors name it.
    let cluster = node["ClusterId"].as_str().context("no cluster in Metadata")?;
    let mut seen: BTreeMap<(String, String), BTreeMap<i16, Value>> = BTreeMap::new();
    let mut is_coordinated = false;
    for frame in frames(apis)? {
        if !is_coordinated && frame.api.as_ref().is_some_and(|api| play::GROUPS.contains(&api.as_str())) {
            play::await_coordinator(apis, &mut Wire::new(address))?;
            is_coordinated = true;
        }
        let what = || format!("{}: {} {}", frame.kind, frame.name, frame.version);
        let answers = send(apis, address, &frame, &mut masks).with_context(what)?;
        let answers = serde_json::from_str(&answers.to_string().replace(cluster, "<cluster>"))?;
        seen.entry((frame.kind, frame.name)).or_default().insert(frame.version, answers);
    }
    let mut grouped = Seen::new();
    for ((kind, name), answers) in seen {
        let answers = match apis.get(&name) {
            Some(api) => scenario::group(api, &answers),
            None => answers.into_iter().map(|(v, answer)| Answer { versions: v.to_string(), answer }).collect(),
        };
        grouped.entry(kind).or_default().insert(name, answers);
    }
    Ok(grouped)
}

/// What of the frames differs and is not meant to.
pub fn differences(apis: &Apis, ours: &Seen, reference: &Seen) -> Result<Vec<String>> {
    let known = known()?;
    ensure!(known.iter().all(|known| !known.reason.is_empty()), "a difference without a reason");
    let mut found = Vec::new();
    for frame in frames(apis)? {
        let row = frame.api.as_ref().map(|api| TABLE.iter().find(|row| row.name == api));
        // What we do not serve is nothing to compare.
        let is_served = match row {
            None => true,
            Some(None) => false,
            Some(Some(row)) => frame.name != row.name || frame.version <= row.max,
        };
        if !is_served {
            continue;
        }
        let place = format!("{}: {} {}", frame.kind, frame.name, frame.version);
        let at = |seen: &Seen| -> Result<Value> {
            let answers = seen.get(&frame.kind).and_then(|names| names.get(&frame.name));
            let answers = answers.with_context(|| format!("{place} is not in raw.json: record it"))?;
            let Some(api) = apis.get(&frame.name) else { return Ok(answers[0].answer.clone()) };
            scenario::answer_at(api, answers, frame.version)
        };
        let (answer, expected) = (at(ours)?, at(reference)?);
        if answer != expected && !known.iter().any(|known| frame.kind.starts_with(&known.frames)) {
            found.push(format!("{place}: {answer}, expected {expected}"));
        }
    }
    Ok(found)
}

/// Where Headwater means to differ: a kind of frames, by how its name begins, and the reason.
#[derive(Deserialize)]
struct Known {
    frames: String,
    reason: String,
}

fn known() -> Result<Vec<Known>> {
    serde_json::from_str(include_str!("known_frames.json")).context("known_frames.json")
}

/// Reads what `save` wrote.
#[allow(clippy::disallowed_methods, reason = "a test's own files")]
pub fn load(path: &Path) -> Result<Seen> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
}

pub fn save(path: &Path, seen: &Seen) -> Result<()> {
    play::save(path, &scenario::pretty(&serde_json::to_value(seen)?)?)
}

fn send(apis: &Apis, address: SocketAddr, frame: &Frame, masks: &mut Masks) -> Result<Value> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
    let mut bytes = frame.bytes.clone();
    if !frame.is_last {
        bytes.extend(question());
    }
    // A server that has seen enough may close before it has everything.
    let _closed_already = stream.write_all(&bytes);
    if frame.is_last {
        let _closed_already = stream.shutdown(Shutdown::Write);
    }
    let mut seen = Vec::new();
    loop {
        let Some(answer) = receive(&mut stream)? else {
            seen.push(json!("closed"));
            break;
        };
        let (correlation, body) = answer.split_first_chunk::<4>().context("an answer without a header")?;
        match i32::from_be_bytes(*correlation) {
            CORRELATION => seen.push(read_answer(apis, frame, body, masks)),
            QUESTION => {
                seen.push(json!("lives"));
                break;
            }
            other => bail!("an answer to request {other}"),
        }
    }
    Ok(Value::Array(seen))
}

fn read_answer(apis: &Apis, frame: &Frame, body: &[u8], masks: &mut Masks) -> Value {
    let Some(api) = apis.get(&frame.name).filter(|api| api.response.versions.contains(frame.version)) else {
        return json!(codec::to_hex(body));
    };
    let tagged = api.response.flexible.contains(frame.version) && api.key != 18;
    let body = body.get(usize::from(tagged)..).unwrap_or_default();
    match codec::decode(&api.response, frame.version, body) {
        Ok(answer) => {
            let mut answer = masks.cover(&api.response.fields, frame.version, &answer);
            if let Some(keys) = answer.get_mut("ApiKeys") {
                *keys = json!("<what is served>");
            }
            answer
        }
        Err(error) => json!(format!("unreadable: {error:#}")),
    }
}

fn receive(stream: &mut TcpStream) -> Result<Option<Vec<u8>>> {
    let closed = |error: &std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset)
    };
    let mut size = [0; 4];
    match stream.read_exact(&mut size) {
        Err(error) if closed(&error) => return Ok(None),
        other => other.context("neither an answer nor the end of the connection")?,
    }
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size))?];
    stream.read_exact(&mut answer)?;
    Ok(Some(answer))
}

const QUESTION: i32 = 8;

/// A request that every server answers: ApiVersions at version 0.
fn question() -> Vec<u8> {
    frame_of(18, 0, QUESTION, &[0, 1, b'q'], &[])
}

/// A frame with the client id's bytes as they are given.
fn frame_of(key: i16, version: i16, correlation: i32, client: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(correlation.to_be_bytes());
    frame.extend(client);
    frame.extend(body);
    sized(frame)
}

/// The frame with the size that it has.
fn sized(mut frame: Vec<u8>) -> Vec<u8> {
    let size = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame
}

fn frames(apis: &Apis) -> Result<Vec<Frame>> {
    let mut frames = Vec::new();
    // By key, because the reference makes topics of its own for groups, and Metadata tells of them.
    let mut by_key: Vec<_> = apis.iter().filter(|(name, _)| !LATER.contains(&name.as_str())).collect();
    by_key.sort_by_key(|(_, api)| api.key);
    for (name, api) in by_key {
        of_operation(name, api, &mut frames).with_context(|| name.clone())?;
    }
    of_none(&mut frames);
    Ok(frames)
}

/// A request that says as little as it can, and changes nothing.
fn least(name: &str) -> Value {
    match name {
        // Without acks there is no answer.
        "Produce" => json!({ "Acks": 1 }),
        // Without a topic it may be about all of them.
        "Metadata" | "DescribeTopicPartitions" => json!({ "Topics": [{ "Name": "/" }] }),
        _ => json!({}),
    }
}

fn of_operation(name: &str, api: &Api, frames: &mut Vec<Frame>) -> Result<()> {
    let client: &[u8] = &[0, 3, b'r', b'a', b'w'];
    let mut add = |kind: &str, version: i16, bytes: Vec<u8>| {
        let (kind, name, api) = (kind.to_owned(), name.to_owned(), Some(name.to_owned()));
        frames.push(Frame { kind, api, name, version, bytes, is_last: false });
    };
    let Versions { first, last } = api.request.versions;
    for version in first..=last {
        let flexible = api.request.flexible.contains(version);
        let frame = |body: &[u8]| {
            let tags: &[u8] = if flexible { &[0] } else { &[] };
            frame_of(api.key, version, CORRELATION, client, &[tags, body].concat())
        };
        let request = least(name);
        let body = codec::encode(&api.request, version, &request)?;
        add("as it should be", version, frame(&body));
        if let Some((_, rest)) = body.split_last() {
            add("a byte short", version, frame(rest));
            add("without its body", version, frame(&[]));
        }
        add("a byte too long", version, frame(&[&body[..], &[0]].concat()));
        if flexible {
            ensure!(body.last() == Some(&0), "the least request has tagged fields");
            let before = &body[..body.len() - 1];
            let tagged = |tags: &[u8]| frame(&[before, tags].concat());
            add("an unknown tagged field", version, tagged(&[1, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7]));
            add("a great tag number", version, tagged(&[1, 0xff, 0x01, 2, 0xaa, 0xbb]));
            add("a tagged field twice", version, tagged(&[2, 9, 4, 0, 0, 0, 0, 9, 8, 0, 0, 0, 0, 0, 0, 0, 0]));
            add("tagged fields out of order", version, tagged(&[2, 9, 4, 0, 0, 0, 0, 8, 8, 0, 0, 0, 0, 0, 0, 0, 0]));
            add("a tagged field beyond the end", version, tagged(&[1, 5, 9, 0xaa, 0, 0, 0, 0]));
            let header = [&[1, 5, 1, 0xcc], &body[..]].concat();
            add(
                "an unknown tagged field in the header",
                version,
                frame_of(api.key, version, CORRELATION, client, &header),
            );
        }
        let is_plain = |f: &&Field| f.versions.contains(version) && f.tag.is_none();
        for field in api.request.fields.iter().filter(is_plain) {
            // A transactional id would make the reference create the topic of their state, and answer differently meanwhile.
            if name == "InitProducerId" && field.name == "TransactionalId" {
                continue;
            }
            for (kind, length) in lengths(field, version, flexible) {
                let mut request = request.clone();
                request[&field.name] = json!({ "$raw": codec::to_hex(&length) });
                let body = codec::encode(&api.request, version, &request)?;
                add(&format!("{kind} in {}", field.name), version, frame(&body));
            }
        }
    }
    for version in BTreeSet::from([-1, first - 1, last + 1, i16::MAX]) {
        let body = if api.request.flexible.contains(version) { &[0, 0, 0][..] } else { &[0, 0] };
        let bytes = frame_of(api.key, version, CORRELATION, client, body);
        let (kind, api, name) = ("an unknown version".to_owned(), Some(name.to_owned()), format!("{name} {version}"));
        frames.push(Frame { kind, api, name, version: 0, bytes, is_last: false });
    }
    Ok(())
}

/// Lengths that a field cannot have, as bytes.
fn lengths(field: &Field, version: i16, flexible: bool) -> Vec<(&'static str, Vec<u8>)> {
    let is_text = field.kind == Kind::String;
    if !is_text && !matches!(field.kind, Kind::Bytes | Kind::Array(_)) {
        return Vec::new();
    }
    let plain =
        |length: i32| if is_text { (length as i16).to_be_bytes().to_vec() } else { length.to_be_bytes().to_vec() };
    let most = if is_text { i32::from(i16::MAX) } else { i32::MAX };
    let mut lengths = vec![
        ("a length beyond the end", if flexible { vec![0xff, 0xff, 0xff, 0xff, 0x07] } else { plain(most) }),
        ("a negative length", if flexible { vec![0xff, 0xff, 0xff, 0xff, 0x0f] } else { plain(-2) }),
    ];
    if !field.nullable.contains(version) {
        lengths.push(("null", if flexible { vec![0] } else { plain(-1) }));
    }
    if flexible {
        lengths.push(("a length without an end", vec![0xff; 6]));
    }
    if is_text {
        let size: &[u8] = if flexible { &[3] } else { &[0, 2] };
        lengths.push(("a text that is none", [size, &[0xc3, 0x28]].concat()));
    }
    lengths
}

/// Frames that belong to no operation.
fn of_none(frames: &mut Vec<Frame>) {
    let mut add = |name: &str, bytes: Vec<u8>, is_last: bool| {
        frames.push(Frame { kind: "frames".to_owned(), api: None, name: name.to_owned(), version: 0, bytes, is_last });
    };
    let good = frame_of(2, 1, CORRELATION, &[0, 1, b'r'], &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let with_size = |size: i32| [&size.to_be_bytes()[..], &good[4..]].concat();
    add("a frame as it should be", good.clone(), false);
    add("size 0", vec![0, 0, 0, 0], false);
    add("size -1", with_size(-1), false);
    add("the least size", with_size(i32::MIN), false);
    add("the greatest size", with_size(i32::MAX), false);
    add("a byte more than 100 MiB", with_size((100 << 20) + 1), false);
    add("no bytes", Vec::new(), true);
    add("half a size", vec![0, 0], true);
    add("a size alone", vec![0, 0, 0, 20], true);
    add("half a frame", good[..good.len() / 2].to_vec(), true);
    for (name, size) in [("a key alone", 2), ("without a correlation id", 4), ("half a correlation id", 6)] {
        add(name, sized(good[..4 + size].to_vec()), false);
    }
    for (name, client) in [
        ("no client id", &[0xff, 0xff][..]),
        ("an empty client id", &[0, 0]),
        ("a negative client id", &[0xff, 0xfe]),
        ("a client id beyond the end", &[0x7f, 0xff, b'r']),
        ("a client id that is no text", &[0, 2, 0xc3, 0x28]),
        ("half a client id", &[0]),
    ] {
        add(name, frame_of(2, 1, CORRELATION, client, &good[15..]), false);
    }
    for key in [-1, 4, 5, 6, 7, 52, 62, 999, i16::MAX] {
        add(&format!("key {key}"), frame_of(key, 0, CORRELATION, &[0, 1, b'r'], &[0, 0, 0, 0]), false);
    }
    let versions = |version, client: &[u8], body: &[u8]| frame_of(18, version, CORRELATION, client, body);
    add("ApiVersions 99, tags in the header", versions(99, &[0, 1, b'r', 0], &[2, b'n', 2, b'v', 0]), false);
    add("ApiVersions 99, no tags in the header", versions(99, &[0, 1, b'r'], &[]), false);
    add("ApiVersions -1", versions(-1, &[0, 1, b'r'], &[]), false);
}
