//! Figures for Prometheus.

use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use s3t_ledger::Epoch;

use crate::refusal::{Kind, Refusal};

/// The bounds of times in seconds: small models answer within a millisecond.
pub(crate) const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 4.0, 16.0];

/// The figures of a server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGauge,
    /// Records that wait for an answer.
    pub(crate) queued: IntGauge,
    /// Requests for answers that were refused because too many wait.
    pub(crate) refused: IntCounter,
    /// Records answered together.
    pub(crate) batch: Histogram,
    answers: IntCounter,
    /// Answers that are being computed, by whether a deletion was accepted since they began.
    answering: IntGaugeVec,
    /// Deletions by phase.
    pub(crate) deletions: IntGaugeVec,
    /// Seconds of each phase of a deletion.
    pub(crate) phases: HistogramVec,
    /// Callbacks that wait to be delivered.
    pub(crate) callbacks: IntGauge,
    /// Followers that may have a lease.
    pub(crate) followers: IntGauge,
    epoch: IntGauge,
    depth: IntGaugeVec,
    stages: IntGaugeVec,
    worst: IntGauge,
    start: Gauge,
}

/// The state of the store, for the figures.
pub(crate) struct StoreFigures {
    pub(crate) epoch: Epoch,
    /// Each shard's depth and the requests it survives at worst.
    pub(crate) shards: Vec<(usize, usize)>,
    pub(crate) live_stages: usize,
    pub(crate) planned_stages: usize,
}

/// Lowers a gauge when it is dropped.
pub(crate) struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// # Panics
    ///
    /// Never: the names are well formed and distinct.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| registered(&registry, IntGauge::new(name, help));
        let gauges = |name: &str, help: &str, label: &str| {
            registered(&registry, IntGaugeVec::new(Opts::new(name, help), &[label]))
        };
        let counter = |name: &str, help: &str| registered(&registry, IntCounter::new(name, help));
        let times = |name: &str, help: &str, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            registered(&registry, HistogramVec::new(options, labels))
        };
        let sizes = HistogramOpts::new("s3t_batch_records", "Records that were answered together.");
        let sizes = sizes.buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]);
        let requests = Opts::new("s3t_http_requests_total", "Requests by route and status.");
        let metrics = Self {
            requests: registered(&registry, IntCounterVec::new(requests, &["route", "status"])),
            seconds: times("s3t_http_request_seconds", "Seconds from the head of a request to its answer.", &["route"]),
            in_flight: gauge("s3t_http_requests_in_flight", "Requests that are being handled."),
            queued: gauge("s3t_queued_records", "Records that wait for an answer."),
            refused: counter("s3t_overloaded_total", "Requests for answers refused because too many wait."),
            batch: registered(&registry, Histogram::with_opts(sizes)),
            answers: counter("s3t_answers_total", "Records that were answered."),
            answering: gauges(
                "s3t_answers_in_flight",
                "Answers under way, by whether they began before the newest deletion.",
                "epoch",
            ),
            deletions: gauges("s3t_deletions", "Deletion requests by phase.", "phase"),
            phases: times(
                "s3t_deletion_seconds",
                "Seconds until a deletion is in effect, and until it is erased.",
                &["phase"],
            ),
            callbacks: gauge("s3t_callbacks_waiting", "Callbacks that wait to be delivered."),
            followers: gauge("s3t_followers", "Followers that may answer."),
            epoch: gauge("s3t_epoch", "Deletions that every new answer knows of."),
            depth: gauges("s3t_shard_depth", "Stages that each shard answers with.", "shard"),
            stages: gauges("s3t_stages", "Stages that are there, and that are planned.", "state"),
            worst: gauge("s3t_deletions_left_at_worst", "Deletions that the weakest shard survives at worst."),
            start: registered(&registry, Gauge::new("process_start_time_seconds", "Start of the process since 1970.")),
            registry,
        };
        metrics.start.set(jiff::Timestamp::now().as_millisecond() as f64 / 1000.0);
        metrics
    }

    /// A further figure.
    ///
    /// # Panics
    ///
    /// If the name is malformed or taken.
    pub(crate) fn further(&self, name: &str, help: &str) -> Gauge {
        registered(&self.registry, Gauge::new(name, help))
    }

    /// A further collector.
    ///
    /// # Panics
    ///
    /// If its name is malformed or taken.
    pub(crate) fn add<C: prometheus::core::Collector + Clone + 'static>(&self, collector: prometheus::Result<C>) -> C {
        registered(&self.registry, collector)
    }

    /// Counts a request until the result is dropped.
    pub(crate) fn request_started(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    pub(crate) fn request(&self, route: &str, status: u16, seconds: f64) {
        self.requests.with_label_values(&[route, status.to_string().as_str()]).inc();
        self.seconds.with_label_values(&[route]).observe(seconds);
    }

    pub(crate) fn answered(&self, records: usize) {
        self.answers.inc_by(records as u64);
    }

    /// Sets the answers under way that began at the newest epoch, and before.
    pub(crate) fn answering(&self, newest: usize, older: usize) {
        self.answering.with_label_values(&["newest"]).set(newest as i64);
        self.answering.with_label_values(&["older"]).set(older as i64);
    }

    pub(crate) fn store(&self, figures: &StoreFigures) {
        self.epoch.set(figures.epoch.0 as i64);
        for (shard, (depth, _)) in figures.shards.iter().enumerate() {
            self.depth.with_label_values(&[shard.to_string().as_str()]).set(*depth as i64);
        }
        self.worst.set(figures.shards.iter().map(|(_, worst)| *worst).min().unwrap_or(0) as i64);
        self.stages.with_label_values(&["live"]).set(figures.live_stages as i64);
        self.stages.with_label_values(&["planned"]).set(figures.planned_stages as i64);
    }

    /// The text that Prometheus reads.
    pub(crate) fn text(&self) -> Result<Vec<u8>, Refusal> {
        let mut text = Vec::new();
        let failed = |error: prometheus::Error| Refusal::new(Kind::Failed, error.to_string());
        TextEncoder::new().encode(&self.registry.gather(), &mut text).map_err(failed)?;
        Ok(text)
    }

    /// The 50th and 99th percentile of the seconds to an answer, as the buckets give them, the answers and the refusals.
    pub(crate) fn summary(&self) -> Summary {
        let (mut counts, mut total) = (vec![0; SECONDS.len()], 0);
        for route in ["/predict", "/v2/models/{model}/infer"] {
            let of_route = self.seconds.with_label_values(&[route]);
            let metric = prometheus::core::Metric::metric(&of_route);
            let histogram = metric.get_histogram();
            total += histogram.get_sample_count();
            for (count, bucket) in counts.iter_mut().zip(histogram.get_bucket()) {
                *count += bucket.cumulative_count();
            }
        }
        let quantile = |share: f64| {
            let rank = (share * total as f64).ceil() as u64;
            let at = counts.iter().position(|count| *count >= rank.max(1));
            if total == 0 { None } else { at.map(|at| SECONDS[at]).or(Some(f64::INFINITY)) }
        };
        Summary { answers: self.answers.get(), refused: self.refused.get(), p50: quantile(0.5), p99: quantile(0.99) }
    }
}

