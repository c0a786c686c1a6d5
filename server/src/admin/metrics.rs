//! `/metrics`: the numbers of engine, listeners and process in Prometheus' text format. They are read when they are asked
//! for; nothing is counted here.

use crate::process;
use headwater_engine::{Engine, HistogramSnapshot};
use headwater_protocol::metrics::{Family as HeadFamily, LATENCY_BOUNDS_US, Metrics, OperationSnapshot, Snapshot};
use kafka_protocol::error::ResponseError;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// Where numbers come from, beside the engine.
pub struct Sources {
    /// One for each listener.
    pub listeners: Vec<Arc<Metrics>>,
    /// Descriptors that the process may open.
    pub descriptors_max: u64,
    /// When the process started, in seconds of Unix time.
    pub started: f64,
}

/// The page.
pub fn page(sources: &Sources, engine: Option<&Engine>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("headwater");
    let listeners = sources.listeners.iter().map(|metrics| metrics.snapshot()).collect();
    let engine = engine.map(Engine::stats);
    let heads = sources.listeners.iter().flat_map(|metrics| metrics.more()).collect();
    registry.register_collector(Box::new(Moment {
        listeners,
        heads,
        engine,
        descriptors_max: sources.descriptors_max,
        started: sources.started,
    }));
    let mut page = String::new();
    encode(&mut page, &registry)?;
    Ok(page)
}

/// All numbers as they were at one moment.
#[derive(Debug)]
struct Moment {
    listeners: Vec<Snapshot>,
    /// What single heads have to tell.
    heads: Vec<HeadFamily>,
    engine: Option<headwater_engine::StatsSnapshot>,
    descriptors_max: u64,
    started: f64,
}

type Labels<'a> = &'a [(&'static str, &'a str)];

impl Collector for Moment {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut page = Page(encoder);
        page.gauge("build_info", "The version that runs", &[(&[("version", env!("CARGO_PKG_VERSION"))], 1)])?;
        self.requests(&mut page)?;
        self.connections(&mut page)?;
        self.heads(&mut page)?;
        if let Some(engine) = &self.engine {
            wal(engine, &mut page)?;
            log(engine, &mut page)?;
            compaction(engine, &mut page)?;
        }
        self.process(&mut page)
    }
}

impl Moment {
    fn each_operation(&self) -> impl Iterator<Item = (&'static str, &OperationSnapshot)> {
        let all =
            self.listeners.iter().flat_map(|listener| listener.operations.iter().map(|row| (listener.protocol, row)));
        all.filter(|(_, row)| row.requests.iter().any(|(_, count)| *count > 0) || !row.errors.is_empty())
    }

    fn requests(&self, page: &mut Page<'_>) -> Result<(), fmt::Error> {
        let mut by_version = page.family("requests", "Requests answered, by API and version", MetricType::Counter)?;
        for (protocol, row) in self.each_operation() {
            for (version, count) in row.requests.iter().filter(|(_, count)| *count > 0) {
                let version = version.to_string();
                by_version.counter(&[("protocol", protocol), ("api", row.name), ("version", &version)], *count)?;
            }
        }
        let help = "Time from a whole request to its answer, waiting for data included";
        let mut latency = page.family("request_seconds", help, MetricType::Histogram)?;
        for (protocol, row) in self.each_operation() {
            let bounds = LATENCY_BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(row.latency_buckets.iter().copied()).collect();
            latency.histogram(&[("protocol", protocol), ("api", row.name)], row.latency_sum.as_secs_f64(), &buckets)?;
        }
        let mut errors = page.family("request_errors", "Errors in answers, by API", MetricType::Counter)?;
        for (protocol, row) in self.each_operation() {
            for (code, count) in &row.errors {
                let error = ResponseError::try_from_code(*code).map_or_else(|| "None".to_owned(), |e| e.to_string());
                errors.counter(&[("protocol", protocol), ("api", row.name), ("error", &error)], *count)?;
            }
        }
        Ok(())
    }

