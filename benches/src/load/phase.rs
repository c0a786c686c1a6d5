//! A phase: jobs on threads, sampled once a second until all are done.

use super::cost::{self, Cost};
use super::meter::{Flow, Meter, Second, Sum};
use crate::kafka::Error;
use crate::latency::short;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// What jobs of a phase have in common.
pub struct Run {
    /// The start of the schedule.
    pub begun: Instant,
    failed: AtomicBool,
    /// Set when the jobs that decide how long a phase lasts are done.
    over: AtomicBool,
}

impl Run {
    /// Whether another job has failed, so that this one need not go on.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether the jobs that decide how long the phase lasts are done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) || self.has_failed()
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What a job does.
pub type Work<'a> = Box<dyn FnOnce(&Run, &Meter) -> Result<(), Error> + Send + 'a>;

/// A thread's work.
pub struct Job<'a> {
    /// The kind of traffic that its meter counts.
    pub flow: &'static str,
    /// Whether the phase lasts until it is done; other jobs end when [`Run::is_over`].
    pub leads: bool,
    /// The work.
    pub work: Work<'a>,
}

/// How a phase is watched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// The server's process.
    pub pid: Option<u32>,
    /// Whether a line for each second goes to standard error.
    pub progress: bool,
    /// Waited at the end before CPU time is read, so that work put off to the background counts.
    pub settle: Duration,
    /// Whether the kernel then writes back all that is dirty, so that it counts where it came from and the next load finds a quiet disk.
    pub write_back: bool,
}

impl Watch {
    /// What is waited for between a load and reading what it cost.
    pub fn settle(&self) {
        thread::sleep(self.settle);
        if self.write_back {
            rustix::fs::sync();
        }
    }
}

/// What came of a phase.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Until the last job was done.
    pub seconds: f64,
    /// Its kinds of traffic; costs are for a gigabyte of the first one.
    pub flows: Vec<Flow>,
    /// What it cost.
    pub cost: Cost,
}

impl Phase {
    /// One kind of its traffic.
    pub fn flow(&self, name: &str) -> Result<&Flow, Error> {
        self.flows
            .iter()
            .find(|flow| flow.name == name)
            .ok_or_else(|| Error::Answer(format!("there was nothing to {name}")))
    }
}

/// Runs jobs.
pub fn run(name: &str, jobs: Vec<Job<'_>>, watch: &Watch) -> Result<Phase, Error> {
    let mut flows: Vec<&'static str> = Vec::new();
    for job in &jobs {
        if !flows.contains(&job.flow) {
            flows.push(job.flow);
        }
    }
    let meters: Vec<(&'static str, Meter)> = jobs.iter().map(|job| (job.flow, Meter::default())).collect();
    let mut sums: Vec<Sum> = flows.iter().map(|_| Sum::default()).collect();
    let mut leading = jobs.iter().filter(|job| job.leads).count();
    let begin = cost::begin(watch.pid)?;
    let run = Run { begun: Instant::now(), failed: AtomicBool::new(false), over: AtomicBool::new(leading == 0) };
    let (done, ended) = channel();
    let errors = thread::scope(|scope| {
        let mut errors = Vec::new();
        let mut running = 0;
        for (job, (_, meter)) in jobs.into_iter().zip(&meters) {
            let (run, done, flow, leads) = (&run, done.clone(), job.flow, job.leads);
            let thread = Builder::new().name(flow.into()).spawn_scoped(scope, move || {
                // The report is sent also when the work panics, so that nobody waits for it.
                let mut report = Report { done, leads, error: Some(Error::Answer("a job panicked".into())) };
                report.error = (job.work)(run, meter).err();
                if report.error.is_some() {
                    run.failed.store(true, Ordering::Relaxed);
                }
            });
            match thread {
                Ok(_) => running += 1,
                Err(error) => {
                    run.failed.store(true, Ordering::Relaxed);
                    errors.push(error.into());
                }
            }
        }
        let mut tick = 1;
        while running > 0 {
            let due = run.begun + Duration::from_secs(tick);
            match ended.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Ended { leads, error }) => {
                    running -= 1;
                    errors.extend(error);
                    leading -= usize::from(leads);
                    if leading == 0 {
                        run.over.store(true, Ordering::Release);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    tick += 1;
                    let seconds = sample(&flows, &mut sums, &meters, run.begun.elapsed().as_secs_f64());
                    if watch.progress {
                        progress(name, &flows, &seconds);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        errors
    });
    let seconds = run.begun.elapsed().as_secs_f64();
    if let Some(error) = first_of(errors) {
        return Err(error);
    }
    sample(&flows, &mut sums, &meters, seconds);
    watch.settle();
    let flows: Vec<Flow> = flows.into_iter().zip(sums).map(|(name, sum)| sum.finish(name)).collect();
    let cost = begin.end(flows.first().map_or(0, |flow| flow.counts.bytes))?;
    Ok(Phase { name: name.into(), seconds, flows, cost })
}

struct Ended {
    leads: bool,
    error: Option<Error>,
}

struct Report {
    done: Sender<Ended>,
    leads: bool,
    error: Option<Error>,
}

impl Drop for Report {
    fn drop(&mut self) {
        let _nobody_waits = self.done.send(Ended { leads: self.leads, error: self.error.take() });
    }
}

fn sample(flows: &[&'static str], sums: &mut [Sum], meters: &[(&'static str, Meter)], at_s: f64) -> Vec<Second> {
    let each = flows.iter().zip(sums);
    each.map(|(name, sum)| sum.sample(meters.iter().filter(|(flow, _)| flow == name).map(|(_, meter)| meter), at_s))
        .collect()
}

/// One line about the last second.
fn progress(phase: &str, flows: &[&'static str], seconds: &[Second]) {
    let mut line = format!("{:4.0} s {phase}", seconds.first().map_or(0.0, |second| second.at_s));
    for (name, second) in flows.iter().zip(seconds) {
        line += &format!(
            "  {name} {} MB/s {} records/s p50 {} p99 {} max {} ms",
            short(second.mb_per_s),
            short(second.records_per_s),
            short(second.latency.p50_us / 1e3),
            short(second.latency.p99_us / 1e3),
            short(second.latency.max_us / 1e3)
        );
    }
    eprintln!("{line}");
}

/// The first error, after telling the others on standard error, so that none is hidden.
fn first_of(errors: Vec<Error>) -> Option<Error> {
    let mut errors = errors.into_iter();
    let first = errors.next();
    errors.for_each(|error| eprintln!("also: {error}"));
    first
}