/// The figures of answers since the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) answers: u64,
    pub(crate) refused: u64,
    /// An upper bound of the median of seconds.
    pub(crate) p50: Option<f64>,
    /// An upper bound of the 99th percentile of seconds.
    pub(crate) p99: Option<f64>,
}

/// A collector that is registered.
fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: prometheus::Result<C>,
) -> C {
    let collector = collector.expect("a well-formed name");
    registry.register(Box::new(collector.clone())).expect("a name of its own");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_figure_and_quantiles_come_from_the_buckets() {
        let metrics = Metrics::new();
        for seconds in [0.0004, 0.0015, 0.0015, 0.3] {
            metrics.request("/predict", 200, seconds);
        }
        metrics.store(&StoreFigures {
            epoch: Epoch(3),
            shards: vec![(2, 1), (0, 0)],
            live_stages: 5,
            planned_stages: 8,
        });
        metrics.answering(2, 1);
        let text = String::from_utf8(metrics.text().unwrap()).unwrap();
        for line in [
            "s3t_http_requests_total{route=\"/predict\",status=\"200\"} 4",
            "s3t_http_request_seconds_bucket{route=\"/predict\",le=\"0.0005\"} 1",
            "s3t_epoch 3",
            "s3t_shard_depth{shard=\"0\"} 2",
            "s3t_deletions_left_at_worst 0",
            "s3t_answers_in_flight{epoch=\"older\"} 1",
            "# TYPE s3t_overloaded_total counter",
        ] {
            assert!(text.contains(line), "no `{line}` in {text}");
        }
        let summary = metrics.summary();
        assert_eq!((summary.p50, summary.p99), (Some(0.002), Some(0.5)));
    }
}