    fn connections(&self, page: &mut Page<'_>) -> Result<(), fmt::Error> {
        let by_listener = |value: fn(&Snapshot) -> u64| {
            self.listeners.iter().map(move |listener| (vec![("protocol", listener.protocol)], value(listener)))
        };
        // The admin port has no operations and counts no bytes: a 0 would not be true.
        let counting = || self.listeners.iter().filter(|listener| !listener.operations.is_empty());
        let mut received = page.family("received_bytes", "Bytes read from clients", MetricType::Counter)?;
        for listener in counting() {
            received.counter(&[("protocol", listener.protocol)], listener.bytes_received)?;
        }
        let help = "Bytes sent to clients, by the way they took; sendfile bytes never were in user space, copied ones are of small ranges";
        let mut sent = page.family("sent_bytes", help, MetricType::Counter)?;
        for listener in counting() {
            let ways = [
                ("memory", listener.bytes_sent_memory),
                ("mapped", listener.bytes_sent_mapped),
                ("copied", listener.bytes_sent_copied),
                ("sendfile", listener.bytes_sent_sendfile),
            ];
            for (way, count) in ways {
                sent.counter(&[("protocol", listener.protocol), ("way", way)], count)?;
            }
        }
        let mut open = page.family("connections", "Connections open now", MetricType::Gauge)?;
        for (labels, count) in by_listener(|listener| listener.connections_open) {
            open.gauge(&labels, count)?;
        }
        let mut accepted = page.family("connections_accepted", "Connections taken", MetricType::Counter)?;
        for (labels, count) in by_listener(|listener| listener.connections_accepted) {
            accepted.counter(&labels, count)?;
        }
        let help = "Connections closed at once because there were too many";
        let mut refused = page.family("connections_over_bound", help, MetricType::Counter)?;
        for (labels, count) in by_listener(|listener| listener.connections_over_bound) {
            refused.counter(&labels, count)?;
        }
        let bounded = || self.listeners.iter().filter_map(|listener| Some((listener, listener.request_memory_max?)));
        let mut used = page.family("request_memory_bytes", "Memory that requests take now", MetricType::Gauge)?;
        for (listener, _) in bounded() {
            used.gauge(&[("protocol", listener.protocol)], listener.request_memory)?;
        }
        let help = "Memory that requests may take together; further ones wait";
        let mut bound = page.family("request_memory_max_bytes", help, MetricType::Gauge)?;
        for (listener, max) in bounded() {
            bound.gauge(&[("protocol", listener.protocol)], max)?;
        }
        let mut ended = page.family("connections_ended", "Connections that ended, by reason", MetricType::Counter)?;
        for listener in &self.listeners {
            for (how, count) in &listener.connections_ended {
                ended.counter(&[("protocol", listener.protocol), ("reason", how.label())], *count)?;
            }
        }
        Ok(())
    }

