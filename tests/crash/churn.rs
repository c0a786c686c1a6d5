//! Topics made, enlarged and deleted, and records deleted, while others produce. One thread does all of it, so that at most one
//! operation is unanswered when the server is killed.

use crate::model::Model;
use anyhow::{Context, Result, ensure};
use headwater_engine::env::sim::SimRng;
use headwater_tests::calls;
use headwater_tests::client::{Client, Failure};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Few names, so that each is used again and again.
const NAMES: u64 = 12;
const TOPICS_MAX: usize = 9;

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub created: u64,
    pub deleted: u64,
    pub enlarged: u64,
    pub trimmed: u64,
}

/// Goes on until the server goes away or `stop` is set.
pub fn run(address: SocketAddr, model: &Mutex<Model>, stop: &AtomicBool, draw: &SimRng, done: &mut Done) -> Result<()> {
    match churn(address, model, stop, draw, done) {
        Err(error) if error.downcast_ref::<Failure>().is_some_and(Failure::is_lost) => Ok(()),
        outcome => outcome.context("churn"),
    }
}

fn churn(address: SocketAddr, model: &Mutex<Model>, stop: &AtomicBool, draw: &SimRng, done: &mut Done) -> Result<()> {
    let mut client = Client::connect(address)?;
    while !stop.load(Ordering::Relaxed) {
        match draw.below(10) {
            0..3 => create(&mut client, model, draw, done)?,
            3..5 => delete(&mut client, model, draw, done)?,
            5 => enlarge(&mut client, model, draw, done)?,
            _ => trim(&mut client, model, draw, done)?,
        }
        std::thread::sleep(Duration::from_millis(draw.below(15)));
    }
    Ok(())
}

/// Makes a topic that lives until this thread deletes it.
fn create(client: &mut Client, model: &Mutex<Model>, draw: &SimRng, done: &mut Done) -> Result<()> {
    let name = format!("passing-{}", draw.below(NAMES));
    let partitions = 1 + draw.below(4) as usize;
    {
        let mut model = model.lock().expect("no thread panicked");
        let passing = model.topics.values().filter(|topic| !topic.steady).count();
        if passing >= TOPICS_MAX || model.topics.values().any(|topic| topic.name == name) {
            return Ok(());
        }
        model.creating = Some((name.clone(), partitions));
    }
    let configs: &[(&str, &str)] = if draw.chance(0.5) { &[("segment.bytes", "1048576")] } else { &[] };
    let (code, id) = calls::create_topic(client, &name, partitions as i32, configs)?;
    ensure!(code == 0, "creating {name} is answered with error {code}");
    let mut model = model.lock().expect("no thread panicked");
    model.creating = None;
    done.created += 1;
    model.add(id, &name, partitions, false)
}

fn pick(model: &Model, draw: &SimRng, steady_too: bool) -> Option<Uuid> {
    let ids: Vec<Uuid> =
        model.topics.iter().filter(|(_, topic)| steady_too || !topic.steady).map(|(id, _)| *id).collect();
    ids.get(draw.below(ids.len() as u64) as usize).copied()
}

fn delete(client: &mut Client, model: &Mutex<Model>, draw: &SimRng, done: &mut Done) -> Result<()> {
    let id = {
        let mut model = model.lock().expect("no thread panicked");
        let Some(id) = pick(&model, draw, false) else { return Ok(()) };
        if let Some(topic) = model.topics.get_mut(&id) {
            topic.deleting = true;
        }
        id
    };
    let code = calls::delete_topic(client, id)?;
    ensure!(code == 0, "deleting topic {id} is answered with error {code}");
    let mut model = model.lock().expect("no thread panicked");
    model.topics.remove(&id);
    model.deleted.push(id);
    done.deleted += 1;
    Ok(())
}

fn enlarge(client: &mut Client, model: &Mutex<Model>, draw: &SimRng, done: &mut Done) -> Result<()> {
    let (id, name, total) = {
        let mut model = model.lock().expect("no thread panicked");
        let Some(id) = pick(&model, draw, false) else { return Ok(()) };
        let Some(topic) = model.topics.get_mut(&id).filter(|topic| topic.partitions.len() < 8) else { return Ok(()) };
        let total = topic.partitions.len() + 1 + draw.below(2) as usize;
        topic.growing = Some(total);
        (id, topic.name.clone(), total)
    };
    let code = calls::create_partitions(client, &name, total as i32)?;
    ensure!(code == 0, "{total} partitions for {name} are answered with error {code}");
    let mut model = model.lock().expect("no thread panicked");
    if let Some(topic) = model.topics.get_mut(&id) {
        topic.growing = None;
        topic.partitions.resize_with(total, Default::default);
    }
    done.enlarged += 1;
    Ok(())
}

/// Deletes records up to some offset that is there, or all.
fn trim(client: &mut Client, model: &Mutex<Model>, draw: &SimRng, done: &mut Done) -> Result<()> {
    let (place, name, offset) = {
        let mut model = model.lock().expect("no thread panicked");
        let Some(id) = pick(&model, draw, true) else { return Ok(()) };
        let Some(topic) = model.topics.get_mut(&id) else { return Ok(()) };
        let index = draw.below(topic.partitions.len() as u64) as usize;
        let partition = &mut topic.partitions[index];
        let (start, end) = (partition.start_max, partition.end());
        if draw.chance(0.1) {
            // Up to the end, wherever that is by then.
            partition.start_max = i64::MAX;
            ((id, index as i32), topic.name.clone(), -1)
        } else if end > start {
            let offset = start + draw.below((end - start) as u64 + 1) as i64;
            partition.start_max = offset;
            ((id, index as i32), topic.name.clone(), offset)
        } else {
            return Ok(());
        }
    };
    let (code, start) = calls::delete_records(client, &name, place.1, offset)?;
    ensure!(code == 0, "deleting records of {name}-{} up to {offset} is answered with error {code}", place.1);
    ensure!(offset < 0 || start == offset, "{name}-{} starts at {start} instead of {offset}", place.1);
    let mut model = model.lock().expect("no thread panicked");
    if let Some(partition) = model.partition(place) {
        (partition.start_min, partition.start_max) = (start, start);
        partition.forget_below(start);
    }
    done.trimmed += 1;
    Ok(())
}
