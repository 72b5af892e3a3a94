//! Streams of deletion requests.

use s3t_core::{PerShard, Prior};

use crate::Trace;

/// A stream of deletion requests.
#[derive(Debug, Clone, PartialEq)]
pub enum Stream {
    /// Every request hits a slice of all shards, each as likely as any other.
    Uniform,
    /// Every request hits a shard, each as likely as any other, and in it a slice with these probabilities. What is missing
    /// to 1 is the probability that it hits no slice.
    Prior(Vec<f64>),
    /// Every request hits each slice of a shard with its own probability. What is missing to 1 is the probability that it hits
    /// no slice.
    Rates(PerShard<Vec<f64>>),
    /// Somebody who knows the sequences hits their first slices, shard after shard.
    Adversarial,
    /// Requests come in bursts that stay in one slice, for example because what came in together leaves together. The
    /// number of requests of a burst is geometric with this mean.
    Bursty {
        /// The mean number of requests of a burst, at least 1.
        mean_burst: f64,
    },
    /// Every request is a subject with a geometric number of records. Together, they lie in one slice, as partitions by
    /// subject have it; scattered, each lies anywhere, as a partition by record would have it.
    Subjects {
        /// The mean number of records of a subject, at least 1.
        mean_records: f64,
        /// `true` if records of a subject lie anywhere.
        scattered: bool,
    },
    /// Requests that were recorded.
    Trace(Trace),
}

impl Stream {
    /// Requests that follow a prior.
    pub fn of(prior: &Prior) -> Self {
        match prior {
            Prior::Uniform => Self::Uniform,
            Prior::PerSlice(values) => Self::Prior(values.clone()),
        }
    }
}
