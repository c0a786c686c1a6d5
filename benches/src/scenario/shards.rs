//! Whether a server holds so many shards of a rate each.

use crate::latency::short;
use crate::load::phase::Phase;
use crate::load::producer::Plan;
use crate::load::schedule::Rate;
use serde::Serialize;
use std::fmt::{Display, Formatter, Result};
use std::thread;

/// The 99th percentile that shards must stay under.
const P99_MS_MAX: f64 = 20.0;
/// The least part of the rate that counts as reached: the last answers always come a little late.
const REACHED_LEAST: f64 = 0.99;
/// A generator that uses more of its CPUs may be late itself.
const GENERATOR_SHARE_MAX: f64 = 0.9;

/// What a run says.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// How many shards.
    pub shards: i32,
    /// The rate of all together, in MB/s; nothing in a closed loop.
    pub asked_mb_per_s: Option<f64>,
    /// What was acknowledged of it.
    pub reached_mb_per_s: f64,
    /// The 99th percentile of latency.
    pub p99_ms: f64,
    /// Cores that the server used, where its process is known.
    pub server_cores: Option<f64>,
    /// What the generator used of the CPUs that its threads can have.
    pub generator_share: f64,
    /// Whether rate and latency are what they must be.
    pub holds: bool,
    /// Whether the generator may be what was slow.
    pub generator_is_busy: bool,
}

impl Verdict {
    /// Of a phase that was produced by that plan.
    #[must_use]
    pub fn of(plan: &Plan, phase: &Phase) -> Option<Self> {
        let flow = phase.flow("produce").ok()?;
        let asked_mb_per_s = match plan.rate {
            Rate::Closed => None,
            Rate::Bytes(bytes) => Some(bytes / 1e6),
            Rate::Records(records) => Some(records * plan.shape.record_bytes as f64 / 1e6),
        };
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let threads = plan.threads.min(plan.connections).min(cpus).max(1);
        let seconds = phase.seconds.max(1e-9);
        let p99_ms = flow.latency.p99_us / 1e3;
        let generator_share = phase.cost.generator_cpu_s / seconds / threads as f64;
        let reaches = asked_mb_per_s.is_none_or(|asked| flow.mb_per_s >= asked * REACHED_LEAST);
        Some(Self {
            shards: plan.partitions,
            asked_mb_per_s,
            reached_mb_per_s: flow.mb_per_s,
            p99_ms,
            server_cores: phase.cost.server_cpu_s.map(|cpu_s| cpu_s / seconds),
            generator_share,
            holds: reaches && p99_ms < P99_MS_MAX,
            generator_is_busy: generator_share >= GENERATOR_SHARE_MAX,
        })
    }
}

impl Display for Verdict {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        let holds = if self.holds { "hold" } else { "do not hold" };
        write!(out, "{} shards {holds}: {} MB/s reached", self.shards, short(self.reached_mb_per_s))?;
        if let Some(asked) = self.asked_mb_per_s {
            write!(out, " of {} (at least {} % wanted)", short(asked), REACHED_LEAST * 100.0)?;
        }
        write!(out, ", p99 {} ms (under {P99_MS_MAX} wanted)", short(self.p99_ms))?;
        if let Some(cores) = self.server_cores {
            write!(out, "; the server used {} of a core", short(cores))?;
        }
        writeln!(out, ", the generator {:.0} % of its own.", self.generator_share * 100.0)?;
        if self.generator_is_busy {
            writeln!(
                out,
                "Warning: the generator used {:.0} % of its CPU, so that it may be what was slow: give it another one, or more --threads.",
                self.generator_share * 100.0
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sink::tests::started;
    use crate::load::phase::Watch;
    use crate::scenario;
    use std::time::Duration;

    #[test]
    fn shards_hold_when_rate_and_latency_do_and_a_busy_generator_is_told() {
        let plan = Plan {
            partitions: 2,
            rate: Rate::Bytes(2e6),
            duration: Duration::from_secs(1),
            ..Plan::new(started(), "shards")
        };
        let mut phase = scenario::produce("shards", &plan, &Watch::default()).unwrap();
        let flow = &mut phase.flows[0];
        (flow.mb_per_s, flow.latency.p99_us, phase.seconds, phase.cost.generator_cpu_s) = (1.99, 19e3, 1.0, 0.5);
        let verdict = Verdict::of(&plan, &phase).unwrap();
        assert!(verdict.holds && !verdict.generator_is_busy, "{verdict}");
        let text = verdict.to_string();
        assert!(
            text.starts_with("2 shards hold: 1.99 MB/s reached of 2.00 (at least 99 % wanted), p99 19.0 ms"),
            "{text}"
        );
        for (mb_per_s, p99_us) in [(1.9, 19e3), (2.0, 21e3)] {
            let flow = &mut phase.flows[0];
            (flow.mb_per_s, flow.latency.p99_us) = (mb_per_s, p99_us);
            assert!(!Verdict::of(&plan, &phase).unwrap().holds);
        }
        phase.cost.generator_cpu_s = 0.95;
        assert!(Verdict::of(&plan, &phase).unwrap().to_string().contains("Warning: the generator used 95 %"));
    }
}
