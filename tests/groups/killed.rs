//! A server that is killed while groups rebalance and commit. After each start: what was acknowledged is committed, nothing goes
//! back, and the groups find together again.

use crate::requests::{
    self, COMMIT, FETCH, ILLEGAL_GENERATION, LOADING, NOT_AVAILABLE, NOT_COORDINATOR, REBALANCING, UNKNOWN_MEMBER,
};
use anyhow::{Context, Result, bail, ensure};
use headwater_engine::env::sim::SimRng;
use headwater_tests::calls;
use headwater_tests::client::{Client, Failure};
use headwater_tests::server::Setup;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{JoinGroupResponse, LeaveGroupRequest};
use kafka_protocol::protocol::StrBytes;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const TOPIC: &str = "orders";
/// Sessions and rebalances: a member that had left, and came back with the last record of its group, is gone after it.
const TIMEOUT_MS: i32 = 2_000;
const GROUPS: usize = 4;
const MEMBERS: usize = 3;
/// Committers that are no members, each with a group of its own.
const LONERS: usize = 2;

/// What one committer knows of its partition.
#[derive(Default)]
struct Known {
    sent: AtomicI64,
    acknowledged: AtomicI64,
}

/// One committer: its group, and its partition of the topic.
struct Committer {
    group: String,
    partition: i32,
    is_member: bool,
    known: Known,
    /// Its member id and generation; it keeps them while the server is away, as clients do.
    membership: Mutex<(StrBytes, i32)>,
}

#[derive(Default)]
struct Totals {
    commits: AtomicU64,
    joins: AtomicU64,
}

pub fn run(rounds: u32) {
    let _alone = headwater_tests::alone();
    let draw = headwater_tests::draw("groups-killed");
    let setup = Setup::new(Path::new(crate::FOLDER)).expect("a folder");
    let setup = setup.option("--groups-initial-rebalance-delay-ms", "20").option("--groups-offsets-partitions", "5");
    let setup = setup.option("--groups-session-timeout-min-ms", "100");
    if let Err(error) = all_rounds(&setup, rounds, &draw) {
        panic!("{error:?}");
    }
}

fn all_rounds(setup: &Setup, rounds: u32, draw: &SimRng) -> Result<()> {
    let members = (0..GROUPS * MEMBERS).map(|number| (format!("group-{}", number / MEMBERS), number, true));
    let loners = (0..LONERS).map(|number| (format!("loner-{number}"), GROUPS * MEMBERS + number, false));
    let committers = members.chain(loners).map(|(group, partition, is_member)| {
        let partition = i32::try_from(partition).unwrap_or(0);
        let membership = Mutex::new((StrBytes::new(), -1));
        Arc::new(Committer { group, partition, is_member, known: Known::default(), membership })
    });
    let committers: Vec<Arc<Committer>> = committers.collect();
    let totals = Arc::new(Totals::default());
    for round in 0..=rounds {
        let server = setup.start().with_context(|| format!("round {round}"))?;
        let mut client = Client::connect(server.kafka)?;
        if round == 0 {
            let (error, _) = calls::create_topic(&mut client, TOPIC, i32::try_from(committers.len())?, &[])?;
            ensure!(error == 0, "the topic was not made: error {error}");
        }
        for committer in &committers {
            verify(&mut client, committer).with_context(|| format!("round {round}"))?;
        }
        if round == rounds {
            server.terminate()?;
            break;
        }
        let is_dying = Arc::new(AtomicBool::new(false));
        let stable = Arc::new(AtomicU64::new(0));
        let threads = committers.iter().map(|committer| {
            let (committer, is_dying, totals) = (committer.clone(), is_dying.clone(), totals.clone());
            let (address, rng, stable) = (server.kafka, SimRng::new(draw.next_u64()), stable.clone());
            thread::spawn(move || live(address, &committer, &is_dying, &totals, &stable, &rng))
        });
        let threads: Vec<_> = threads.collect();
        // Every group finds together before the server may be killed at any moment.
        let deadline = Instant::now() + Duration::from_secs(60);
        while stable.load(Ordering::Relaxed) < committers.len() as u64 {
            ensure!(Instant::now() < deadline, "round {round}: the groups do not find together");
            thread::sleep(Duration::from_millis(2));
        }
        thread::sleep(Duration::from_millis(draw.below(400)));
        is_dying.store(true, Ordering::SeqCst);
        server.kill()?;
        for thread in threads {
            thread.join().expect("a committer")?;
        }
    }
    setup.check_log()?;
    println!(
        "{rounds} rounds: {} commits acknowledged, {} joins",
        totals.commits.load(Ordering::Relaxed),
        totals.joins.load(Ordering::Relaxed)
    );
    Ok(())
}

