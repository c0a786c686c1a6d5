//! How long rebalances take, and how many offsets are committed in a second.

use crate::member::Member;
use crate::requests::{self, COMMIT};
use crate::wire::Wire;
use anyhow::{Context, Result, bail, ensure};
use headwater_benches::kafka::process::Usage;
use headwater_tests::calls;
use headwater_tests::client::Client;
use headwater_tests::server::{Server, Setup};
use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::StrBytes;
use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use uuid::Uuid;

/// How much of it.
pub struct Size {
    pub groups: usize,
    pub members: usize,
    /// Members of the one large group.
    pub large: usize,
    /// Partitions that it reads.
    pub partitions: usize,
}

/// A broker to measure: our own, or the one that the environment names.
struct Broker {
    address: SocketAddr,
    own: Option<(Server, Setup)>,
}

impl Broker {
    fn find() -> Result<Broker> {
        if let Ok(named) = std::env::var("HEADWATER_GROUPS_BOOTSTRAP") {
            let address = named.to_socket_addrs()?.next().context("no address")?;
            return Ok(Broker { address, own: None });
        }
        let setup = Setup::new(Path::new(crate::FOLDER))?
            .option("--groups-initial-rebalance-delay-ms", "0")
            .option("--limits-connections-max", "15000");
        let server = setup.start()?;
        Ok(Broker { address: server.kafka, own: Some((server, setup)) })
    }

    /// CPU seconds that our own server has used.
    fn cpu_seconds(&self) -> Option<f64> {
        let (server, _) = self.own.as_ref()?;
        Usage::of(server.pid()).ok().map(|usage| usage.user_s + usage.system_s)
    }