    fn heads(&self, page: &mut Page<'_>) -> Result<(), fmt::Error> {
        for head in &self.heads {
            let kind = if head.is_counter { MetricType::Counter } else { MetricType::Gauge };
            let mut family = page.family(head.name, head.help, kind)?;
            for (labels, value) in &head.values {
                let labels: Vec<(&'static str, &str)> = labels.iter().map(|(name, of)| (*name, of.as_str())).collect();
                if head.is_counter { family.counter(&labels, *value)? } else { family.gauge(&labels, *value)? }
            }
        }
        Ok(())
    }

    fn process(&self, page: &mut Page<'_>) -> Result<(), fmt::Error> {
        if let Some(memory) = process::memory() {
            let kinds: [(Labels<'_>, u64); 3] = [
                (&[("kind", "anonymous")], memory.anonymous),
                (&[("kind", "file")], memory.file),
                (&[("kind", "shared")], memory.shared),
            ];
            page.gauge("memory_bytes", "Resident memory of the process, by kind", &kinds)?;
        }
        if let Some(count) = process::open_descriptors() {
            page.gauge("open_descriptors", "Descriptors open in the process", &[(&[], count)])?;
        }
        page.gauge("open_descriptors_max", "Descriptors that the process may open", &[(&[], self.descriptors_max)])?;
        let mut started =
            page.family("start_time_seconds", "When the process started, in Unix time", MetricType::Gauge)?;
        started.with(&[], |metric| metric.encode_gauge(&self.started))?;
        match process::cpu_seconds() {
            Some(seconds) => page.counter("cpu_seconds", "Processor time used", seconds),
            None => Ok(()),
        }
    }
}

fn wal(engine: &headwater_engine::StatsSnapshot, page: &mut Page<'_>) -> Result<(), fmt::Error> {
    let rounds: [(&str, &str, &HistogramSnapshot, f64); 4] = [
        ("wal_round_seconds", "Time of a commit round, until it is durable", &engine.round_us, 1e6),
        ("wal_round_bytes", "WAL bytes of a commit round", &engine.round_bytes, 1.0),
        ("wal_round_batches", "Batches of a commit round", &engine.round_batches, 1.0),
        ("checkpoint_seconds", "Time of a checkpoint", &engine.checkpoint_us, 1e6),
    ];
    for (name, help, values, per_unit) in rounds {
        let mut family = page.family(name, help, MetricType::Histogram)?;
        let mut buckets: Vec<(f64, u64)> =
            values.buckets.iter().map(|(bound, count)| (*bound as f64 / per_unit, *count)).collect();
        // The engine's last bucket takes everything that is larger.
        if let Some(last) = buckets.last_mut() {
            last.0 = f64::INFINITY;
        }
        family.histogram(&[], values.sum as f64 / per_unit, &buckets)?;
    }
    page.counter("checkpoints", "Checkpoints written", engine.checkpoints)?;
    page.gauge("wal_size_bytes", "Bytes of all WAL files", &[(&[], engine.wal_size)])?;
    page.gauge("wal_used_bytes", "WAL bytes that no checkpoint covers yet", &[(&[], engine.wal_used)])?;
    page.gauge("queued_commands", "Commands that wait for the committer", &[(&[], engine.queued_commands)])?;
    page.gauge("queued_bytes", "Bytes of batches that wait for the committer", &[(&[], engine.queued_bytes)])
}

fn log(engine: &headwater_engine::StatsSnapshot, page: &mut Page<'_>) -> Result<(), fmt::Error> {
    page.counter("appended_bytes", "Bytes of batches made durable", engine.appended_bytes)?;
    page.counter("appended_batches", "Batches made durable", engine.appended_batches)?;
    page.counter("appended_records", "Records made durable", engine.appended_records)?;
    page.counter("cold_reads", "Reads that had to wait for the medium", engine.cold_reads)?;
    page.counter("damaged_ranges", "Damaged ranges that a read or the scrub found", engine.damage)?;
    page.counter("scrubbed_bytes", "Bytes that the scrub checked", engine.scrubbed_bytes)?;
    page.gauge("topics", "Topics", &[(&[], engine.topics)])?;
    page.gauge("partitions", "Partitions", &[(&[], engine.partitions)])?;
    page.gauge("open_segment_files", "Segment files open", &[(&[], engine.open_files)])?;
    let help = "Free bytes on the disk, less what was taken and is not written yet";
    page.gauge("disk_free_bytes", help, &[(&[], engine.disk_free)])?;
    let help = "Free bytes below which producers are refused";
    page.gauge("disk_reserve_bytes", help, &[(&[], engine.disk_reserve)])?;
    let short = u64::from(engine.is_disk_short);
    page.gauge("disk_short", "1 while producers are refused because the disk is nearly full", &[(&[], short)])
}

fn compaction(engine: &headwater_engine::StatsSnapshot, page: &mut Page<'_>) -> Result<(), fmt::Error> {
    page.counter("compactions", "Passes of compaction that were finished", engine.compactions)?;
    let help = "Passes of compaction that failed and are tried again later";
    page.counter("compactions_failed", help, engine.compaction_failures)?;
    page.counter("compaction_read_bytes", "Bytes that compaction read", engine.compaction_read_bytes)?;
    page.counter("compaction_written_bytes", "Bytes that compaction wrote", engine.compaction_written_bytes)?;
    page.counter("compaction_dropped_records", "Records that compaction took out", engine.compaction_dropped_records)?;
    let help = "Memory for the keys of the pass of compaction under way, or the last one";
    page.gauge("compaction_map_bytes", help, &[(&[], engine.compaction_map_bytes)])?;
    let mut family =
        page.family("compaction_last_seconds", "Time of the last pass of compaction", MetricType::Gauge)?;
    family.with(&[], |metric| metric.encode_gauge(&(engine.compaction_last_us as f64 / 1e6)))?;
    let help = "The largest part of a compacted partition's closed segments that is not compacted yet";
    let mut family = page.family("compaction_dirty_ratio_max", help, MetricType::Gauge)?;
    family.with(&[], |metric| metric.encode_gauge(&(engine.dirtiest_permille as f64 / 1e3)))
}

/// Writes families one after the other.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn family<'s>(&'s mut self, name: &'s str, help: &str, kind: MetricType) -> Result<Family<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind).map(Family)
    }

