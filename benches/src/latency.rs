//! Latency histograms and medians over repeated runs.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Latencies of one run, in nanoseconds, three significant digits, up to one minute.
pub struct Latencies(Histogram<u64>);

/// What is reported of a run's latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Percentiles {
    /// Half are below it.
    pub p50_us: f64,
    /// Nine of ten are below it.
    pub p90_us: f64,
    /// 99 of 100 are below it.
    pub p99_us: f64,
    /// 999 of 1,000 are below it.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    const MAX_NS: u64 = 60_000_000_000;

    /// An empty histogram.
    #[must_use]
    pub fn new() -> Self {
        Self(Histogram::new_with_max(Self::MAX_NS, 3).expect("constant bounds are valid"))
    }

    /// Adds one latency.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(Self::MAX_NS));
    }

    /// Adds a latency that so many had.
    pub fn record_many(&mut self, latency: Duration, count: u64) {
        self.0.saturating_record_n(u64::try_from(latency.as_nanos()).unwrap_or(Self::MAX_NS), count);
    }

    /// Takes what it holds and leaves it empty.
    pub fn take_into(&mut self, other: &mut Self) {
        other.add(self);
        self.0.reset();
    }

    /// Percentiles with their values in milliseconds, closer and closer to 100: what a plot draws.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let steps = self.0.iter_quantiles(5);
        steps.map(|step| (step.quantile_iterated_to() * 100.0, step.value_iterated_to() as f64 / 1e6)).collect()
    }

    /// Adds what another histogram holds.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both histograms have the same bounds");
    }

    /// How many latencies it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Its percentiles.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max() as f64 / 1e3,
        }
    }
}

/// Median of repeated runs, with the extremes, so that a reader sees how far noise reached.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    /// The middle value (the mean of the middle two).
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of some values; zeros when there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else { return Self::default() };
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Self { median, min, max }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} ({}-{})", short(self.median), short(self.min), short(self.max))
    }
}

/// Three significant digits, no exponent.
#[must_use]
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        0.0 => "0".into(),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_an_even_count_takes_the_mean_of_the_middle() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]);
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of([]).median, 0.0);
    }

    #[test]
    fn percentiles_come_from_what_was_recorded() {
        let mut latencies = Latencies::new();
        for us in 1..=1000 {
            latencies.record(Duration::from_micros(us));
        }
        let got = latencies.percentiles();
        assert!((got.p50_us - 500.0).abs() < 2.0, "{got:?}");
        assert!((got.p99_us - 990.0).abs() < 2.0, "{got:?}");
        assert_eq!(latencies.count(), 1000);
    }
}
