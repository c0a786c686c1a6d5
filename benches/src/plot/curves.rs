//! Lines: latency by percentile, and figures over time.

use super::canvas::{BOTTOM, Canvas, LEFT, Mark, RIGHT};
use super::scale::{Axis, Tick, is_sound, number, step, ticks};

/// The latencies of one run.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// What was measured.
    pub name: String,
    /// A percentile from 0 to 100 (99.9, say) and the latency in milliseconds below which so many lie.
    pub points: Vec<(f64, f64)>,
}

/// A figure while a run lasts.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// What was measured.
    pub name: String,
    /// Seconds since the start, and the figure then.
    pub points: Vec<(f64, f64)>,
}

/// The nines of a percentile: 1 for 90, 2 for 99, 3 for 99.9; none for 100.
fn nines(percentile: f64) -> Option<f64> {
    let above = 1.0 - percentile / 100.0;
    // The least part that a double tells from nothing is far below any count of records.
    (above > 1e-12).then(|| -above.min(1.0).log10())
}

/// Latency by percentile. The horizontal axis goes by nines, so that the slowest thousandth has as much room as the
/// slowest tenth; a point at 100 lies at its right end.
#[must_use]
pub fn percentiles(title: &str, curves: &[Curve]) -> String {
    let names: Vec<&str> = curves.iter().map(|curve| curve.name.as_str()).collect();
    let mut canvas = Canvas::new(title, &names, Mark::Line);
    let points: Vec<Vec<(Option<f64>, f64)>> = curves
        .iter()
        .map(|curve| {
            let within = sound(&curve.points).filter(|&(percentile, _)| (0.0..=100.0).contains(&percentile));
            within.map(|(percentile, ms)| (nines(percentile), ms)).collect()
        })
        .collect();
    if points.iter().all(Vec::is_empty) {
        return canvas.empty();
    }
    let most = points.iter().flatten().filter_map(|point| point.0).fold(1.0, f64::max);
    let x = Axis::linear(0.0, most, LEFT, RIGHT - 12.0);
    let (y, y_ticks) = Axis::for_values(points.iter().flatten().map(|point| point.1), BOTTOM, canvas.top, true);
    canvas.vertical(&y, &y_ticks, if y.is_logarithmic() { "latency, ms (logarithmic)" } else { "latency, ms" });
    let mut marks =
        vec![Tick { value: 0.0, label: "0 %".into() }, Tick { value: 0.5f64.log10().abs(), label: "50 %".into() }];
    for nines in 1..=(most + 1e-9).floor() as usize {
        let label = match nines {
            1 => "90 %".into(),
            2 => "99 %".into(),
            more => format!("99.{} %", "9".repeat(more - 2)),
        };
        marks.push(Tick { value: nines as f64, label });
    }
    canvas.horizontal(&x, &marks, "part of all that were at least as fast");
    canvas.frame();
    for (index, points) in points.iter().enumerate() {
        let mut sorted: Vec<(f64, f64)> = points.iter().map(|&(nines, ms)| (nines.unwrap_or(most), ms)).collect();
        sorted.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.total_cmp(&right.1)));
        canvas.line(index, sorted.into_iter().map(|(nines, ms)| (x.place(nines), y.place(ms))));
    }
    canvas.finish()
}

/// A figure over time, from zero up.
#[must_use]
pub fn over_time(title: &str, unit: &str, series: &[Series]) -> String {
    let names: Vec<&str> = series.iter().map(|series| series.name.as_str()).collect();
    let mut canvas = Canvas::new(title, &names, Mark::Line);
    let mut points = series.iter().flat_map(|series| sound(&series.points)).peekable();
    if points.peek().is_none() {
        return canvas.empty();
    }
    let (first, last) =
        points.fold((0.0f64, 0.0f64), |(first, last), (second, _)| (first.min(second), last.max(second)));
    let every = seconds_step(last - first);
    let x = Axis::linear(first, last, LEFT, RIGHT - 12.0);
    let values = series.iter().flat_map(|series| sound(&series.points)).map(|point| point.1);
    let (y, y_ticks) = Axis::for_values(values, BOTTOM, canvas.top, false);
    canvas.vertical(&y, &y_ticks, unit);
    let from = (first / every).ceil() * every;
    let mut marks = ticks(from, (last / every).floor() * every, every);
    marks.iter_mut().for_each(|tick| tick.label = number(tick.value, every));
    canvas.horizontal(&x, &marks, "seconds since the start");
    canvas.frame();
    for (index, series) in series.iter().enumerate() {
        let mut sorted: Vec<(f64, f64)> = sound(&series.points).collect();
        sorted.sort_by(|left, right| left.0.total_cmp(&right.0));
        canvas.line(index, sorted.into_iter().map(|(second, value)| (x.place(second), y.place(value))));
    }
    canvas.finish()
}

/// A step between two ticks of time: a minute and its round parts and multiples from there on.
fn seconds_step(range: f64) -> f64 {
    let minutes = [15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
    match range {
        short if short <= 100.0 => step(short, 10),
        long => minutes.into_iter().find(|step| long / step <= 12.0).unwrap_or_else(|| step(long, 10)),
    }
}

fn sound(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    points.iter().copied().filter(|(x, y)| is_sound(*x) && is_sound(*y))
}
