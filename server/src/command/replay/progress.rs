//! How far a replay is: a line that is drawn again and again on a terminal, and the sum at the end.

use super::encode::Encoded;
use crate::client::Span;
use headwater_engine::env::{Clock, RealClock};
use std::time::Duration;

const DRAWN_EVERY: Duration = Duration::from_millis(100);
const BAR_WIDTH: usize = 24;

/// Counts, and draws them when there is someone to see.
pub struct Progress {
    clock: RealClock,
    /// The next offset of each span.
    next: Vec<i64>,
    offsets: u64,
    offsets_total: u64,
    records: u64,
    written_bytes: u64,
    is_shown: bool,
    drawn_at: Option<Duration>,
}

impl Progress {
    /// Nothing is done yet of these spans.
    pub fn new(spans: &[Span], is_shown: bool) -> Progress {
        let size = |span: &Span| span.end.map_or(0, |end| u64::try_from(end.saturating_sub(span.next)).unwrap_or(0));
        Progress {
            clock: RealClock::default(),
            next: spans.iter().map(|span| span.next).collect(),
            offsets: 0,
            offsets_total: spans.iter().map(size).sum(),
            records: 0,
            written_bytes: 0,
            is_shown,
            drawn_at: None,
        }
    }

    /// Something was written.
    pub fn add(&mut self, encoded: &Encoded) {
        self.records += encoded.records;
        self.written_bytes += encoded.bytes().len() as u64;
        if let Some(next) = self.next.get_mut(encoded.span) {
            self.offsets += u64::try_from(encoded.next.saturating_sub(*next)).unwrap_or(0);
            *next = encoded.next;
        }
        let now = self.clock.monotonic();
        if self.is_shown && self.drawn_at.is_none_or(|at| now.saturating_sub(at) >= DRAWN_EVERY) {
            self.drawn_at = Some(now);
            eprint!("\r{}\x1b[K", self.line(now));
        }
    }

    /// Records that were written.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The offset up to which a span is written.
    pub fn next_of(&self, span: usize) -> Option<i64> {
        self.next.get(span).copied()
    }

    /// Takes the line away.
    pub fn clear(&self) {
        if self.drawn_at.is_some() {
            eprint!("\r\x1b[K");
        }
    }

    /// What was done, in a sentence.
    pub fn sum(&self) -> String {
        let now = self.clock.monotonic();
        let (written, rate) = (size_text(self.written_bytes), size_text(self.rate(now)));
        format!("{} records, {written}, in {:.2} s ({rate}/s)", self.records, now.as_secs_f64())
    }

    fn rate(&self, now: Duration) -> u64 {
        (self.written_bytes as f64 / now.as_secs_f64().max(0.001)) as u64
    }

    fn line(&self, now: Duration) -> String {
        let part = self.offsets as f64 / self.offsets_total.max(1) as f64;
        let filled = ((part * BAR_WIDTH as f64) as usize).min(BAR_WIDTH);
        let bar = format!("{}{}", "=".repeat(filled), " ".repeat(BAR_WIDTH - filled));
        let left = match self.offsets {
            0 => "-".to_owned(),
            _ => duration_text(now.as_secs_f64() * (1.0 - part) / part),
        };
        let (written, rate) = (size_text(self.written_bytes), size_text(self.rate(now)));
        format!("[{bar}] {:3.0} %  {written}  {rate}/s  {left} left", part * 100.0)
    }
}

/// A number of bytes for people: three digits or more, and a unit.
fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    if value < 99.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

fn duration_text(seconds: f64) -> String {
    let seconds = seconds.round().clamp(0.0, 359_999.0) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (1_070_000_000, "1.1 GB"),
            (u64::MAX, "18446744 TB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size_text(bytes), text);
        }
        for (seconds, text) in [(0.4, "0:00"), (61.0, "1:01"), (3600.0, "1:00:00"), (f64::INFINITY, "99:59:59")] {
            assert_eq!(duration_text(seconds), text);
        }
    }

    #[test]
    fn the_line_says_how_far_it_is() {
        let span = Span { topic: "t".to_owned(), topic_id: uuid::Uuid::nil(), partition: 0, next: 100, end: Some(300) };
        let mut progress = Progress::new(&[span], false);
        (progress.offsets, progress.written_bytes) = (50, 2_000_000);
        let line = progress.line(Duration::from_secs(2));
        assert_eq!(line, "[======                  ]  25 %  2.0 MB  1.0 MB/s  0:06 left");
    }
}