/// What is committed lies between what was acknowledged and what was sent.
fn verify(client: &mut Client, committer: &Committer) -> Result<()> {
    let (least, most) =
        (committer.known.acknowledged.load(Ordering::Relaxed), committer.known.sent.load(Ordering::Relaxed));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let fetched = client.call(FETCH, &requests::fetch(&committer.group, TOPIC, committer.partition))?;
        let group = fetched.groups.first().context("no group")?;
        match group.error_code {
            0 => {
                let offset = group.topics[0].partitions[0].committed_offset.max(0);
                let Committer { group, partition, .. } = committer;
                ensure!(offset >= least, "{group}-{partition}: {least} was acknowledged, {offset} is committed");
                ensure!(offset <= most, "{group}-{partition}: {most} was the last sent, {offset} is committed");
                // From now on it may not go back behind this either.
                committer.known.acknowledged.store(offset, Ordering::Relaxed);
                return Ok(());
            }
            LOADING => ensure!(Instant::now() < deadline, "the groups are never loaded"),
            other => bail!("OffsetFetch: error {other}"),
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Commits until the server is gone. A connection that is lost, be it in the middle of an answer, is the only thing that a kill
/// excuses.
fn live(
    address: SocketAddr,
    committer: &Committer,
    is_dying: &AtomicBool,
    totals: &Totals,
    stable: &AtomicU64,
    rng: &SimRng,
) -> Result<()> {
    let Err(error) = commit_on(address, committer, totals, stable, rng) else { return Ok(()) };
    let is_lost = error.downcast_ref::<Failure>().is_some_and(Failure::is_lost);
    if is_lost && is_dying.load(Ordering::SeqCst) { Ok(()) } else { Err(error) }
}

fn commit_on(
    address: SocketAddr,
    committer: &Committer,
    totals: &Totals,
    stable: &AtomicU64,
    rng: &SimRng,
) -> Result<()> {
    let mut client = Client::connect(address)?;
    let mut membership = committer.membership.lock().unwrap_or_else(PoisonError::into_inner);
    let (id, generation) = &mut *membership;
    let mut has_committed = false;
    loop {
        if committer.is_member && *generation < 0 {
            let joined = enter(&mut client, committer, id)?;
            *generation = joined.generation_id;
            totals.joins.fetch_add(1, Ordering::Relaxed);
        }
        let known = &committer.known;
        let next = known.sent.load(Ordering::Relaxed).max(known.acknowledged.load(Ordering::Relaxed)) + 1;
        known.sent.store(next, Ordering::Relaxed);
        let commit = requests::commit(&committer.group, id, *generation, TOPIC, committer.partition, next);
        let answer = client.call(COMMIT, &commit)?;
        match answer.topics[0].partitions[0].error_code {
            0 => {
                known.acknowledged.store(next, Ordering::Relaxed);
                totals.commits.fetch_add(1, Ordering::Relaxed);
                if !has_committed {
                    has_committed = true;
                    stable.fetch_add(1, Ordering::Relaxed);
                }
            }
            UNKNOWN_MEMBER if committer.is_member => (*id, *generation) = (StrBytes::new(), -1),
            ILLEGAL_GENERATION | REBALANCING if committer.is_member => *generation = -1,
            LOADING | NOT_AVAILABLE | NOT_COORDINATOR => thread::sleep(Duration::from_millis(2)),
            other => bail!("OffsetCommit: error {other}"),
        }
        if !committer.is_member || !has_committed {
            continue;
        }
        // Heartbeats tell of rebalances; now and then there is a reason for one.
        match rng.below(20) {
            0 => *generation = -1,
            1 => {
                leave(&mut client, committer, id)?;
                (*id, *generation) = (StrBytes::new(), -1);
            }
            2..6 if *generation >= 0 => {
                let beat = requests::beat(&committer.group, id, *generation);
                match client.call(requests::BEAT, &beat)?.error_code {
                    0 | LOADING | NOT_AVAILABLE | NOT_COORDINATOR => {}
                    UNKNOWN_MEMBER => (*id, *generation) = (StrBytes::new(), -1),
                    ILLEGAL_GENERATION | REBALANCING => *generation = -1,
                    other => bail!("Heartbeat: error {other}"),
                }
            }
            _ => {}
        }
    }
}

/// Joins until there is an assignment.
fn enter(client: &mut Client, committer: &Committer, id: &mut StrBytes) -> Result<JoinGroupResponse> {
    loop {
        let joined = client.call(requests::JOIN, &requests::join(&committer.group, id, TOPIC, TIMEOUT_MS))?;
        match joined.error_code {
            0 => {}
            requests::ID_REQUIRED => {
                *id = joined.member_id;
                continue;
            }
            UNKNOWN_MEMBER => {
                *id = StrBytes::new();
                continue;
            }
            REBALANCING => continue,
            LOADING | NOT_AVAILABLE | NOT_COORDINATOR => {
                thread::sleep(Duration::from_millis(2));
                continue;
            }
            other => bail!("JoinGroup: error {other}"),
        }
        *id = joined.member_id.clone();
        let sync = requests::sync(&committer.group, &joined, TOPIC, GROUPS * MEMBERS);
        match client.call(requests::SYNC, &sync)?.error_code {
            0 => return Ok(joined),
            REBALANCING | ILLEGAL_GENERATION => {}
            UNKNOWN_MEMBER => *id = StrBytes::new(),
            LOADING | NOT_AVAILABLE | NOT_COORDINATOR => thread::sleep(Duration::from_millis(2)),
            other => bail!("SyncGroup: error {other}"),
        }
    }
}

fn leave(client: &mut Client, committer: &Committer, id: &StrBytes) -> Result<()> {
    let member = MemberIdentity::default().with_member_id(id.clone());
    let leave =
        LeaveGroupRequest::default().with_group_id(requests::group(&committer.group)).with_members(vec![member]);
    let answer = client.call(5, &leave)?;
    let of_member = answer.members.first().map_or(0, |member| member.error_code);
    match (answer.error_code, of_member) {
        // Its session may have ended before.
        (0, 0 | UNKNOWN_MEMBER) | (LOADING | NOT_AVAILABLE | NOT_COORDINATOR, _) => Ok(()),
        other => bail!("LeaveGroup: errors {other:?}"),
    }
}