    fn gauge(&mut self, name: &str, help: &str, values: &[(Labels<'_>, u64)]) -> Result<(), fmt::Error> {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        values.iter().try_for_each(|(labels, value)| family.gauge(labels, *value))
    }

    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> Result<(), fmt::Error> {
        self.family(name, help, MetricType::Counter)?.counter(&[], value)
    }
}

/// One name and its values.
struct Family<'a>(MetricEncoder<'a>);

impl Family<'_> {
    fn counter(&mut self, labels: Labels<'_>, value: impl EncodeCounterValue) -> Result<(), fmt::Error> {
        self.with(labels, |metric| metric.encode_counter::<NoLabelSet, _, f64>(&value, None))
    }

    fn gauge(&mut self, labels: Labels<'_>, value: impl EncodeGaugeValue) -> Result<(), fmt::Error> {
        self.with(labels, |metric| metric.encode_gauge(&value))
    }

    fn histogram(&mut self, labels: Labels<'_>, sum: f64, buckets: &[(f64, u64)]) -> Result<(), fmt::Error> {
        let count = buckets.iter().map(|(_, count)| count).sum();
        self.with(labels, |metric| metric.encode_histogram::<NoLabelSet>(sum, count, buckets, None))
    }

    /// No labels, no braces.
    fn with(
        &mut self,
        labels: Labels<'_>,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> Result<(), fmt::Error>,
    ) -> Result<(), fmt::Error> {
        if labels.is_empty() { write(&mut self.0) } else { write(&mut self.0.encode_family(&labels)?) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_page_has_what_was_counted() {
        let metrics = Arc::new(Metrics::new("kafka", [("Produce", 0, 13), ("Fetch", 4, 18)]));
        metrics.answered(0, 9, Duration::from_millis(3));
        metrics.failed(0, 10);
        metrics.traffic().received(123);
        metrics.show_more(Box::new(|| {
            let values = vec![(vec![("group", "g".to_owned())], 7)];
            vec![HeadFamily { name: "group_lag", help: "How far behind", is_counter: false, values }]
        }));
        let page = page(&Sources { listeners: vec![metrics], descriptors_max: 77, started: 1.5 }, None).unwrap();
        let expected = [
            "headwater_requests_total{protocol=\"kafka\",api=\"Produce\",version=\"9\"} 1\n",
            "headwater_request_seconds_count{protocol=\"kafka\",api=\"Produce\"} 1\n",
            "headwater_request_seconds_bucket{le=\"0.004096\",protocol=\"kafka\",api=\"Produce\"} 1\n",
            "headwater_request_seconds_bucket{le=\"+Inf\",protocol=\"kafka\",api=\"Produce\"} 1\n",
            "headwater_request_errors_total{protocol=\"kafka\",api=\"Produce\",error=\"MessageTooLarge\"} 1\n",
            "headwater_received_bytes_total{protocol=\"kafka\"} 123\n",
            "headwater_open_descriptors_max 77\n",
            "headwater_start_time_seconds 1.5\n",
            "headwater_group_lag{group=\"g\"} 7\n",
        ];
        for line in expected {
            assert!(page.contains(line), "{line} is missing in\n{page}");
        }
        assert!(!page.contains("Fetch"), "an API that nobody used takes no room");
        assert!(page.ends_with("# EOF\n"));
    }
}
