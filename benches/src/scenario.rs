//! The scenarios of `headwater bench`, each a few phases.

pub mod shards;

use crate::kafka::connection::Connection;
use crate::kafka::{Error, admin};
use crate::load::consumer::{self, count, ranges};
use crate::load::phase::{self, Job, Phase, Watch};
use crate::load::producer;
use crate::sys;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Produces.
pub fn produce(name: &str, plan: &producer::Plan, watch: &Watch) -> Result<Phase, Error> {
    let phase = phase::run(name, plan.jobs(None)?, watch)?;
    let (answered, taken) = (phase.flow("produce")?.counts.bytes, plan.total_bytes);
    if answered < taken && plan.duration.is_zero() {
        return Err(Error::Answer(format!("{answered} bytes were acknowledged, not {taken}")));
    }
    Ok(phase)
}

/// Fills a topic, unless it holds something already; returns the phase, if there was something to do.
pub fn fill(plan: &producer::Plan, watch: &Watch) -> Result<Option<Phase>, Error> {
    let mut connection = Connection::open(plan.address)?;
    match ranges(&mut connection, &plan.topic) {
        Ok(ranges) if count(&ranges) > 0 => return Ok(None),
        Ok(_) | Err(Error::Code { code: 3, .. }) => {}
        Err(error) => return Err(error),
    }
    produce("fill", plan, watch).map(Some)
}

/// Reads everything that a topic holds, each consumer another part.
pub fn consume(name: &str, plan: &consumer::Plan, watch: &Watch) -> Result<Phase, Error> {
    let (jobs, records) = plan.range_jobs()?;
    let phase = phase::run(name, jobs, watch)?;
    let (found, asked) = (phase.flow("consume")?.counts.records, records * u64::from(plan.passes));
    if found != asked {
        return Err(Error::Answer(format!("{found} records were read where offsets promise {asked}")));
    }
    Ok(phase)
}

/// Produces alone, and again while consumers replay what `replayed` names, over and over.
pub fn mixed(produce: &producer::Plan, replayed: &consumer::Plan, watch: &Watch) -> Result<Vec<Phase>, Error> {
    let alone = phase::run("alone", produce.jobs(None)?, watch)?;
    // What was put off is done before the other half begins.
    thread::sleep(Duration::from_secs(1));
    let mut jobs = produce.jobs(None)?;
    // The producers are what is measured: a consumer that takes all it can get must not keep them from the processor.
    let consumers = consumer::Plan { passes: 0, ..replayed.clone() }.range_jobs()?.0;
    jobs.extend(consumers.into_iter().map(|job| Job {
        work: Box::new(move |run, meter| {
            // On Linux, of the calling thread alone.
            rustix::process::setpriority_process(None, 19).map_err(io::Error::from)?;
            (job.work)(run, meter)
        }),
        ..job
    }));
    Ok(vec![alone, phase::run("beside a replay", jobs, watch)?])
}

/// Throws the files below a folder out of the page cache, after writing what is still only there.
pub fn drop_cache(folder: &Path) -> Result<(), Error> {
    sys::syncfs(&File::open(folder)?)?;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => sys::drop_cached(&File::open(entry.path())?)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Deletes a topic.
pub fn delete(address: std::net::SocketAddr, topic: &str) -> Result<(), Error> {
    admin::delete_topic(&mut Connection::open(address)?, topic)
}
