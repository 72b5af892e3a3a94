//! Figures of texts that are being continued.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use s3t_engine::{FinishReason, Finished, GeneratorFigures};

use crate::metrics::{Metrics, SECONDS};

/// The figures of texts.
pub(super) struct Figures {
    texts: IntGaugeVec,
    cache: IntGaugeVec,
    tokens: IntCounterVec,
    ended: IntCounterVec,
    first_token: Histogram,
    refused: IntCounter,
    most: IntGauge,
}

impl Figures {
    /// # Panics
    ///
    /// Never: the names are well formed and distinct.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let options = Opts::new;
        let first = HistogramOpts::new("s3t_first_token_seconds", "Seconds from a prompt to its first token.");
        Self {
            texts: metrics.add(IntGaugeVec::new(
                options("s3t_texts", "Texts that are being continued, and that wait."),
                &["state"],
            )),
            cache: metrics.add(IntGaugeVec::new(
                options(
                    "s3t_text_cache_bytes",
                    "Bytes of keys and values that are reserved by texts, and that are held.",
                ),
                &["state"],
            )),
            most: metrics.add(IntGauge::new("s3t_text_cache_max_bytes", "Bytes of keys and values that may be held.")),
            tokens: metrics
                .add(IntCounterVec::new(options("s3t_tokens_total", "Tokens of prompts, and behind them."), &["kind"])),
            ended: metrics
                .add(IntCounterVec::new(options("s3t_texts_total", "Texts that have ended, by reason."), &["reason"])),
            first_token: metrics.add(Histogram::with_opts(first.buckets(SECONDS.to_vec()))),
            refused: metrics.add(IntCounter::new("s3t_texts_refused_total", "Texts refused because too many wait.")),
        }
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn prompt(&self, tokens: usize) {
        self.tokens.with_label_values(&["prompt"]).inc_by(tokens as u64);
    }

    pub(super) fn first_token(&self, time: Duration) {
        self.first_token.observe(time.as_secs_f64());
    }

    pub(super) fn end(&self, finished: &Finished) {
        self.tokens.with_label_values(&["made"]).inc_by(finished.new_tokens as u64);
        let reason = match finished.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Deletion => "deletion",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Failed(_) => "failed",
        };
        self.ended.with_label_values(&[reason]).inc();
    }

    pub(super) fn set(&self, figures: &GeneratorFigures) {
        self.texts.with_label_values(&["running"]).set(figures.running as i64);
        self.texts.with_label_values(&["waiting"]).set(figures.waiting as i64);
        self.cache.with_label_values(&["reserved"]).set(figures.reserved_bytes as i64);
        self.cache.with_label_values(&["held"]).set(figures.held_bytes as i64);
        self.most.set(figures.max_bytes as i64);
    }
}
