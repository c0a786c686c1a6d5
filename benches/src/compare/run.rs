//! Runs a comparison: starts what is to be started, warms it, and goes round.

use super::case::{Case, Size};
use super::client::Clients;
use super::report::{Comparison, Contender, Rounds};
use super::server::{Kind, Server, Site, kafka_version};
use crate::kafka::Error;
use crate::latency::short;
use crate::report::About;
use crate::sys;
use std::io;

/// What is compared, and how.
pub struct Plan {
    /// The servers; the first is what the others are compared to.
    pub servers: Vec<Kind>,
    /// The cases.
    pub cases: Vec<Case>,
    /// How many rounds.
    pub rounds: usize,
    /// How large the loads are.
    pub size: Size,
    /// Value bytes before the first round, over all cases.
    pub warm_bytes: u64,
    /// The generator's CPU; `None`: any, for the servers too.
    pub generator_cpu: Option<usize>,
    /// Where the servers are.
    pub site: Site,
}

/// Runs it. The folder of the site must be there and empty.
pub fn run(plan: Plan) -> Result<Comparison, Error> {
    let Plan { servers: kinds, cases, rounds, size, warm_bytes, generator_cpu, site } = plan;
    let produced: u64 = cases.iter().map(|case| case.leaves(&size, rounds)).sum();
    let stored = kinds.iter().filter(|kind| **kind != Kind::Sink).count() as u64;
    let needed = stored.saturating_mul(warm_bytes.saturating_add(produced));
    let disk = rustix::fs::statvfs(&site.dir).map_err(io::Error::from)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if !size.deletes && needed > free / 10 * 8 {
        let (needed, free) = (needed / 1_000_000_000, free / 1_000_000_000);
        return Err(Error::Answer(format!("the comparison leaves some {needed} GB, and {free} GB are free: --delete")));
    }
    let kafka = if kinds.iter().any(Kind::is_kafka) { kafka_version(&site.dir)? } else { String::new() };
    let about = About::here(&site.dir);
    if let Some(cpu) = generator_cpu {
        sys::pin_to_cpu(cpu)?;
    }
    let wanted: Vec<_> = cases.iter().filter_map(Case::client).collect();
    let clients = Clients::prepare(&wanted, &site.dir)?;
    let (mut servers, mut contenders) = (Vec::new(), Vec::new());
    for kind in &kinds {
        let server = Server::start(kind, &site)?;
        let start_s = server.start_s;
        eprintln!("{} serves{}", server.name, start_s.map_or_else(String::new, |s| format!(" after {s:.2} s")));
        contenders.push(Contender { name: server.name.clone(), about: promise(kind, &kafka, &site), start_s });
        servers.push(server);
    }
    let of_case = warm_bytes / cases.len().max(1) as u64;
    let runs = |case: &Case, server: &Server| server.stores || !case.needs_a_store();
    for server in &servers {
        cases
            .iter()
            .filter(|case| runs(case, server))
            .try_for_each(|case| case.warm(server, of_case, &size, &clients))?;
        rustix::fs::sync();
        eprintln!("{} is warm", server.name);
    }
    let mut measured: Vec<Rounds> = cases.into_iter().map(|case| Rounds::new(case, servers.len())).collect();
    for round in 0..rounds {
        for rounds in &mut measured {
            let mut order: Vec<usize> = (0..servers.len()).filter(|&at| runs(&rounds.case, &servers[at])).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for at in order {
                let (figures, phase) = rounds.case.round(&servers[at], round, &size, &clients)?;
                let told: Vec<String> =
                    figures.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
                eprintln!("round {} {} {}: {}", round + 1, rounds.case.name, servers[at].name, told.join(", "));
                rounds.rounds[at].push(figures);
                rounds.last[at] = Some(phase);
            }
        }
    }
    drop(servers);
    measured.iter_mut().for_each(Rounds::sum_up);
    let pinning = match (site.server_cpu, generator_cpu) {
        (Some(server), Some(generator)) => format!("servers on CPU {server}, generator on CPU {generator}"),
        _ => "servers and generator on any CPU".into(),
    };
    Ok(Comparison { about, pinning, size, warm_bytes, contenders, cases: measured })
}

/// What a server is and promises.
fn promise(kind: &Kind, kafka: &str, site: &Site) -> String {
    let settings = |settings: &[(String, String)]| {
        settings.iter().map(|(name, value)| format!(", {name}={value}")).collect::<String>()
    };
    let kafka_settings = || settings(&site.kafka_config) + &settings(&site.kafka_topic_config);
    match kind {
        Kind::Kafka => {
            format!("Apache Kafka {kafka}, default settings, acknowledges from the page cache{}", kafka_settings())
        }
        Kind::KafkaFlush => {
            format!("Apache Kafka {kafka}, syncs each batch (flush.messages=1){}", kafka_settings())
        }
        Kind::Headwater => "acknowledges from the medium (durability fsync)".into(),
        Kind::HeadwaterOs => "acknowledges what the system has, not synced (durability os)".into(),
        Kind::Sink => "reads and answers, stores nothing".into(),
        Kind::Running { address, .. } => format!("a server that ran before, at {address}"),
    }
}
