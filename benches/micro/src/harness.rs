//! Runs a step many times and says what one run of it costs.

use anyhow::Result;
use headwater_benches::latency::{Spread, short};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Runs a step is given before it counts, in samples.
const WARM_UP: usize = 3;

/// Runs benchmarks and gathers what they find.
pub struct Harness {
    filter: String,
    samples: usize,
    sample: Duration,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    /// Nanoseconds of one run.
    nanoseconds: Spread,
    /// Bytes that one run handles; zero: none to speak of.
    bytes: usize,
}

/// What a benchmark's step is.
pub struct Step<'a> {
    /// What it does.
    pub name: &'a str,
    /// Bytes that one run handles; zero: none to speak of.
    pub bytes: usize,
    /// The most runs between two looks at the clock: what is queued or written must fit somewhere.
    pub runs_max: u64,
}

impl Harness {
    pub fn new(filter: String, samples: usize, sample_ms: u64) -> Harness {
        Harness { filter, samples: samples.max(1), sample: Duration::from_millis(sample_ms.max(1)), rows: Vec::new() }
    }

    /// Whether a benchmark of that name is wanted. What it needs is only set up then.
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Measures a step that leaves nothing behind.
    pub fn plain(&mut self, name: &str, bytes: usize, mut run: impl FnMut() -> Result<()>) -> Result<()> {
        self.step(Step { name, bytes, runs_max: u64::MAX }, &mut (), |()| run(), |()| Ok(()))
    }

    /// Measures a step, on a world that is tidied up between samples, without that being counted.
    pub fn step<W>(
        &mut self,
        step: Step<'_>,
        world: &mut W,
        mut run: impl FnMut(&mut W) -> Result<()>,
        mut tidy: impl FnMut(&mut W) -> Result<()>,
    ) -> Result<()> {
        if !self.wants(step.name) {
            return Ok(());
        }
        // How many runs fill a sample: doubled until one does, or nothing more fits.
        let mut runs = 1;
        let mut took;
        loop {
            took = timed(world, runs, &mut run)?;
            tidy(world)?;
            if took * 2 >= self.sample || runs >= step.runs_max {
                break;
            }
            runs = (runs * 2).min(step.runs_max);
        }
        // One sample may need several rounds of what fits at once; what is tidied up between them takes its time, too.
        let rounds = (self.sample.as_nanos() / took.as_nanos().max(1)).clamp(1, 4) as u64;
        let mut found = Vec::with_capacity(self.samples);
        for sample in 0..WARM_UP + self.samples {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                took += timed(world, runs, &mut run)?;
                tidy(world)?;
            }
            if sample >= WARM_UP {
                found.push(took.as_nanos() as f64 / (runs * rounds) as f64);
            }
        }
        let row = Row { name: step.name.to_owned(), nanoseconds: Spread::of(found), bytes: step.bytes };
        eprintln!("{}: {} ns", row.name, row.nanoseconds);
        self.rows.push(row);
        Ok(())
    }

    /// What was found, as Markdown.
    pub fn table(&self) -> String {
        let mut out = "| step | ns | MB/s | CPU s/GB |\n| --- | --- | --- | --- |\n".to_owned();
        for row in &self.rows {
            let median = row.nanoseconds.median.max(1e-9);
            let bytes = row.bytes as f64;
            let (rate, cost) = match row.bytes {
                0 => (String::new(), String::new()),
                _ => (short(bytes / median * 1e3), short(median / bytes)),
            };
            out.push_str(&format!("| {} | {} | {rate} | {cost} |\n", row.name, row.nanoseconds));
        }
        out
    }
}

fn timed<W>(world: &mut W, runs: u64, run: &mut impl FnMut(&mut W) -> Result<()>) -> Result<Duration> {
    let begun = thread_cpu();
    for _ in 0..runs {
        run(world)?;
    }
    Ok(thread_cpu() - begun)
}

/// CPU time of this thread so far: what others do on the machine is not in it, but for what they do to the caches.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_run_in_samples_and_tidied_up_between() {
        let mut harness = Harness::new("this".into(), 3, 1);
        let mut world = (0u64, 0u64);
        let step = |name| Step { name, bytes: 1_000, runs_max: 50 };
        harness
            .step(
                step("this one"),
                &mut world,
                |world| {
                    world.0 += 1;
                    std::hint::black_box((0..2_000u64).fold(world.0, |sum, next| sum ^ std::hint::black_box(next)));
                    Ok(())
                },
                |world| {
                    assert!(world.0 <= 50, "no more than fits");
                    *world = (0, world.1 + 1);
                    Ok(())
                },
            )
            .unwrap();
        assert!(world.1 >= 6 && harness.rows.len() == 1 && harness.rows[0].nanoseconds.min > 0.0);
        harness.step(step("another"), &mut world, |_| panic!("not wanted"), |_| Ok(())).unwrap();
        assert!(harness.table().contains("| this one | "));
    }

    #[test]
    fn an_error_ends_it() {
        let mut harness = Harness::new(String::new(), 3, 1);
        assert!(harness.plain("fails", 0, || anyhow::bail!("no")).is_err());
    }
}