    /// Makes a topic of a new name, and sees to it that groups are served.
    fn prepare(&self, partitions: usize) -> Result<(String, Uuid)> {
        let mut client = Client::connect(self.address)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let topic = format!("scale-{now}");
        let (error, id) = calls::create_topic(&mut client, &topic, i32::try_from(partitions)?, &[])?;
        ensure!(error == 0, "the topic was not made: error {error}");
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![requests::text(&topic)]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while client.call(4, &find)?.coordinators.first().is_none_or(|found| found.error_code != 0) {
            ensure!(Instant::now() < deadline, "no coordinator");
            std::thread::sleep(Duration::from_millis(50));
        }
        // The first commit waits for whatever the coordinator still has to do.
        loop {
            let commit = requests::commit(&topic, &StrBytes::new(), -1, &topic, 0, 1);
            match client.call(COMMIT, &commit)?.topics.first().and_then(|topic| topic.partitions.first()) {
                Some(partition) if partition.error_code == 0 => return Ok((topic, id)),
                Some(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                other => bail!("no commit: {other:?}"),
            }
        }
    }

    /// Deletes the topic: another broker than our own goes on, and its partitions would keep their files open.
    fn clean_up(&self, topic: Uuid) -> Result<()> {
        let error = calls::delete_topic(&mut Client::connect(self.address)?, topic)?;
        ensure!(error == 0, "the topic was not deleted: error {error}");
        Ok(())
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Groups come to be, and rebalance.
pub fn rebalances(size: &Size) {
    let _alone = headwater_tests::alone();
    let broker = Broker::find().expect("a broker");
    let (topic, id) = broker.prepare(size.partitions).expect("a topic");
    let runtime = runtime();
    let run = async {
        let many = (0..size.groups).map(|number| format!("{topic}-{number}")).collect();
        measure(broker.address, "many groups", many, size.members, &topic, size.members).await?;
        let one = vec![format!("{topic}-large")];
        measure(broker.address, "a large group", one, size.large, &topic, size.partitions).await
    };
    if let Err(error) = runtime.block_on(run).and_then(|()| broker.clean_up(id)) {
        panic!("{error:?}");
    }
}

async fn measure(
    address: SocketAddr,
    what: &str,
    groups: Vec<String>,
    members: usize,
    topic: &str,
    partitions: usize,
) -> Result<()> {
    let count = groups.len();
    let mut connecting = JoinSet::new();
    for group in groups.into_iter().flat_map(|group| std::iter::repeat_n(group, members)) {
        connecting.spawn(Member::connect(address, group, topic.to_owned(), partitions));
    }
    let mut all = Vec::new();
    while let Some(member) = connecting.join_next().await {
        all.push(member??);
    }
    for round in 0..4 {
        let begun = Instant::now();
        all = gather(all, members).await?;
        let what_happened = if round == 0 { "came to be" } else { "rebalanced" };
        println!("{what}: {count} of {members} members {what_happened} in {:.2?}", begun.elapsed());
    }
    Ok(())
}

/// How far a group has come: its latest generation, and how many members are in it.
struct Gathering {
    /// The generation before.
    before: i32,
    state: Mutex<(i32, usize)>,
    is_complete: AtomicBool,
}

/// All members enter, until each group has all of its members in one new generation. Leaders are the first, and so ask for a
/// rebalance.
async fn gather(mut all: Vec<Member>, members: usize) -> Result<Vec<Member>> {
    let mut before: HashMap<String, i32> = HashMap::new();
    for member in &all {
        let generation = before.entry(member.group.clone()).or_insert(member.generation);
        *generation = member.generation.max(*generation);
    }
    let gatherings: HashMap<String, Arc<Gathering>> = before
        .into_iter()
        .map(|(group, before)| {
            let is_complete = AtomicBool::new(false);
            (group, Arc::new(Gathering { before, state: Mutex::new((before, 0)), is_complete }))
        })
        .collect();
    all.sort_by_key(|member| !member.leads);
    let mut entering = JoinSet::new();
    for member in all {
        let gathering = gatherings[&member.group].clone();
        entering.spawn(enter(member, gathering, members));
    }
    let mut inside = Vec::new();
    while let Some(member) = entering.join_next().await {
        inside.push(member??);
    }
    let leaders = inside.iter().filter(|member| member.leads).count();
    ensure!(leaders == gatherings.len(), "{leaders} leaders of {} groups", gatherings.len());
    Ok(inside)
}

async fn enter(mut member: Member, gathering: Arc<Gathering>, members: usize) -> Result<Member> {
    /// Time between two heartbeats.
    const BEAT: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        member.enter().await?;
        if member.generation > gathering.before {
            let mut state = gathering.state.lock().unwrap_or_else(PoisonError::into_inner);
            if member.generation > state.0 {
                *state = (member.generation, 0);
            }
            if member.generation == state.0 {
                state.1 += 1;
            }
            gathering.is_complete.store(state.1 == members, Ordering::Relaxed);
        }
        loop {
            if gathering.is_complete.load(Ordering::Relaxed) {
                return Ok(member);
            }
            ensure!(Instant::now() < deadline, "a group does not find together");
            tokio::time::sleep(BEAT).await;
            if member.must_rejoin().await? {
                break;
            }
        }
    }
}

/// Commits over so many connections, each for a group of its own.
pub fn commits(connections: usize, seconds: u64) {
    let _alone = headwater_tests::alone();
    let broker = Broker::find().expect("a broker");
    let (topic, id) = broker.prepare(connections).expect("a topic");
    let runtime = runtime();
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let run = async {
        let mut committers = JoinSet::new();
        for number in 0..connections {
            committers.spawn(committer(broker.address, topic.clone(), number, until));
        }
        let mut times = Vec::new();
        while let Some(done) = committers.join_next().await {
            times.extend(done??);
        }
        Ok::<_, anyhow::Error>(times)
    };
    let used = broker.cpu_seconds();
    let mut times = runtime.block_on(run).expect("commits");
    let elapsed = begun.elapsed();
    broker.clean_up(id).expect("the topic goes");
    if let (Some(before), Some(after)) = (used, broker.cpu_seconds()) {
        println!("server: {:.1} us of CPU time for a commit", (after - before) * 1e6 / times.len() as f64);
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or_default();
    println!(
        "{} commits over {connections} connections in {elapsed:.2?}: {:.0} in a second; p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}",
        times.len(),
        times.len() as f64 / elapsed.as_secs_f64(),
        at(500),
        at(990),
        at(999),
    );
    assert!(!times.is_empty(), "nothing was committed");
}

async fn committer(address: SocketAddr, topic: String, number: usize, until: Instant) -> Result<Vec<Duration>> {
    let mut wire = Wire::connect(address).await?;
    let group = format!("{topic}-{number}");
    let partition = i32::try_from(number)?;
    let mut times = Vec::new();
    while Instant::now() < until {
        let offset = i64::try_from(times.len())?;
        let begun = Instant::now();
        let answer =
            wire.call(COMMIT, &requests::commit(&group, &StrBytes::new(), -1, &topic, partition, offset)).await?;
        let error = answer.topics[0].partitions[0].error_code;
        ensure!(error == 0, "a commit: error {error}");
        times.push(begun.elapsed());
    }
    let fetched = wire.call(requests::FETCH, &requests::fetch(&group, &topic, partition)).await?;
    let last = fetched.groups[0].topics[0].partitions[0].committed_offset;
    ensure!(last + 1 == times.len() as i64, "the last commit is not what is committed");
    Ok(times)
}
